"""Equalized histograms."""

import dataclasses

import tensorflow as tf

from recipes.augment.engine.levels import equalized
from recipes.augment.engine.operation import Drawn, operation
from recipes.augment.engine.points import PointOperation


@operation
class Equalize(PointOperation):
    """Give each channel of an image a histogram that is as flat as a curve of levels can make it.

    Exactly PIL's `ImageOps.equalize` for bytes. Source: Cubuk et al. 2018, "AutoAugment", appendix A, table 6,
    https://arxiv.org/abs/1805.09501.

    Args:
        probability: Chance that an image is changed.
    """

    _: dataclasses.KW_ONLY
    probability: float = 0.5

    def curve(self, levels: tf.Tensor, drawn: Drawn) -> tf.Tensor:
        return equalized(levels)
