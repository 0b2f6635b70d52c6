"""Sharpness."""

import dataclasses

import numpy as np
import tensorflow as tf

from recipes.augment.engine.magnitudes import Strength, draw, read_range
from recipes.augment.engine.operation import operation
from recipes.augment.engine.spatial_filters import Filter, FilterStep


@operation
class Sharpness(Filter):
    """Move each pixel away from, or towards, the mean of its neighborhood.

    Source: Cubuk et al. 2018, "AutoAugment", appendix A, table 6, https://arxiv.org/abs/1805.09501, with the filter of
    PIL's `ImageEnhance.Sharpness`: 3 x 3 pixels, the middle one five times; the outermost pixels stay. Up to the one
    level that PIL cuts off.

    Args:
        factor: A number s for 1 - s to 1 + s (s at most 1), a pair of factors >= 0, or `PlusMinus` about 1; 0 is
            smoothed, above 1 sharpened.
        probability: Chance that an image is changed.
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
        return sharpen(tf.cast(images, tf.float32), factor)


def sharpen(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """`factor` `(batch,)` of each pixel and the rest of its smoothed value, inside the border; float32 images."""
    height, width = images.shape[1:3]
    if min(height, width) < 3:
        return images
    rows = images[:, :-2] + images[:, 1:-1] + images[:, 2:]
    around = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    middle = images[:, 1:-1, 1:-1]
    smooth = (around + 4 * middle) * np.float32(1 / 13)
    moved = (1 - factor[:, None, None, None]) * (smooth - middle)
    return images + tf.pad(moved, [[0, 0], [1, 1], [1, 1], [0, 0]])
