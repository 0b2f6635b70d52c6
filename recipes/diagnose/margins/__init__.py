"""Margins of single examples over a training, and what they say about the labels."""
