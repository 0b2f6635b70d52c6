"""The norms of adversarial changes: steepest steps, projections and random starts.

To add a norm, add its name to `NORMS` and a branch to each function of this module.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from recipes.common.types import FloatArray, ValueRange
from recipes.explain.engine.errors import UsageError

NORMS = {"inf": "inf", "l_inf": "inf", np.inf: "inf", "l2": "2", "2": "2", 2: "2"}


def norm_named(method: str, norm: Any) -> str:
    """The norm for a name that the user gave: "inf" or "2".

    Raises:
        ValueError: when the name is unknown.
    """
    if not isinstance(norm, (str, int, float)) or isinstance(norm, bool) or norm not in NORMS:
        raise UsageError(f"{method} expects norm to be 'inf' or 'l2'. Received {norm!r}. Write norm='inf'.")
    return NORMS[norm]


def steepest(gradient: tf.Tensor, norm: str) -> tf.Tensor:
    """The direction of length 1 in which a linear loss increases most: the sign for "inf", the unit vector for "2"."""
    if norm == "inf":
        return tf.sign(gradient)
    if norm == "2":
        return tf.math.divide_no_nan(gradient, length(gradient))
    raise _unknown(norm)


def length(values: tf.Tensor) -> tf.Tensor:
    """Euclidean length of each image of a batch: `(n, 1, 1, 1)`."""
    largest = tf.reduce_max(
        tf.abs(values), [1, 2, 3], keepdims=True
    )  # scaling keeps the squares from underflow
    scaled = tf.math.divide_no_nan(values, largest)
    return largest * tf.sqrt(tf.reduce_sum(tf.square(scaled), [1, 2, 3], keepdims=True))


def project(
    images: tf.Tensor, original: tf.Tensor, epsilon: Any, norm: str, low: Any, high: Any
) -> tf.Tensor:
    """The nearest images within `epsilon` of the original; for "2", project to the ball, then clip to the range."""
    change = images - original
    if norm == "inf":
        change = tf.clip_by_value(change, -epsilon, epsilon)
    elif norm == "2":
        change *= tf.minimum(1.0, tf.math.divide_no_nan(epsilon, length(change)))
    else:
        raise _unknown(norm)
    return tf.clip_by_value(original + change, low, high)


def project_exactly(
    images: FloatArray, original: FloatArray, epsilon: float, norm: str, value_range: ValueRange
) -> FloatArray:
    """`project` in float64, rounded to float32 toward the original.

    So `|images - original| <= epsilon` holds exactly for the returned numbers, not only up to rounding.

    Args:
        images, original: float32 `(n, height, width, channels)`.
        epsilon: Largest distance, >= 0, in the units of `value_range`.
        norm: "inf" or "2".
        value_range: `(low, high)` of the images.

    Returns:
        float32 `(n, height, width, channels)`.
    """
    start = original.astype("float64")
    change = images.astype("float64") - start
    if norm == "inf":
        change = np.clip(change, -epsilon, epsilon)
    else:
        norms = lengths(change, norm)
        with np.errstate(divide="ignore", invalid="ignore"):
            change = np.where(norms > epsilon, change * (epsilon / norms), change)
    result = np.clip(start + change, *value_range).astype("float32")
    while True:
        change = result.astype("float64") - start
        over = (lengths(change, norm) > epsilon) & (change != 0)
        if not over.any():
            return result
        result = np.where(over, np.nextafter(result, original), result)


def lengths(change: np.ndarray, norm: str) -> np.ndarray:
    """The quantity that epsilon limits: the size of each value's change for "inf", the length per image for "2"."""
    if norm == "inf":
        return np.abs(change)
    if norm == "2":
        return np.sqrt(np.square(change).sum((1, 2, 3), keepdims=True))
    raise _unknown(norm)


def random_change(seed: Sequence[int], shape: Sequence[int], norm: str) -> np.ndarray:
    """Draw uniformly from the ball of radius 1: float64 of the given shape."""
    generator = np.random.default_rng(seed)
    if norm == "inf":
        return generator.uniform(-1, 1, shape)
    if norm != "2":
        raise _unknown(norm)
    change = generator.normal(size=shape)
    radius = generator.uniform() ** (1 / change.size)
    return radius * change / np.linalg.norm(change)


def random_changes(generator: tf.random.Generator, shape: tf.Tensor, norm: str) -> tf.Tensor:
    """Draw a change of length at most 1 for each image of a batch, inside a graph.

    For "inf" it is uniform in the box. For "2" its direction and its length are uniform.
    """
    if norm == "inf":
        return generator.uniform(shape, -1, 1)
    if norm != "2":
        raise _unknown(norm)
    change = generator.normal(shape)
    return change / length(change) * generator.uniform([shape[0], 1, 1, 1])


def _unknown(norm):
    return UsageError(
        f"The norm is expected to be 'inf' or '2'. Received {norm!r}. Add it to norms.py first."
    )
