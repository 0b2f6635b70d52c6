"""All epochs of a run as one `tf.data.Dataset`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from recipes.common.datasets import without_autotune

if TYPE_CHECKING:
    from recipes.training.accepted_data import Source

_CALLS = min(16, max(2, os.cpu_count() or 2))  # batches that are augmented at a time


def stream(
    source: Source,
    *,
    first_epoch: int,
    epochs: int,
    steps: int,
    transform: Callable[..., Any],
    first_step: int = 0,
    share: tuple[int, int] | None = None,
) -> tf.data.Dataset:
    """All epochs as one data set, so that a resumed run sees what an uninterrupted one would have seen.

    Args:
        source: A `Source`.
        first_epoch: Epoch to begin with; 0 for a new run.
        epochs: Epoch to end before.
        steps: Batches per epoch.
        transform: function `(batch, place) -> batch` applied in parallel. `place` is an int64 tensor `(epoch, step)`;
            with `share` it is `(epoch, step, first row of the part, rows of the whole batch)`.
        first_step: Batches of the first epoch that are finished. Blank batches, which are not trained on, take their
            place.
        share: `(index, count)` of this process among several: only its part of each batch is read and transformed.

    Returns:
        `tf.data.Dataset` of `(epochs - first_epoch) * steps` batches.
    """

    def numbered(epoch):
        # A plain 0 where nothing is skipped leaves the data set as it is in any run.
        skip = tf.where(epoch == first_epoch, tf.constant(first_step, tf.int64), 0) if first_step else 0
        if share is not None:
            parts = source.parts_of(epoch, skip, share).take(steps - skip).enumerate(start=skip)
            return parts.map(lambda step, part: (part[0], tf.stack([epoch, step, *part[1:]])))
        batches = source.batches(epoch, skip).take(steps - skip).enumerate(start=skip)
        return batches.map(lambda step, batch: (batch, tf.stack([epoch, step])))

    if source.endless:
        # An endless data set goes on from epoch to epoch; a resumed run starts it anew.
        whole = source.batches(tf.constant(first_epoch, tf.int64)).enumerate(
            start=first_epoch * steps + first_step
        )
        whole = whole.take((epochs - first_epoch) * steps - first_step).map(
            lambda step, batch: (batch, tf.stack([step // steps, step % steps]))
        )
    else:
        whole = tf.data.Dataset.range(first_epoch, epochs).flat_map(numbered)
    whole = whole.map(transform, num_parallel_calls=_CALLS, deterministic=True)
    if first_step:
        blanks = tf.data.Dataset.from_tensors(blank_batch(whole.element_spec)).repeat(first_step)
        whole = blanks.concatenate(whole)
    whole = whole.apply(tf.data.experimental.assert_cardinality((epochs - first_epoch) * steps))
    return without_autotune(whole.prefetch(2))


def blank_batch(spec: Any) -> Any:
    """Zeros of the structure of a batch.

    Args:
        spec: `tf.TensorSpec`s in any structure, as `element_spec` of a batched data set.

    Returns:
        Tensors of these dtypes in this structure, of size 1 on the axes that are open.
    """
    return tf.nest.map_structure(lambda part: tf.zeros([side or 1 for side in part.shape], part.dtype), spec)
