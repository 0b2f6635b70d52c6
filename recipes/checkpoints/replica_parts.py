"""The parts of a variable on the replicas of a TensorFlow strategy, where it is summed up only when it is read."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import keras
import numpy as np

from recipes.common.processes import process_count, process_index


def is_in_parts(variable: keras.Variable) -> bool:
    """Whether every replica adds to a part of its own, as metrics do under a `tf.distribute.Strategy`."""
    return type(variable.value).__name__ == "SyncOnReadVariable"


def read_parts(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    """The parts of some variables. Every process of the run has to call it.

    Args:
        variables: Variables for which `is_in_parts` is true, of one strategy.

    Returns:
        For each variable an array `(replicas, ...)` of its dtype, the same in every process.
    """
    ours = [np.stack([part.numpy() for part in _here(variable)]) for variable in variables]
    if not variables or process_count() == 1:
        return ours
    # float64 holds what metrics count with, whole numbers too.
    rows = np.concatenate([one.reshape(len(one), -1).astype("float64") for one in ours], axis=1)
    strategy = variables[0].value.distribute_strategy
    here, everywhere = len(rows), process_count() * len(rows)
    own = strategy.run(_row(), (rows, process_index() * here, everywhere))
    columns = np.cumsum([one[0].size for one in ours])[:-1]
    everything = np.split(strategy.reduce("SUM", own, axis=None).numpy(), columns, axis=1)
    return [
        part.reshape(-1, *one.shape[1:]).astype(one.dtype) for one, part in zip(ours, everything, strict=True)
    ]


def assign_parts(variable: keras.Variable, parts: np.ndarray) -> bool:
    """Give every replica of this process its part back.

    Args:
        variable: A variable for which `is_in_parts` is true.
        parts: What `read_parts` gave, `(replicas, ...)`.

    Returns:
        True; False where the number of replicas has changed, and nothing was done.
    """
    here = _here(variable)
    if len(parts) != process_count() * len(here):
        return False
    for place, part in enumerate(here, process_index() * len(here)):
        part.assign(parts[place])
    return True


def _here(variable):
    """The variables that hold the parts, of the replicas of this process."""
    return variable.value.distribute_strategy.experimental_local_results(variable.value)


@functools.cache
def _row():
    import tensorflow as tf  # noqa: PLC0415 - these variables exist on this backend alone

    @tf.function(reduce_retracing=True)
    def row(rows, first, everywhere):
        """This replica's row among rows of 0 for all others, so that the sum over replicas holds all rows."""
        place = tf.distribute.get_replica_context().replica_id_in_sync_group
        ours = tf.range(everywhere)[:, None] == place
        return tf.where(ours, rows[place - first][None], tf.zeros((), rows.dtype))

    return row
