"""Mirroring."""

import dataclasses

import tensorflow as tf

from recipes.augment.engine.geometry import Geometric
from recipes.augment.engine.operation import operation
from recipes.augment.engine.warp import about_center


@operation
class Flip(Geometric):
    """Mirror left-right, up-down, or both, each with its own draw.

    Source: Krizhevsky et al. 2012, section 4.1 (left-right). Not for letters, digits or anything whose
    mirror image has another meaning. Exact: pixels are moved, never mixed.

    Args:
        horizontal: Mirror left-right.
        vertical: Mirror up-down.
        probability: Chance of each mirroring, in [0, 1].

    Raises:
        ValueError: when both directions are off, or for a probability outside [0, 1].
    """

    horizontal: bool = True
    vertical: bool = False
    _: dataclasses.KW_ONLY
    probability: float = 0.5

    whole_pixels = True
    gated = False
    uniforms = 2

    def __post_init__(self):
        super().__post_init__()
        if not (self.horizontal or self.vertical):
            raise ValueError(
                "augment.Flip expects at least one direction. Received horizontal=False, vertical=False. "
                "Leave Flip out of the pipeline, or write Flip(vertical=True)."
            )

    def warp(self, uniform, frame):
        mirror = tf.where(uniform < self.probability, -1.0, 1.0)
        return about_center(
            frame, xx=mirror[0] if self.horizontal else 1.0, yy=mirror[1] if self.vertical else 1.0
        )
