"""Automatic contrast: each channel is stretched to the whole value range."""

import dataclasses

import tensorflow as tf

from recipes.augment.engine.levels import stretch_levels, stretched
from recipes.augment.engine.operation import Drawn, operation
from recipes.augment.engine.points import PointOperation


@operation
class AutoContrast(PointOperation):
    """Stretch each channel so that its darkest value becomes black and its brightest white.

    For uint8 images it is exactly PIL's `ImageOps.autocontrast`: levels are rounded down, and a channel with one
    constant value stays unchanged.
    Source: Cubuk et al. 2018, "AutoAugment", appendix A, table 6, https://arxiv.org/abs/1805.09501.

    Args:
        probability: Chance that an image is changed.

    Raises:
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
    """

    _: dataclasses.KW_ONLY
    probability: float = 0.5

    def curve(self, levels: tf.Tensor, drawn: Drawn) -> tf.Tensor:
        return stretch_levels(levels)

    def move_table(self, table: tf.Tensor, counts: tf.Tensor, drawn: Drawn) -> tf.Tensor:
        lowest = tf.reduce_min(tf.where(counts > 0, table, 255.0), 1, keepdims=True)
        highest = tf.reduce_max(tf.where(counts > 0, table, 0.0), 1, keepdims=True)
        # Levels that do not occur in the image may lie outside the stretched range.
        return tf.clip_by_value(stretched(table, lowest, highest), 0.0, 255.0)
