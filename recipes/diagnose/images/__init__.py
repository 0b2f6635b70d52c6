"""Checks of the images of a data set: faults of single images, near-duplicates, and borders that tell the class."""
