"""Why training is slow: where the time of a step goes, what causes it, what remedies gain."""
