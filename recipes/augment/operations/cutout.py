"""Cutout: paint over a square."""

import dataclasses

import tensorflow as tf

from recipes.augment.engine.color_maps import Erasing
from recipes.augment.engine.operation import Drawn, Fill, Frame, check_fill, operation


@operation
class Cutout(Erasing):
    """Paint over a square of fixed size whose center may be any pixel, so that a part of it may lie outside the image.

    Source: DeVries and Taylor 2017, section 3.2, https://arxiv.org/abs/1708.04552 (16 pixels on CIFAR-10, 8 on
    CIFAR-100). The paper writes zeros after normalization, which is the mean color of the data set: fill="mean".

    Args:
        size: Side of the square in pixels, >= 1, at most the shorter side of the image.
        fill: "mean" (of the data set when the pipeline holds a `Normalize`, else of the image), "black", a
            number or one number per channel in the pipeline's value range.
        probability: Chance that an image is painted.

    Raises:
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
    """

    size: int = 16
    _: dataclasses.KW_ONLY
    fill: Fill = "mean"
    probability: float = 1.0

    draws = ("top", "left")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.size, int) or self.size < 1:
            raise ValueError(
                f"augment.Cutout expects size in whole pixels >= 1. Received {self.size!r}. "
                "The paper takes half the side of the image: Cutout(16) for 32x32."
            )

    def check(self, frame: Frame) -> None:
        check_fill(self, frame, ("black", "mean"))
        if self.size > min(frame.height, frame.width):
            raise ValueError(
                f"augment.Cutout expects a square no larger than the image. Received size={self.size} for "
                f"images of {frame.height}x{frame.width}. Write Cutout({min(frame.height, frame.width) // 2})."
            )

    def boxes(self, drawn: Drawn, frame: Frame) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        top = square_start(drawn["top"], frame.height, self.size)
        left = square_start(drawn["left"], frame.width, self.size)
        return top, top + self.size, left, left + self.size


def square_start(uniform: tf.Tensor, side: int, size: int) -> tf.Tensor:
    """The first row of a square whose center is any of `side` pixels, int32 `(batch,)`; it may be negative."""
    return tf.cast(uniform * side, tf.int32) - size // 2
