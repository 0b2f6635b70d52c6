"""Contrast."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from recipes.augment.engine.magnitudes import Strength
from recipes.augment.engine.operation import Drawn, Frame, operation
from recipes.augment.operations.color_factor import ColorFactor
from recipes.common.color import LUMA


@operation
class Contrast(ColorFactor):
    """Move all pixels away from, or towards, the mean gray of the image.

    Source: Howard 2013, https://arxiv.org/abs/1312.5402. The gray is the luma (BT.601) of the mean color. For images
    without exactly three channels, it is the mean of all channels.

    Args:
        factor: A number c for 1 - c to 1 + c (c at most 1), a pair of factors >= 0, or `PlusMinus` around 1.
        probability: Chance that an image is changed.

    Raises:
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
    """

    factor: Strength = 0.4
    _: dataclasses.KW_ONLY
    probability: float = 1.0

    needs_mean = True

    def color_map(self, drawn: Drawn, mean: tf.Tensor | None, frame: Frame) -> tuple[Any, Any]:
        return contrast_map(self.draw_factor(drawn), mean)


def contrast_map(factor: tf.Tensor, mean: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """`(scale, offset)` that multiply the distance from the mean gray by `factor`.

    Args:
        factor: `(batch,)`, >= 0.
        mean: Mean color of each image, `(batch, channels)`.
    """
    channels = mean.shape[1]
    share = LUMA if channels == 3 else np.full(channels, 1 / channels, "float32")
    factor = factor[:, None]
    return factor, (1 - factor) * tf.reduce_sum(mean * share, 1, keepdims=True)
