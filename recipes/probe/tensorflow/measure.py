"""The arithmetic of a probe, on tensors inside the graph."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from recipes.probe.layout import Watched
from recipes.probe.tensorflow.visibility import separate_copy

SATURATED = 0.95
_AUTO_NUMBERS = 1 << 18
_MOST_TOGETHER = 1 << 20  # numbers of a tensor that is measured with others of its shape


def replicas() -> int:
    """Number of replicas that share the batch of this step."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def norms(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Euclidean norm of each tensor, float32 (n,), not finite exactly when some element is not.

    The largest element is divided out first, because squares of gradients below 1e-19 would underflow in float32, and
    vanished gradients have to be measured too. Small tensors of one shape are measured as one, because the operations
    of a trace cost more than their arithmetic.
    """
    groups = _of_one_shape(tensors)
    rows = [_norms_of_rows(_as_rows([tensors[i] for i in group])) for group in groups]
    order = np.argsort(np.concatenate(groups)).astype("int32")
    return tf.gather(tf.concat(rows, 0), order)


def _of_one_shape(tensors):
    """Groups of the places of tensors that are measured together."""
    groups = {}
    for place, tensor in enumerate(tensors):
        size = tensor.shape.num_elements()
        alone = size is None or size > _MOST_TOGETHER
        groups.setdefault(place if alone else (tuple(tensor.shape), tensor.dtype), []).append(place)
    return list(groups.values())


def _as_rows(tensors):
    stacked = tf.stack(tensors) if len(tensors) > 1 else tensors[0]
    size = tensors[0].shape.num_elements()
    return tf.cast(tf.reshape(stacked, [len(tensors), -1 if size is None else size]), tf.float32)


def _norms_of_rows(rows):
    largest = tf.reduce_max(tf.abs(rows), axis=1, keepdims=True)
    scale = tf.where(largest > 0, largest, tf.ones_like(largest))
    return scale[:, 0] * tf.sqrt(tf.reduce_sum(tf.square(rows / scale), axis=1))


def finite(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Whether every number of these tensors is finite, as float32 1 or 0 (other dtypes always are)."""
    checks = [tf.reduce_all(tf.math.is_finite(tensor)) for tensor in tensors if is_float(tensor)]
    if not checks:
        return tf.ones(())
    return tf.cast(checks[0] if len(checks) == 1 else tf.reduce_all(tf.stack(checks)), tf.float32)


def batch_facts(inputs: Sequence[Any], labels: Sequence[Any]) -> dict[str, tf.Tensor]:
    """How many examples a batch holds, and whether they all have the same label, as float32.

    Args:
        inputs: Tensors `(batch, ...)`; other inputs are left out.
        labels: Tensors `(batch, ...)`; where there are several, they are not compared.
    """
    facts = {}
    if inputs and _has_rows(inputs[0]):
        facts["examples"] = tf.cast(tf.shape(inputs[0])[0] * replicas(), tf.float32)
    if len(labels) == 1 and _has_rows(labels[0]):
        rows = tf.reshape(labels[0], [tf.shape(labels[0])[0], -1])
        facts["one_label"] = tf.cast(tf.reduce_all(tf.equal(rows, rows[:1])), tf.float32)
    return facts


def _has_rows(tensor):
    return isinstance(tensor, tf.Tensor) and tensor.shape.rank is not None and tensor.shape.rank > 0


def is_float(tensor: object) -> bool:
    """Whether this is a dense tensor of floating-point numbers."""
    return isinstance(tensor, tf.Tensor) and tensor.dtype.is_floating


def dense(gradient: tf.Tensor | tf.IndexedSlices | None, variable: Any) -> tf.Tensor:
    """A gradient as a separate dense tensor of its variable's shape; NaN for None (no path from the loss)."""
    if gradient is None:
        return tf.fill([1], float("nan"))
    if isinstance(gradient, tf.IndexedSlices):
        return tf.math.unsorted_segment_sum(
            separate_copy(gradient.values), gradient.indices, variable.shape[0]
        )
    return separate_copy(gradient)


def activation_statistics(
    output: tf.Tensor, watched: Watched, samples: int | Literal["auto"]
) -> dict[str, tf.Tensor]:
    """Statistics of one activation over the first samples of the batch.

    Args:
        output: `(batch, ..., units)` or `(batch, units, ...)`, floating.
        watched: The `Watched` that gave the output: its kind decides what saturated means.
        samples: How many samples to look at, or "auto": as many as make 2^18 numbers, at least 16.

    Returns:
        Scalars mean, variance, sample_variance, square (of the mean), zero_fraction, saturated_fraction, and
        rates (units,): the share of each unit's outputs above zero. All float32.
    """
    if output.shape.rank == 1:
        output = output[:, None]
    if samples == "auto":
        per_sample = 1
        for size in output.shape[1:]:
            per_sample *= size or 64
        samples = max(16, _AUTO_NUMBERS // max(per_sample, 1))
    output = tf.cast(output[:samples], tf.float32)
    unit_axis = watched.unit_axis(output.shape.rank)
    others = [axis for axis in range(output.shape.rank) if axis != unit_axis]
    mean = tf.reduce_mean(output)
    center = tf.reduce_mean(output, axis=0)
    if replicas() > 1:  # the samples of a batch are spread over all of them
        center = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, center)
    across = tf.reduce_mean(tf.square(output - center))
    several = tf.shape(output)[0] * replicas() > 1
    across = tf.where(several, across, tf.fill([], float("nan")))  # one sample has no spread
    return {
        "mean": mean,
        "variance": tf.reduce_mean(tf.square(output - mean)),
        "square": tf.square(mean),
        "sample_variance": across,
        "zero_fraction": tf.reduce_mean(tf.cast(tf.equal(output, 0), tf.float32)),
        "saturated_fraction": _saturated(output, watched),
        "rates": tf.reduce_mean(tf.cast(output > 0, tf.float32), axis=others),
    }


def _saturated(output, watched):
    if watched.kind == "tanh":
        flat = tf.abs(output) > SATURATED
    elif watched.kind == "sigmoid":
        flat = tf.abs(2 * output - 1) > SATURATED  # sigmoid(x) = (1 + tanh(x / 2)) / 2
    elif watched.ceiling is not None:
        flat = output >= watched.ceiling
    else:
        return tf.fill([], float("nan"))
    return tf.reduce_mean(tf.cast(flat, tf.float32))


def ever_active(output: tf.Tensor, watched: Watched) -> tf.Tensor:
    """Whether each unit was above zero anywhere in the whole batch, float32 (units,) of 1 or 0."""
    if output.shape.rank == 1:
        output = output[:, None]
    unit_axis = watched.unit_axis(output.shape.rank)
    others = [axis for axis in range(output.shape.rank) if axis != unit_axis]
    return tf.cast(tf.reduce_any(output > 0, axis=others), tf.float32)
