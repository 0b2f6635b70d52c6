"""The version, on its own so that reading it imports nothing."""

__version__ = "2.0.0"
