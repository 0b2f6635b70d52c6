"""Images made by a network."""
