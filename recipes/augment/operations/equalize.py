"""Equalized histograms."""

import dataclasses

import tensorflow as tf

from recipes.augment.engine.levels import equalized, flat_curve
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

    counts = True

    def curve(self, levels: tf.Tensor, drawn: Drawn) -> tf.Tensor:
        return equalized(levels)

    def move_table(self, table: tf.Tensor, counts: tf.Tensor, drawn: Drawn) -> tf.Tensor:
        # How often each level occurs by now: several old ones may have become one.
        channels = table.shape[-1]
        whole = tf.reshape(tf.transpose(tf.cast(tf.round(table), tf.int32)[:, :, 0], (0, 2, 1)), (-1, 256))
        row = tf.range(tf.shape(whole)[0])[:, None] * 256
        old = tf.reshape(tf.transpose(counts[:, :, 0], (0, 2, 1)), (-1,))
        now = tf.math.unsorted_segment_sum(old, tf.reshape(row + whole, (-1,)), tf.size(old))
        curve = tf.reshape(flat_curve(tf.reshape(now, (-1, 256))), (-1,))
        moved = tf.reshape(tf.cast(tf.gather(curve, row + whole), tf.float32), (-1, channels, 256))
        return tf.transpose(moved, (0, 2, 1))[:, :, None]
