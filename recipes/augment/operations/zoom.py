"""Zoom: enlarging and shrinking about the center."""

import dataclasses
from typing import Any

import tensorflow as tf

from recipes.augment.engine.geometry import Geometric
from recipes.augment.engine.magnitudes import Strength, draw_log, read_range
from recipes.augment.engine.operation import Drawn, Fill, Frame, operation
from recipes.augment.engine.warp import Warp, about_center


@operation
class Zoom(Geometric):
    """Enlarge or shrink the image about its center; a factor and its inverse are equally likely.

    Source: Dieleman et al. 2015, "Rotation-invariant convolutional neural networks for galaxy morphology prediction",
    section on data augmentation, https://arxiv.org/abs/1503.07077 (factors 1/1.3 to 1.3, uniform in the logarithm).
    If factors may fall below 1/1.5, shrinking is antialiased. Otherwise bilinear reading is as good, and the zoom is
    composed with rotations and shears into one resampling.

    Args:
        factor: A number z for 1 / (1 + z) to 1 + z, a pair of factors > 0, or `PlusMinus` around 1; above 1 enlarges.
        fill: Color outside the image, as for `Rotate`.
        probability: Chance that an image is zoomed.

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
        self._limits = read_factor("Zoom", self.factor)

    def shrinks(self, frame: Frame) -> float:
        return max(1 / self._limits[0], 1.0)

    def warp(self, drawn: Drawn, frame: Frame) -> Warp:
        return zooming(frame, draw_log(drawn["factor"], self._limits, self.factor))


def zooming(frame: Frame, factor: tf.Tensor) -> Warp:
    """The `Warp` that enlarges an image by `factor`, `(batch,)`, about its center."""
    step = 1 / factor
    return about_center(frame, yy=step, xx=step)


def read_factor(owner: str, factor: Any) -> tuple[float, float]:
    """Read the range `(low, high)` of a factor > 0; a number z stands for 1 / (1 + z) to 1 + z.

    Raises:
        ValueError: when the range is not valid or reaches 0; the message names the operation `owner`.
    """
    low, high = read_range(owner, "factor", factor, center=1.0)
    if isinstance(factor, int | float):
        low = 1 / (1 + factor)
    if low <= 0:
        raise ValueError(
            f"augment.{owner} expects factors > 0. Received factor={factor!r}, which reaches down to {low:g}. "
            f"Write {owner}(0.2) for 1/1.2 to 1.2, or a pair such as {owner}((0.8, 1.25))."
        )
    return low, high
