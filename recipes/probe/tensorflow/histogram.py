"""Histograms computed inside the graph, small enough to be read at every probe."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

BUCKETS = 30


def histogram(tensor: tf.Tensor) -> tf.Tensor:
    """Count a tensor's values in 30 equal buckets between its smallest and largest.

    Args:
        tensor: Any shape, floating.

    Returns:
        float32 (32,): the smallest and the largest finite value, then the counts. Values that are not finite are
        left out.
    """
    values = tf.reshape(tf.cast(tensor, tf.float32), [-1])
    good = tf.math.is_finite(values)
    low = tf.reduce_min(tf.where(good, values, values.dtype.max))
    high = tf.reduce_max(tf.where(good, values, values.dtype.min))
    width = tf.where(high > low, (high - low) / BUCKETS, tf.ones_like(low))
    bucket = tf.cast(tf.where(good, (values - low) / width, 0.0), tf.int32)
    counts = tf.math.unsorted_segment_sum(
        tf.cast(good, tf.float32), tf.clip_by_value(bucket, 0, BUCKETS - 1), BUCKETS
    )
    return tf.concat([tf.stack([low, high]), counts], 0)


def measure_all(
    variables: Sequence[Any],
    before: Sequence[tf.Tensor],
    gradients: Sequence[tf.Tensor],
    activations: Sequence[tuple[Any, ...]],
) -> dict[str, tf.Tensor]:
    """Histograms of weights, updates, gradients (n, 32 each) and activations of one training step."""
    after = [tf.identity(v.value) for v in variables]
    rows = {
        "histogram_weight": before,
        "histogram_update": [a - b for a, b in zip(after, before, strict=True)],
        "histogram_gradient": gradients,
        "histogram_activation": [output[:16] for _, _, output, _ in activations],
    }
    return {name: tf.stack([histogram(t) for t in tensors]) for name, tensors in rows.items() if tensors}
