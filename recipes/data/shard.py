"""One part of a data set for each process of a run."""

from typing import Any

import tensorflow as tf

from recipes.common.validation import are_whole


def bounds_of_part(size: Any, index: int, count: int) -> tuple[Any, Any]:
    """The first row, and the row after the last, of a process's part of a batch.

    Parts differ by one row at most. When there are fewer rows than processes, each gets one row, some of them the same.

    Args:
        size: Rows of the batch, >= 1, a number or an integer tensor.
        index: Number of the process, from 0.
        count: Number of processes, >= 1.
    """
    few = size < count
    each, over = size // count, size % count
    first = index * each + _least(index, over)
    if isinstance(size, int):
        return (index % size, index % size + 1) if few else (first, first + each + (index < over))
    one = tf.constant(1, size.dtype)
    shared = tf.math.floormod(tf.constant(index, size.dtype), tf.maximum(size, one))
    rows = each + tf.cast(index < over, size.dtype)
    return tf.where(few, shared, first), tf.where(few, shared + one, first + rows)


def _least(index, over):
    return min(index, over) if isinstance(over, int) else tf.minimum(tf.constant(index, over.dtype), over)


def check_shard(shard: tuple[int, int] | None, caller: str) -> tuple[int, int]:
    """Check `(index, count)`, this process among all of them; None stands for the only one.

    Args:
        shard: `(index, count)` with `0 <= index < count`, or None.
        caller: The public function, named in errors.

    Returns:
        `(index, count)`, two ints.

    Raises:
        ValueError: for anything else.
    """
    if shard is None:
        return 0, 1
    if not are_whole(shard) or len(shard) != 2 or not 0 <= shard[0] < shard[1]:
        raise ValueError(
            f"{caller} expects shard as (index, count) with 0 <= index < count. Received shard={shard!r}. "
            "On the JAX backend write shard=(jax.process_index(), jax.process_count())."
        )
    return int(shard[0]), int(shard[1])
