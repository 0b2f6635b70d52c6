"""Random erasing: paint over a rectangle."""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from recipes.augment.engine.color_maps import Erasing
from recipes.augment.engine.magnitudes import draw, draw_log, read_pair
from recipes.augment.engine.operation import Drawn, Fill, Frame, check_fill, operation


@operation
class RandomErasing(Erasing):
    """Paint over a rectangle of random area, shape and position, always inside the image.

    Source: Zhong et al. 2017, section 3.2 and algorithm 1, https://arxiv.org/abs/1708.04896. Where the paper draws
    again because a side is longer than the image, here that side is cut to the image. Ratios are uniform in the
    logarithm.

    Args:
        scale: `(low, high)`, area as a fraction of the image's area, in [0, 1].
        ratio: `(low, high)`, ratio of height to width, > 0.
        fill: "noise" (every value is drawn uniformly from the value range, as in the paper), "mean", "black", a number
            or one number per channel.
        probability: Chance that an image is painted. Paper: 0.5.

    Raises:
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
    """

    scale: tuple[float, float] = (0.02, 0.4)
    ratio: tuple[float, float] = (0.3, 1 / 0.3)
    _: dataclasses.KW_ONLY
    fill: Fill = "noise"
    probability: float = 0.5

    draws = ("area", "ratio", "top", "left")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._scale = read_pair("RandomErasing", "scale", self.scale)
        self._ratio = read_pair("RandomErasing", "ratio", self.ratio)
        if not (self._scale[0] >= 0 and self._scale[1] <= 1 and self._ratio[0] > 0):
            raise ValueError(
                f"augment.RandomErasing expects scale in [0, 1] and ratio > 0. Received scale={self.scale}, "
                f"ratio={self.ratio}. The paper uses scale=(0.02, 0.4) and ratio=(0.3, 3.33)."
            )

    @property
    def pixel_noise(self) -> bool:
        return isinstance(self.fill, str) and self.fill == "noise"

    def check(self, frame: Frame) -> None:
        check_fill(self, frame, ("noise", "mean", "black"))

    def boxes(self, drawn: Drawn, frame: Frame) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        area, ratio = draw(drawn["area"], self._scale), draw_log(drawn["ratio"], self._ratio)
        height, width = rectangle_sides(area, ratio, frame)
        top = tf.cast(drawn["top"] * (frame.height - height + 1), tf.int32)
        left = tf.cast(drawn["left"] * (frame.width - width + 1), tf.int32)
        return top, top + tf.cast(height, tf.int32), left, left + tf.cast(width, tf.int32)

    def paint(self, frame: Frame, image_mean: Callable[[], tf.Tensor] | None, noise: tf.Tensor | None) -> Any:
        if noise is not None:
            return frame.low + noise * frame.span
        return super().paint(frame, image_mean, noise)


def rectangle_sides(area: tf.Tensor, ratio: tf.Tensor, frame: Frame) -> tuple[tf.Tensor, tf.Tensor]:
    """Height and width of a rectangle in whole pixels, at most those of the image: H = sqrt(S r), W = sqrt(S / r).

    Args:
        area: Fraction of the image's area, `(batch,)`.
        ratio: Height over width, `(batch,)`.
        frame: The `Frame` of the images.
    """
    pixels = area * (frame.height * frame.width)
    height = tf.minimum(tf.round(tf.sqrt(pixels * ratio)), float(frame.height))
    return height, tf.minimum(tf.round(tf.sqrt(pixels / ratio)), float(frame.width))
