"""Rules that judge a training run by its curves, its record, its model and its data."""
