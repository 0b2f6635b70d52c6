"""Equalized histograms."""

import dataclasses

import tensorflow as tf

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


def equalized(levels: tf.Tensor) -> tf.Tensor:
    """Levels through `flat_curve` of their own histogram, channel by channel; rounded before they are counted."""
    height, width, channels = levels.shape[1:]
    whole = tf.cast(tf.round(levels), tf.int32)
    row = tf.range(tf.shape(levels)[0])[:, None, None, None] * channels + tf.range(channels)
    place = row * 256 + whole
    counts = tf.math.unsorted_segment_sum(
        tf.ones_like(tf.reshape(place, (-1,))), tf.reshape(place, (-1,)), tf.shape(levels)[0] * channels * 256
    )
    curve = tf.reshape(flat_curve(tf.reshape(counts, (-1, 256))), (-1,))
    return tf.ensure_shape(tf.cast(tf.gather(curve, place), tf.float32), (None, height, width, channels))


def flat_curve(histogram: tf.Tensor) -> tf.Tensor:
    """New levels for each of 256, int32, for histograms `(n, 256)`, int32.

    A step is a 255th of all pixels but those of the brightest level; level i becomes the number of steps below it,
    counted from half a step. Where a step is empty, the levels stay.
    """
    levels = tf.range(256)[None]
    brightest = tf.reduce_max(tf.where(histogram > 0, levels, 0), 1, keepdims=True)
    last = tf.reduce_sum(tf.where(levels == brightest, histogram, 0), 1, keepdims=True)
    step = (tf.reduce_sum(histogram, 1, keepdims=True) - last) // 255
    below = tf.cumsum(histogram, axis=1, exclusive=True) + step // 2
    curve = tf.minimum(below // tf.maximum(step, 1), 255)
    return tf.where(step > 0, curve, levels)
