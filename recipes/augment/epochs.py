"""Which epoch an iteration of a data set is: a count that lives in a resource, so that iterators can be saved."""

import uuid
import weakref
from typing import Any

import tensorflow as tf

from recipes.common.building import around_builds

_counters: "weakref.WeakSet[EpochCounter]" = weakref.WeakSet()


class EpochCounter:
    """One higher each time somebody starts to read `dataset()`.

    Keras reads a batch to build an unbuilt model under a distribution strategy, and the strategy reads ahead; what
    it read before training does not count (`recipes.common.building`).

    Args:
        first: The first number.
    """

    def __init__(self, first: int) -> None:
        with tf.init_scope(), tf.device("CPU:0"):
            # A plain resource: a tf.Variable would belong to the strategy in whose scope it is made.
            self._handle = tf.raw_ops.VarHandleOp(
                dtype=tf.int64, shape=[], shared_name=f"recipes_epoch_{uuid.uuid4().hex}"
            )
            self.set(first)
        _counters.add(self)
        around_builds(_remember)

    def get(self) -> int:
        """The number the next reader gets."""
        return int(tf.raw_ops.ReadVariableOp(resource=self._handle, dtype=tf.int64))

    def set(self, number: int) -> None:
        """The next reader gets `number`."""
        tf.raw_ops.AssignVariableOp(resource=self._handle, value=tf.constant(number, tf.int64))

    def dataset(self) -> tf.data.Dataset:
        """A data set of one number, int64: the epoch."""

        def count(_: Any) -> tf.Tensor:
            epoch = tf.raw_ops.ReadVariableOp(resource=self._handle, dtype=tf.int64)
            with tf.control_dependencies([epoch]):
                step = tf.raw_ops.AssignAddVariableOp(resource=self._handle, value=tf.constant(1, tf.int64))
            with tf.control_dependencies([step] if step is not None else []):
                return tf.ensure_shape(tf.identity(epoch), ())

        numbers = tf.data.Dataset.from_tensors(0).map(count)
        numbers.epoch_counter = self  # lives as long as the data set and what is made of it
        return numbers


def _remember():
    """Put every counter back to what it is now; called when a model has been built."""
    before = [(counter, counter.get()) for counter in _counters]

    def restore() -> None:
        for counter, number in before:
            counter.set(number)

    return restore
