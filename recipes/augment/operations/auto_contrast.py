"""Stretching of each channel to the whole range."""

import dataclasses

import tensorflow as tf

from recipes.augment.engine.levels import stretch_levels, stretched
from recipes.augment.engine.operation import Drawn, operation
from recipes.augment.engine.points import PointOperation


@operation
class AutoContrast(PointOperation):
    """Stretch each channel so that its darkest value becomes black and its brightest white.

    Exactly PIL's `ImageOps.autocontrast` for bytes: levels are cut to whole ones, and a channel of one value stays.
    Source: Cubuk et al. 2018, "AutoAugment", appendix A, table 6, https://arxiv.org/abs/1805.09501.

    Args:
        probability: Chance that an image is changed.
    """

    _: dataclasses.KW_ONLY
    probability: float = 0.5

    def curve(self, levels: tf.Tensor, drawn: Drawn) -> tf.Tensor:
        return stretch_levels(levels)

    def move_table(self, table: tf.Tensor, counts: tf.Tensor, drawn: Drawn) -> tf.Tensor:
        lowest = tf.reduce_min(tf.where(counts > 0, table, 255.0), 1, keepdims=True)
        highest = tf.reduce_max(tf.where(counts > 0, table, 0.0), 1, keepdims=True)
        # Levels that do not occur may lie outside of what is stretched.
        return tf.clip_by_value(stretched(table, lowest, highest), 0.0, 255.0)
