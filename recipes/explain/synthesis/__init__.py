"""Synthesis: images that are optimized with a network."""
