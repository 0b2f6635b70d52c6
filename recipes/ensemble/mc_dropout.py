"""mc_dropout: the ensemble that one network with dropout is."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import keras
import numpy as np

from recipes.common.datasets import as_batches
from recipes.common.models import of_backend, output_activation
from recipes.common.patching import wrapped
from recipes.common.traversal import walk
from recipes.common.types import Data, FloatArray, Images
from recipes.evaluate.classifier import as_probabilities

# Layers that only training makes random. Layers of ours and of others count by their `seed_generator`.
_NOT_RANDOM = (keras.layers.BatchNormalization,)


@dataclass(frozen=True)
class MCDropout:
    """What a network with dropout predicts when it is asked several times.

    Attributes:
        samples: float32 `(samples, n, classes)`: probabilities with each mask, ready for `ensemble.disagreement`.
    """

    samples: FloatArray

    @property
    def probabilities(self) -> FloatArray:
        """The mean over masks, float32 `(n, classes)`."""
        return self.samples.mean(axis=0)

    @property
    def entropy(self) -> FloatArray:
        """The total uncertainty: the entropy of the mean, in nats, float32 `(n,)`."""
        return _entropy(self.probabilities)

    @property
    def mutual_information(self) -> FloatArray:
        """Uncertainty about the weights: entropy of the mean minus the mean of the entropies, in nats, float32
        `(n,)`."""
        return self.entropy - _entropy(self.samples).mean(axis=0)


def _entropy(probabilities):
    return -(probabilities * np.log(np.maximum(probabilities, 1e-37))).sum(axis=-1)


def mc_dropout(
    model: keras.Model, images: Data | Images, *, samples: int = 30, seed: int = 0, batch_size: int = 64
) -> MCDropout:
    """Predict with dropout switched on, several times, with a new mask for every image each time.

    Only layers that drop something are random; batch normalization uses its moving averages, as in prediction.
    Sources: Gal & Ghahramani 2016, section 3, https://arxiv.org/abs/1506.02142; the mutual information: Houlsby et al.
    2011, equation 2, https://arxiv.org/abs/1112.5745

    Args:
        model: `keras.Model` with a Dropout layer, or another layer that is random only in training. It is left as it
            was.
        images: As for `evaluate.classifier`; labels are not read.
        samples: Number of masks, >= 1.
        seed: Integer that fixes the masks.
        batch_size: Images per batch, >= 1.

    Returns:
        An `MCDropout`, with `.probabilities`, `.entropy`, `.mutual_information`.

    Raises:
        ValueError: for a model in which nothing is random, fewer than one sample, or data without images.
    """
    if samples < 1:
        raise ValueError(
            f"ensemble.mc_dropout expects samples >= 1. Received samples={samples}. Thirty are the usual number."
        )
    layers = [node.operation for node in walk(model)]
    layers = list({id(layer): layer for layer in layers if _drops(layer)}.values())
    if not layers:
        raise ValueError(
            f"ensemble.mc_dropout expects a model with a Dropout layer. Received {model.name!r}, which has none. Add "
            "one before the classifier and train, or use ensemble.train_members."
        )
    activation, found = output_activation(model), []
    generators = [layer.seed_generator.state for layer in layers]
    before = [keras.ops.convert_to_numpy(state) for state in generators]
    training = lambda call: functools.partial(_as_in_training, call)  # noqa: E731
    try:
        for number, state in enumerate(generators):
            state.assign(np.array([seed, number], dtype=before[number].dtype))
        batches = as_batches(
            images, model, batch_size=batch_size, caller="ensemble.mc_dropout", name="images"
        )
        with wrapped((layer, "call", training) for layer in layers):
            for images, *_ in batches:
                images = keras.tree.map_structure(keras.ops.convert_to_tensor, of_backend(images))
                outputs = [keras.ops.convert_to_numpy(model(images, training=False)) for _ in range(samples)]
                found.append(np.stack([as_probabilities(one, activation) for one in outputs]))
    finally:
        for state, value in zip(generators, before, strict=True):
            state.assign(value)
    return MCDropout(np.concatenate(found, axis=1).astype("float32"))


def _drops(layer):
    generator = getattr(layer, "seed_generator", None)
    return (
        isinstance(layer, keras.layers.Layer)
        and not isinstance(layer, _NOT_RANDOM)
        and generator is not None
        and not isinstance(layer, keras.layers.RNN)
    )


def _as_in_training(call, *args, **options):
    return call(*args, **{**options, "training": True})
