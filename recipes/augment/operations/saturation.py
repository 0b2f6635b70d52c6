"""Saturation."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from recipes.augment.engine.magnitudes import Strength
from recipes.augment.engine.operation import Drawn, Frame, operation
from recipes.augment.operations.color_factor import ColorFactor
from recipes.common.color import LUMA


@operation
class Saturation(ColorFactor):
    """Move each pixel away from, or towards, its own gray. Three channels only.

    Source: Howard 2013, where it is called color, https://arxiv.org/abs/1312.5402. Gray is the luma of BT.601.

    Args:
        factor: A number s for 1 - s to 1 + s (s at most 1), a pair of factors >= 0, or `PlusMinus` around 1;
            0 is gray.
        probability: Chance that an image is changed.

    Raises:
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
    """

    factor: Strength = 0.4
    _: dataclasses.KW_ONLY
    probability: float = 1.0

    mixes_channels = True

    def color_map(self, drawn: Drawn, mean: tf.Tensor | None, frame: Frame) -> tuple[Any, Any]:
        return saturation_matrix(self.draw_factor(drawn)), np.zeros((1, 3), "float32")


def saturation_matrix(factor: tf.Tensor) -> tf.Tensor:
    """The matrix `(batch, 3, 3)` of `factor * color + (1 - factor) * luma`, for `factor` `(batch,)`."""
    factor = factor[:, None, None]
    return factor * np.eye(3, dtype="float32") + (1 - factor) * np.tile(LUMA, (3, 1))
