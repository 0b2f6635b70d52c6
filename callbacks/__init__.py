"""Keras callbacks, installed as `recipes.callbacks`: pass them to your own `model.fit`."""
