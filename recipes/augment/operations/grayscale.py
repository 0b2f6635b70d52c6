"""Conversion to gray."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from recipes.augment.engine.color_maps import ColorOperation
from recipes.augment.engine.operation import Drawn, Frame, operation
from recipes.common.color import LUMA


@operation
class Grayscale(ColorOperation):
    """Replace all three channels of each pixel by its luma (BT.601). Three channels only.

    Source: Chen et al. 2020, "A simple framework for contrastive learning", appendix A (a fifth of the images),
    https://arxiv.org/abs/2002.05709.

    Args:
        probability: Chance that an image is made gray.

    Raises:
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
    """

    _: dataclasses.KW_ONLY
    probability: float = 0.2

    mixes_channels = True
    leaves_range = False

    def color_map(self, drawn: Drawn, mean: tf.Tensor | None, frame: Frame) -> tuple[Any, Any]:
        return np.tile(LUMA, (1, 3, 1)), np.zeros((1, 3), "float32")
