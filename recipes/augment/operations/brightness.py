"""Brightness."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from recipes.augment.engine.magnitudes import Strength
from recipes.augment.engine.operation import Drawn, Frame, operation
from recipes.augment.operations.color_factor import ColorFactor


@operation
class Brightness(ColorFactor):
    """Multiply all channels by one factor; black stays black.

    Source: Howard 2013, "Some improvements on deep convolutional neural network based image classification",
    https://arxiv.org/abs/1312.5402.

    Args:
        factor: A number b for 1 - b to 1 + b (b at most 1), a pair of factors >= 0, or `PlusMinus` around 1.
        probability: Chance that an image is changed.

    Raises:
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
    """

    factor: Strength = 0.4
    _: dataclasses.KW_ONLY
    probability: float = 1.0

    def color_map(self, drawn: Drawn, mean: tf.Tensor | None, frame: Frame) -> tuple[Any, Any]:
        return brightness_map(self.draw_factor(drawn), frame.low[:1])


def brightness_map(factor: tf.Tensor, black: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
    """`(scale, offset)` that multiply the distance from black by `factor`, `(batch,)`."""
    factor = factor[:, None]
    return factor, (1 - factor) * black
