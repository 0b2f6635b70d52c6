"""Adversarial attacks on a network, and defenses against them."""
