"""The order in which an epoch reads its examples: drawn anew for each epoch, and the same when a run resumes there."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from recipes.common.datasets import without_autotune


def shuffled(dataset: tf.data.Dataset, buffer: int, seed: int, epoch: tf.Tensor) -> tf.data.Dataset:
    """The data set in an order of its own for every epoch, the same for a run that starts again at that epoch.

    Args:
        dataset: `tf.data.Dataset`.
        buffer: Elements held in memory to draw from.
        seed: Integer.
        epoch: int64 tensor.
    """

    def order(epoch):
        # TensorFlow joins the seed of an operation with the global one. This one is the traced function's
        # alone: without it the order would follow the user's own tf.random.set_seed.
        tf.random.set_seed(seed + 1)
        return dataset.shuffle(buffer, seed=epoch)

    return tf.data.Dataset.from_tensors(tf.cast(epoch, tf.int64)).flat_map(order)


def shuffled_places(count: int, seed: int, epoch: tf.Tensor) -> tf.data.Dataset:
    """The numbers `0..count-1` in an order of its own for every epoch. Memory: 8 bytes per number.

    Args:
        count: How many.
        seed: Integer.
        epoch: int64 tensor.
    """

    def order(epoch):
        seeds = tf.stack([tf.constant(seed, tf.int64), epoch])
        places = tf.random.experimental.stateless_shuffle(tf.range(count, dtype=tf.int64), seeds)
        return tf.data.Dataset.from_tensor_slices(places)

    return tf.data.Dataset.from_tensors(tf.cast(epoch, tf.int64)).flat_map(order)


def epoch_orders(places: Callable[[Any], tf.data.Dataset], count: int) -> Callable[[int], np.ndarray]:
    """The order of the examples of each epoch, as numbers; traced once for all epochs.

    Args:
        places: function `epoch -> tf.data.Dataset` of int64 numbers; `epoch` is an int64 tensor.
        count: How many there are; 0 gives empty orders.

    Returns:
        A function `epoch -> int64 (count,)`; cheapest where epochs are asked for one after the other.
    """
    held: dict[str, Any] = {}

    def order(epoch):
        if not count:
            return np.zeros(0, np.int64)
        if held.get("next") != epoch:
            epochs = tf.data.Dataset.range(epoch, 2**31)
            held["orders"] = iter(without_autotune(epochs.flat_map(lambda one: places(one).batch(count))))
        held["next"] = epoch + 1
        return next(held["orders"]).numpy()

    return order


def without_first(dataset: tf.data.Dataset, skip: Any, each: int = 1) -> tf.data.Dataset:
    """The data set without its first elements; as it is where none are skipped, as in any run that is not resumed.

    Args:
        dataset: Any `tf.data.Dataset`.
        skip: Steps to leave out, >= 0: an integer, or an int64 tensor.
        each: Elements per step, >= 1.
    """
    return dataset if isinstance(skip, int) and skip == 0 else dataset.skip(skip * each)
