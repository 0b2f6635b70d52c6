"""Mirroring."""

import dataclasses

import tensorflow as tf

from recipes.augment.engine.geometry import Geometric
from recipes.augment.engine.operation import Drawn, Frame, operation
from recipes.augment.engine.warp import Warp, about_center


@operation
class Flip(Geometric):
    """Mirror left-right, up-down, or both, each with its own draw.

    Source: Krizhevsky et al. 2012, section 4.1 (left-right). Do not use it for letters, digits or other images whose
    mirror image has another meaning. Pixels are moved, never interpolated.

    Args:
        horizontal: Whether to mirror left-right.
        vertical: Whether to mirror up-down.
        probability: Chance of each mirroring, in [0, 1].

    Raises:
        ValueError: when both directions are off, or when `probability` is outside [0, 1].
    """

    horizontal: bool = True
    vertical: bool = False
    _: dataclasses.KW_ONLY
    probability: float = 0.5

    whole_pixels = True
    mirrors = True
    gated = False
    draws = ("horizontal", "vertical")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.horizontal or self.vertical):
            raise ValueError(
                "augment.Flip expects at least one direction. Received horizontal=False, vertical=False. "
                "Leave Flip out of the pipeline, or write Flip(vertical=True)."
            )

    def warp(self, drawn: Drawn, frame: Frame) -> Warp:
        down, across = self.mirrored(drawn)
        sign = lambda chosen: 1.0 if chosen is None else tf.where(chosen, -1.0, 1.0)  # noqa: E731
        return about_center(frame, yy=sign(down), xx=sign(across))

    def mirrored(self, drawn: Drawn) -> tuple[tf.Tensor | None, tf.Tensor | None]:
        """Which images are mirrored up-down, and which left-right: each bool `(batch,)`, or None for no image."""
        down, across = (drawn[name] < self.probability for name in ("vertical", "horizontal"))
        return down if self.vertical else None, across if self.horizontal else None
