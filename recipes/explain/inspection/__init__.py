"""Filters, features, receptive fields and the loss landscape."""
