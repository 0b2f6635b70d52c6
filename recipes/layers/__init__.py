"""Layers that Keras does not have, one a file; they run on any Keras backend."""

from recipes.layers.identity_shortcut import IdentityShortcut as IdentityShortcut
