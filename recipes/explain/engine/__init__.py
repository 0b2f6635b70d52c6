"""Traces, layers, inputs and targets, shared by everything in `recipes.explain`."""
