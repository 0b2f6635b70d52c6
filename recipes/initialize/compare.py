"""Compare the activations of a deep network, layer by layer, for several initializers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from recipes.common.traversal import layers_of
from recipes.common.types import Inputs
from recipes.initialize.forward import (
    check_batch,
    check_built,
    forward_as_in_training,
    layer_path,
)
from recipes.initialize.lsuv import lsuv

# Configurations, not objects: making an initializer object on import would draw a seed from Python's generator.
COMMON_SCHEMES = {
    "too small": {"class_name": "RandomNormal", "config": {"stddev": 0.01}},
    "too large": {"class_name": "RandomNormal", "config": {"stddev": 1.0}},
    "Xavier": "glorot_normal",
    "He": "he_normal",
    "LSUV": "lsuv",
}


@dataclass(frozen=True)
class ActivationHistogram:
    """The activations of one layer on one batch.

    Attributes:
        layer: The layer's path in the model.
        mean: Mean over examples, positions and units.
        std: Standard deviation over examples, positions and units.
        zeros: Share of activations that are exactly 0, in [0, 1]; the layer is dead when it is near 1.
        counts: Number of activations in each bin, integers `(bins,)`.
        edges: Edges of the bins, float `(bins + 1,)`, from the smallest to the largest finite activation.
    """

    layer: str
    mean: float
    std: float
    zeros: float
    counts: np.ndarray
    edges: np.ndarray


def compare(
    build: Callable[[Any], keras.Model],
    initializers: Mapping[str, Any] | Sequence[str],
    batch: Inputs,
    *,
    bins: int = 50,
) -> dict[str, list[ActivationHistogram]]:
    """Build one model per initializer, run a batch through each, and keep histograms of all activations.

    This is the experiment of Glorot & Bengio 2010, section 4.2.1, figure 6,
    https://proceedings.mlr.press/v9/glorot10a.html, as lectures show it with tanh and ReLU. Draw the result with
    `recipes.plot.activation_histograms`.

    Args:
        build: Function such that `build(initializer)` returns an untrained `keras.Model` whose kernels are drawn from
            that initializer. The argument is a name or a configuration, never an object, because layers that share an
            object start with the same weights.
        initializers: A dictionary from title to Keras initializer, or a list of their names; "lsuv" runs
            `recipes.initialize.lsuv` on the batch. `COMMON_SCHEMES` holds the five shown in lectures: too small
            (standard deviation 0.01), too large (1), Xavier (Glorot & Bengio 2010), He (He et al. 2015) and LSUV.
        batch: Inputs as the model takes them, without labels: `(examples, ...)`, at least two examples.
        bins: Number of bins of each histogram, >= 1.

    Returns:
        A dictionary from title to a list of `ActivationHistogram`, one per hidden layer that ends in an activation,
        in the order in which the batch passes through the layers.

    Raises:
        ValueError: when the batch holds fewer than two examples or numbers that are not finite, or when a model is
            not built or has no hidden activations.

    Example:
        >>> build = lambda initializer: models.mlp((28, 28, 1), 10, hidden=[500] * 10, initializer=initializer)
        >>> plot.activation_histograms(initialize.compare(build, initialize.COMMON_SCHEMES, images))
    """
    check_batch("compare", batch)
    if not isinstance(initializers, Mapping):
        initializers = {str(initializer): initializer for initializer in initializers}
    return {
        title: _histograms(build, initializer, batch, bins) for title, initializer in initializers.items()
    }


def _histograms(build, initializer, batch, bins):
    data_driven = isinstance(initializer, str) and initializer == "lsuv"
    if isinstance(initializer, keras.initializers.Initializer):
        initializer = keras.initializers.serialize(initializer)
    model = build("orthogonal" if data_driven else initializer)
    check_built("compare", model)
    if data_driven:
        lsuv(model, batch)
    seen = []

    def wrapper(layer):
        def wrapped(call, *args, **kwargs):
            outputs = call(*args, **kwargs)
            seen.append((layer, keras.ops.convert_to_numpy(keras.ops.cast(outputs, "float32"))))
            return outputs

        return wrapped

    watched = [(layer, wrapper(layer)) for layer in layers_of(model) if _ends_in_activation(layer)]
    outputs = keras.ops.convert_to_numpy(forward_as_in_training(model, batch, watched))
    # The layer whose output is the model's output is the classifier, not a hidden layer, whatever its name.
    hidden = [
        (layer, values) for layer, values in seen if not np.array_equal(values, outputs, equal_nan=True)
    ]
    if not hidden:
        raise ValueError(
            f"compare expects build(initializer) to return a model with hidden activations. Received {model.name!r}, "
            "which has none. Give its layers activation='relu' or 'tanh'."
        )
    return [_histogram(layer_path(layer), values, bins) for layer, values in hidden]


ACTIVATION_LAYERS = (keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.PReLU, keras.layers.ELU)


def _ends_in_activation(layer):
    activation = getattr(layer, "activation", None)
    named = callable(activation) and activation is not keras.activations.linear
    return (named and not isinstance(layer, keras.layers.RNN)) or isinstance(layer, ACTIVATION_LAYERS)


def _histogram(path, values, bins):
    # float64, because squares of exploding activations can overflow float32.
    values = values.astype("float64").ravel()
    finite = values[np.isfinite(values)]
    counts, edges = (
        np.histogram(finite, bins) if finite.size else (np.zeros(bins, int), np.linspace(0, 1, bins + 1))
    )
    return ActivationHistogram(path, values.mean(), values.std(), (values == 0).mean(), counts, edges)
