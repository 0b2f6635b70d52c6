"""Histogram equalization."""

import dataclasses

import tensorflow as tf

from recipes.augment.engine.levels import equalized, flat_curve
from recipes.augment.engine.operation import Drawn, operation
from recipes.augment.engine.points import PointOperation


@operation
class Equalize(PointOperation):
    """Equalize the histogram of each channel: map the levels by a curve that makes the histogram as flat as possible.

    For uint8 images it is exactly PIL's `ImageOps.equalize`.
    Source: Cubuk et al. 2018, "AutoAugment", appendix A, table 6, https://arxiv.org/abs/1805.09501.

    Args:
        probability: Chance that an image is changed.

    Raises:
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
    """

    _: dataclasses.KW_ONLY
    probability: float = 0.5

    counts = True

    def curve(self, levels: tf.Tensor, drawn: Drawn) -> tf.Tensor:
        return equalized(levels)

    def move_table(self, table: tf.Tensor, counts: tf.Tensor, drawn: Drawn) -> tf.Tensor:
        # Count each present level; earlier curves may have mapped several old levels to one.
        channels = table.shape[-1]
        whole = tf.reshape(tf.transpose(tf.cast(tf.round(table), tf.int32)[:, :, 0], (0, 2, 1)), (-1, 256))
        row = tf.range(tf.shape(whole)[0])[:, None] * 256
        old = tf.reshape(tf.transpose(counts[:, :, 0], (0, 2, 1)), (-1,))
        now = tf.math.unsorted_segment_sum(old, tf.reshape(row + whole, (-1,)), tf.size(old))
        curve = tf.reshape(flat_curve(tf.reshape(now, (-1, 256))), (-1,))
        moved = tf.reshape(tf.cast(tf.gather(curve, row + whole), tf.float32), (-1, channels, 256))
        return tf.transpose(moved, (0, 2, 1))[:, :, None]
