"""Files that a training run goes on from."""
