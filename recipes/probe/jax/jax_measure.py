"""The arithmetic of a probe on JAX arrays, with the same results as `recipes.probe.tensorflow.measure`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from recipes.common.lazy_jax import jax, jnp
from recipes.probe.layout import Watched

SATURATED = 0.95
BUCKETS = 30
_AUTO_NUMBERS = 1 << 18


def norms(arrays: Sequence[jax.Array]) -> jax.Array:
    """Euclidean norm of each array, float32 (n,), not finite exactly when some element is not.

    The largest element is divided out first: squares below 1e-38 underflow in float32.
    """
    return jnp.stack([_norm(array) for array in arrays])


def _norm(array):
    array = array.astype("float32")
    largest = jnp.max(jnp.abs(array), initial=0.0)
    scale = jnp.where(largest > 0, largest, 1.0)
    return scale * jnp.sqrt(jnp.sum(jnp.square(array / scale)))


def finite(arrays: Sequence[Any]) -> jax.Array:
    """Whether every number of these arrays is finite, as float32 1 or 0 (other dtypes always are)."""
    checks = [jnp.all(jnp.isfinite(array)) for array in arrays if is_float(array)]
    return jnp.all(jnp.stack(checks)).astype("float32") if checks else jnp.ones(())


def is_float(array: object) -> bool:
    """Whether this is an array of floating-point numbers, of JAX or numpy."""
    return hasattr(array, "dtype") and hasattr(array, "shape") and jnp.issubdtype(array.dtype, jnp.floating)


def batch_facts(inputs: Sequence[Any], labels: Sequence[Any]) -> dict[str, jax.Array]:
    """How many examples a batch holds, and whether they all have the same label, as float32.

    Args:
        inputs: Arrays `(batch, ...)`; other inputs are left out.
        labels: Arrays `(batch, ...)`; where there are several, they are not compared.
    """
    facts = {}
    if inputs and jnp.ndim(inputs[0]):
        facts["examples"] = jnp.asarray(inputs[0].shape[0], "float32")
    if len(labels) == 1 and jnp.ndim(labels[0]):
        rows = jnp.reshape(labels[0], (labels[0].shape[0], -1))
        facts["one_label"] = jnp.all(rows == rows[:1]).astype("float32")
    return facts


def activation_statistics(
    output: jax.Array, watched: Watched, samples: int | Literal["auto"]
) -> dict[str, jax.Array]:
    """Statistics of one activation over the first samples of the batch.

    Args:
        output: `(batch, ..., units)` or `(batch, units, ...)`, floating.
        watched: The `Watched` that gave the output: its kind decides what saturated means.
        samples: How many samples to look at, or "auto": as many as make 2^18 numbers, at least 16.

    Returns:
        Scalars mean, variance, sample_variance, zero_fraction, saturated_fraction, and rates (units,): the share of
        each unit's outputs above zero. All float32.
    """
    output = output[:, None] if output.ndim == 1 else output
    if samples == "auto":
        samples = max(16, _AUTO_NUMBERS // max(math.prod(output.shape[1:]), 1))
    output = output[:samples].astype("float32")
    mean = jnp.mean(output)
    across = jnp.mean(jnp.square(output - jnp.mean(output, axis=0)))
    return {
        "mean": mean,
        "variance": jnp.mean(jnp.square(output - mean)),
        "sample_variance": across if output.shape[0] > 1 else jnp.asarray(jnp.nan),  # one has no spread
        "zero_fraction": jnp.mean((output == 0).astype("float32")),
        "saturated_fraction": _saturated(output, watched),
        "rates": jnp.mean((output > 0).astype("float32"), axis=_others(output, watched)),
    }


def _others(output, watched):
    axis = watched.unit_axis(output.ndim)
    return tuple(other for other in range(output.ndim) if other != axis)


def _saturated(output, watched):
    if watched.kind == "tanh":
        flat = jnp.abs(output) > SATURATED
    elif watched.kind == "sigmoid":
        flat = jnp.abs(2 * output - 1) > SATURATED  # sigmoid(x) = (1 + tanh(x / 2)) / 2
    elif watched.ceiling is not None:
        flat = output >= watched.ceiling
    else:
        return jnp.asarray(jnp.nan, "float32")
    return jnp.mean(flat.astype("float32"))


def ever_active(output: jax.Array, watched: Watched) -> jax.Array:
    """Whether each unit was above zero anywhere in the whole batch, float32 (units,) of 1 or 0."""
    output = output[:, None] if output.ndim == 1 else output
    return jnp.any(output > 0, axis=_others(output, watched)).astype("float32")


def histogram(array: jax.Array) -> jax.Array:
    """Count an array's values in 30 equal buckets between its smallest and largest.

    Returns:
        float32 (32,): the smallest and the largest finite value, then the counts. Values that are not finite are
        left out.
    """
    values = jnp.ravel(array).astype("float32")
    good = jnp.isfinite(values)
    limits = jnp.finfo("float32")
    low = jnp.min(jnp.where(good, values, limits.max))
    high = jnp.max(jnp.where(good, values, limits.min))
    width = jnp.where(high > low, (high - low) / BUCKETS, 1.0)
    bucket = jnp.clip(jnp.where(good, (values - low) / width, 0.0).astype("int32"), 0, BUCKETS - 1)
    counts = jax.ops.segment_sum(good.astype("float32"), bucket, BUCKETS)
    return jnp.concatenate([jnp.stack([low, high]), counts])
