"""Coarse-to-fine search for settings, on Optuna."""

from recipes.tune.search import search as search

__all__ = ["search"]
