"""How far the outputs of a model can go, whatever its weights: what bounds them need not be an activation by name."""

from typing import Any

import keras
import numpy as np

from recipes.diagnose.checks.model_copy import untouched

_FACTORS = (30.0, 1000.0)  # of the weights as they are: what grows from the first to the second has no bound
_NOISE = 0.1  # put on weights, as those that are zero would stay zero
_MOST_WEIGHTS = 5_000_000
_EXAMPLES = 32
_SAME = 1e-3  # of the range


def output_reach(model: keras.Model, inputs: Any) -> list[dict[str, float]]:
    """The bounds of each output that has any, found by making all weights large, of both signs.

    A tanh behind which a layer multiplies by 110 gives at most 110, a mean of places under a softmax at most the last
    place, and no name of the last layer says so.

    Args:
        model: Built. Left as it was.
        inputs: Of one batch, arrays of a first axis of examples; some of them are used.

    Returns:
        list, one dict an output in the order of `keras.tree.flatten`: "low" and "high" where they exist. Empty where
        the model has nothing to train, or too many weights to try.
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
    """What stayed where it was when weights went on growing."""
    slack = _SAME * max(abs(near[0]) if np.isfinite(near[0]) else 0.0, abs(near[1]), 1e-6)
    found = {}
    if np.isfinite(far[0]) and far[0] >= near[0] - slack:
        found["low"] = min(near[0], far[0])
    if np.isfinite(far[1]) and far[1] <= near[1] + slack:
        found["high"] = max(near[1], far[1])
    return found
