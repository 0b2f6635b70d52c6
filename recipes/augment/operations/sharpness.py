"""Sharpness."""

import dataclasses

import numpy as np
import tensorflow as tf

from recipes.augment.engine.magnitudes import Strength, draw, read_range
from recipes.augment.engine.operation import operation
from recipes.augment.engine.spatial_filters import Filter, FilterStep

_LARGE = 300_000  # for images of more values than this, slices of rows are faster


@operation
class Sharpness(Filter):
    """Move each pixel away from, or towards, the mean of its neighborhood.

    Source: Cubuk et al. 2018, "AutoAugment", appendix A, table 6, https://arxiv.org/abs/1805.09501, with the filter of
    PIL's `ImageEnhance.Sharpness`: the mean over 3 x 3 pixels with the center weighted five times. The outermost pixels
    stay unchanged. The result differs from PIL's by at most one level, because PIL rounds down.

    Args:
        factor: A number s for 1 - s to 1 + s (s at most 1), a pair of factors >= 0, or `PlusMinus` around 1. 0 smooths,
            factors above 1 sharpen.
        probability: Chance that an image is changed.

    Raises:
        ValueError: when an argument is outside its range.
    """

    factor: Strength = 0.9
    _: dataclasses.KW_ONLY
    probability: float = 1.0

    draws = ("factor",)
    leaves_range = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._limits = read_range("Sharpness", "factor", self.factor, center=1.0, lowest=0.0)

    def steps(self, *, compiled: bool) -> list[FilterStep]:
        return [self._apply]

    def _apply(self, images, drawn, active, frame):
        factor = draw(drawn["factor"], self._limits, self.factor)
        if active is not None:
            factor = tf.where(active, factor, 1.0)
        return sharpen(images, factor)


def sharpen(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """`factor * pixel + (1 - factor) * smoothed pixel` inside the border, for `factor` `(batch,)`; float32 images."""
    height, width, channels = images.shape[1:]
    if min(height, width) < 3:
        return tf.cast(images, tf.float32)
    # Integers are added faster, and exactly.
    whole = tf.int16 if images.dtype == tf.uint8 else tf.int32
    dtype = whole if images.dtype.is_integer else images.dtype
    around = _in_rows if height * width * channels > _LARGE else _in_one_line
    return tf.reshape(around(images, factor, dtype), (-1, height, width, channels))


def _in_one_line(images, factor, dtype):
    """The neighbors as shifts of the whole batch in memory, which compiled loops compute in whole vectors.

    Only border pixels get values from another row or image, and border pixels stay unchanged.
    """
    height, width, channels = images.shape[1:]
    line = width * channels
    margin = tf.zeros((line + channels,), images.dtype)
    values = tf.cast(tf.concat([margin, tf.reshape(images, (-1,)), margin], 0), dtype)
    shifted = lambda step: values[line + channels + step : step - line - channels or None]  # noqa: E731
    around = sum(shifted(down + across) for down in (-line, 0, line) for across in (-channels, 0, channels))
    smooth, middle = (
        tf.reshape(tf.cast(one, tf.float32), (-1, height, line))
        for one in (around + 4 * shifted(0), shifted(0))
    )
    inside_rows, inside_columns = np.ones(height, "float32"), np.ones(line, "float32")
    inside_rows[[0, -1]] = inside_columns[:channels] = inside_columns[-channels:] = 0
    share = ((1 - factor[:, None]) * inside_rows)[:, :, None] * inside_columns
    return middle + share * (smooth * np.float32(1 / 13) - middle)


def _in_rows(images, factor, dtype):
    """Only the inside of the images, from slices of rows: a shift of a batch of large images does not fit the cache."""
    height, width, channels = images.shape[1:]
    line = width * channels
    rows = tf.reshape(images, (-1, height, line))

    def shifted(down, across):
        return tf.cast(
            rows[:, 1 + down : height - 1 + down, channels + across : line - channels + across], dtype
        )

    around = sum(shifted(down, across) for down in (-1, 0, 1) for across in (-channels, 0, channels))
    smooth, middle = (tf.cast(one, tf.float32) for one in (around + 4 * shifted(0, 0), shifted(0, 0)))
    inside = middle + (1 - factor[:, None, None]) * (smooth * np.float32(1 / 13) - middle)
    rows = tf.cast(rows, tf.float32)
    inner = tf.concat([rows[:, 1:-1, :channels], inside, rows[:, 1:-1, -channels:]], 2)
    return tf.concat([rows[:, :1], inner, rows[:, -1:]], 1)
