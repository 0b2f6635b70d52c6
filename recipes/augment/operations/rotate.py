"""Rotation."""

import dataclasses
import math

import tensorflow as tf

from recipes.augment.engine.geometry import Geometric
from recipes.augment.engine.magnitudes import Strength, draw, read_range
from recipes.augment.engine.operation import Drawn, Fill, Frame, operation
from recipes.augment.engine.warp import Warp, about_center


@operation
class Rotate(Geometric):
    """Rotate the image about its center.

    Source: Simard et al. 2003, "Best practices for convolutional neural networks applied to visual document analysis",
    section 2; for photographs Dieleman et al. 2015, on data augmentation, https://arxiv.org/abs/1503.07077.

    Args:
        degrees: Angle in degrees, within -360 and 360: a number d for -d to d, a pair, or `PlusMinus`. Positive is
            counterclockwise.
        fill: Color outside the image: "black" (low end of the value range), "mean", "edge" (the nearest pixel),
            "reflect" (mirrored), a number, or one number per channel.
        probability: Chance that an image is rotated.

    Raises:
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
    """

    degrees: Strength = 15
    _: dataclasses.KW_ONLY
    fill: Fill = "black"
    probability: float = 1.0

    turns = True
    draws = ("angle",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._limits = read_range("Rotate", "degrees", self.degrees, lowest=-360, highest=360)

    def warp(self, drawn: Drawn, frame: Frame) -> Warp:
        angle = draw(drawn["angle"], self._limits, self.degrees) * (math.pi / 180)
        return rotation(frame, angle)


def rotation(frame: Frame, angle: tf.Tensor) -> Warp:
    """The `Warp` of a counterclockwise rotation by `angle` (radians, `(batch,)`).

    Rows count downwards, so the matrix is the one of textbooks with the signs of the sines exchanged.
    """
    sine, cosine = tf.sin(angle), tf.cos(angle)
    return about_center(frame, yy=cosine, yx=sine, xy=-sine, xx=cosine)
