"""The range that the outputs of a model can reach with any weights, found by trying, not from the last activation."""

from typing import Any

import keras
import numpy as np

from recipes.diagnose.checks.model_copy import untouched

_FACTORS = (30.0, 1000.0)  # of the weights; an output that grows from the first to the second has no bound
_NOISE = 0.1  # standard deviation of noise added to the weights, as zeros would stay zero
_MOST_WEIGHTS = 5_000_000
_EXAMPLES = 32
_SAME = 1e-3  # largest growth, as a share of the bound, that counts as none


def output_reach(model: keras.Model, inputs: Any) -> list[dict[str, float]]:
    """Bounds of the outputs, found by making all weights large, with both signs.

    The last activation does not always show a bound. A tanh whose outputs a further layer multiplies by 110 stays
    within 110, and a mean of positions weighted by a softmax stays below the last position.

    Args:
        model: A built `keras.Model`; it is not changed.
        inputs: Inputs of one batch, an array `(batch, ...)` or a structure of such; 32 examples are used.

    Returns:
        One dict per output, in the order of `keras.tree.flatten`, with the bounds "low" and "high" where they exist.
        The list is empty where the model has no trainable weights or more than five million.
    """
    trained = [v for v in model.trainable_variables if "float" in str(v.dtype)]
    if not trained or sum(int(np.prod(v.shape)) for v in trained) > _MOST_WEIGHTS:
        return []
    random, few = np.random.default_rng(0), keras.tree.map_structure(lambda part: part[:_EXAMPLES], inputs)
    few = keras.tree.map_structure(keras.ops.convert_to_tensor, few)
    starts = [np.asarray(keras.ops.convert_to_numpy(v), "float32") for v in trained]
    starts = [start + _NOISE * random.standard_normal(start.shape).astype("float32") for start in starts]
    ends: dict[float, list[tuple[float, float]]] = {}
    with untouched(model), np.errstate(all="ignore"):
        for factor in _FACTORS:
            seen = []
            for sign in (1.0, -1.0):
                for variable, start in zip(trained, starts, strict=True):
                    variable.assign(sign * factor * start)
                outputs = keras.tree.flatten(model(few, training=False))
                seen.append([_ends(np.asarray(keras.ops.convert_to_numpy(one))) for one in outputs])
            ends[factor] = [
                (min(low for low, _ in both), max(high for _, high in both))
                for both in zip(*seen, strict=True)
            ]
    return [_bounds(*both) for both in zip(*(ends[factor] for factor in _FACTORS), strict=True)]


def _ends(values):
    values = values.astype("float64")
    if not values.size or np.isnan(values).any():
        return -np.inf, np.inf
    return float(values.min()), float(values.max())


def _bounds(near, far):
    """The ends of the range that did not move with larger weights."""
    slack = _SAME * max(abs(near[0]) if np.isfinite(near[0]) else 0.0, abs(near[1]), 1e-6)
    found = {}
    if np.isfinite(far[0]) and far[0] >= near[0] - slack:
        found["low"] = min(near[0], far[0])
    if np.isfinite(far[1]) and far[1] <= near[1] + slack:
        found["high"] = max(near[1], far[1])
    return found
