"""Count the epochs of a data set. The count is stored in a TensorFlow resource, so that iterators can be saved."""

import uuid
import weakref
from typing import Any

import tensorflow as tf

from recipes.common.building import around_builds

_counters: "weakref.WeakSet[EpochCounter]" = weakref.WeakSet()


class EpochCounter:
    """A count that goes up by one each time a new iterator reads `dataset()`.

    Under a distribution strategy, Keras reads a batch to build an unbuilt model, and the strategy reads ahead. These
    reads before training are not counted (`recipes.common.building`).

    Args:
        first: Number of the first epoch, >= 0.
    """

    def __init__(self, first: int) -> None:
        with tf.init_scope(), tf.device("CPU:0"):
            # A plain resource, because a tf.Variable would belong to the strategy in whose scope it is made.
            self._handle = tf.raw_ops.VarHandleOp(
                dtype=tf.int64, shape=[], shared_name=f"recipes_epoch_{uuid.uuid4().hex}"
            )
            self.set(first)
        _counters.add(self)
        around_builds(_remember)

    def get(self) -> int:
        """The epoch number that the next iterator will get."""
        return int(tf.raw_ops.ReadVariableOp(resource=self._handle, dtype=tf.int64))

    def set(self, number: int) -> None:
        """Set the epoch number that the next iterator will get."""
        tf.raw_ops.AssignVariableOp(resource=self._handle, value=tf.constant(number, tf.int64))

    def dataset(self) -> tf.data.Dataset:
        """A data set of one element, the epoch as an int64 scalar."""

        def count(_: Any) -> tf.Tensor:
            epoch = tf.raw_ops.ReadVariableOp(resource=self._handle, dtype=tf.int64)
            with tf.control_dependencies([epoch]):
                step = tf.raw_ops.AssignAddVariableOp(resource=self._handle, value=tf.constant(1, tf.int64))
            with tf.control_dependencies([step] if step is not None else []):
                return tf.ensure_shape(tf.identity(epoch), ())

        numbers = tf.data.Dataset.from_tensors(0).map(count)
        numbers.epoch_counter = self  # kept alive as long as the data set and the data sets derived from it
        return numbers


def _remember():
    """Return a function that resets every counter to its present number; it is called after a model was built."""
    before = [(counter, counter.get()) for counter in _counters]

    def restore() -> None:
        for counter, number in before:
            counter.set(number)

    return restore
