"""Rules over what was seen in training."""
