"""Cutout: paint over a square."""

import dataclasses

import tensorflow as tf

from recipes.augment.engine.color import Erasing
from recipes.augment.engine.operation import check_fill, operation


@operation
class Cutout(Erasing):
    """Paint over a square of fixed size whose center is any pixel, so that it may hang over the border.

    Source: DeVries and Taylor 2017, section 3.2, https://arxiv.org/abs/1708.04552 (16 pixels on CIFAR-10, 8 on
    CIFAR-100). The paper writes zeros after normalization, which is the mean color of the data set: fill="mean".

    Args:
        size: Side of the square in pixels, >= 1, at most the shorter side of the image.
        fill: "mean" (of the data set when the pipeline holds a `Normalize`, else of the image), "black", a
            number or one number a channel in the pipeline's value range.
        probability: Chance that an image is painted.
    """

    size: int = 16
    _: dataclasses.KW_ONLY
    fill: object = "mean"
    probability: float = 1.0

    uniforms = 2

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.size, int) or self.size < 1:
            raise ValueError(
                f"augment.Cutout expects size in whole pixels >= 1. Received {self.size!r}. "
                "Half the side of the image is the paper's choice: Cutout(16) for 32x32."
            )

    def check(self, frame):
        check_fill(self, frame, ("black", "mean"))
        if self.size > min(frame.height, frame.width):
            raise ValueError(
                f"augment.Cutout expects a square no larger than the image. Received size={self.size} for "
                f"images of {frame.height}x{frame.width}. Write Cutout({min(frame.height, frame.width) // 2})."
            )

    def boxes(self, uniform, frame):
        top = tf.cast(uniform[0] * frame.height, tf.int32) - self.size // 2
        left = tf.cast(uniform[1] * frame.width, tf.int32) - self.size // 2
        return top, top + self.size, left, left + self.size
