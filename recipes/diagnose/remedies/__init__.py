"""Remedies, tried out on a copy of the model."""
