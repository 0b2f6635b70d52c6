"""Stretching: a change of the aspect ratio."""

import dataclasses
import math

import tensorflow as tf

from recipes.augment.engine.geometry import Geometric
from recipes.augment.engine.magnitudes import Strength, draw_log
from recipes.augment.engine.operation import Drawn, Fill, Frame, operation
from recipes.augment.engine.warp import Warp, about_center
from recipes.augment.operations.zoom import read_factor


@operation
class Stretch(Geometric):
    """Change the ratio of width to height and keep the area; a ratio and its inverse are equally likely.

    The factor is drawn as for `Zoom`. If a side may shrink to less than 1/1.5, shrinking is antialiased as in `Zoom`.

    Args:
        factor: A number s for 1 / (1 + s) to 1 + s, a pair of ratios > 0, or `PlusMinus` around 1; above 1 widens.
        fill: Color outside the image, as for `Rotate`.
        probability: Chance that an image is stretched.

    Raises:
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
    """

    factor: Strength = 0.2
    _: dataclasses.KW_ONLY
    fill: Fill = "black"
    probability: float = 1.0

    draws = ("factor",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._limits = read_factor("Stretch", self.factor)

    def shrinks(self, frame: Frame) -> float:
        low, high = self._limits
        return math.sqrt(max(1 / low, high, 1.0))

    def warp(self, drawn: Drawn, frame: Frame) -> Warp:
        return stretching(frame, draw_log(drawn["factor"], self._limits, self.factor))


def stretching(frame: Frame, ratio: tf.Tensor) -> Warp:
    """The `Warp` that multiplies width over height by `ratio`, `(batch,)`, and keeps the area."""
    root = tf.sqrt(ratio)
    return about_center(frame, yy=root, xx=1 / root)
