"""Traces, layers, inputs and targets, shared by all functions of `recipes.explain`."""
