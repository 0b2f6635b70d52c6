"""Attacks on a network, and defenses."""
