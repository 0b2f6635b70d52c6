"""calibrate: one number that makes probabilities honest, inside the model."""

from typing import Any

import keras
import numpy as np
from scipy import optimize, special

from recipes.common.models import output_activation
from recipes.common.types import Data
from recipes.evaluate.classifier import predict_labeled

_LOWEST, _HIGHEST = 1e-2, 1e2


@keras.saving.register_keras_serializable(package="recipes")
class Temperature(keras.layers.Layer):
    """Soften probabilities: `softmax(log(p) / temperature)`, which is the softmax of the logits over the temperature.

    The order of the classes stays: for a temperature above 0 dividing changes no comparison, and equal stays equal.
    Source: Guo et al. 2017, section 4.2, https://arxiv.org/abs/1706.04599

    Args:
        temperature: > 0; above 1 the probabilities become more even.
        activation: What the inputs are: "softmax" or "sigmoid" probabilities, or "linear", logits, which come out as
            logits.

    Input shape: `(batch, classes)`. Output shape: the same.
    """

    def __init__(self, temperature: float, activation: str = "softmax", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not temperature > 0:
            raise ValueError(
                f"Temperature expects a temperature > 0. Received {temperature!r}. 1 changes nothing."
            )
        self.temperature, self.activation = float(temperature), keras.activations.get(activation)

    def call(self, inputs: Any) -> Any:
        if self.activation is keras.activations.linear:
            return inputs / self.temperature
        smallest = 1e-37  # of float32, above which log is finite
        logs = keras.ops.log(keras.ops.maximum(inputs, smallest))
        if self.activation is keras.activations.softmax:
            return keras.ops.softmax(logs / self.temperature)
        return keras.ops.sigmoid(
            (logs - keras.ops.log(keras.ops.maximum(1 - inputs, smallest))) / self.temperature
        )

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "temperature": self.temperature,
            "activation": keras.activations.serialize(self.activation),
        }


def calibrate(model: keras.Model, validation: Data, *, batch_size: int = 64) -> keras.Model:
    """Put the temperature into a model at which its probabilities fit held-out examples best.

    One number is fitted, which minimizes the mean negative log-likelihood (convex in its inverse), so a few hundred
    examples are enough and the predicted classes stay as they are.
    Source: Guo et al. 2017, section 4.2, https://arxiv.org/abs/1706.04599

    Args:
        model: A trained Functional or Sequential `keras.Model` that ends in a softmax, a sigmoid, or logits.
        validation: Examples it was not trained on, as for `evaluate.classifier`. Not the test set.
        batch_size: Images at once.

    Returns:
        A new `keras.Model` that shares the weights, with a `Temperature` after the output, saved with it.
        `model.get_layer("temperature").temperature` tells it.

    Raises:
        ValueError: for a model whose output cannot be read, or labels that do not fit.
    """
    activation = output_activation(model)
    if activation not in ("softmax", "sigmoid", "linear") or len(model.outputs) != 1:
        raise ValueError(
            "evaluate.calibrate expects a Functional or Sequential model of one output that ends in softmax, sigmoid "
            f"or logits. Received {model.name!r}, which ends in {activation!r}. Wrap it so that it does."
        )
    outputs, labels, weights = predict_labeled(model, validation, batch_size, "evaluate.calibrate")
    weights = np.ones(len(outputs)) if weights is None else weights
    logits, yes = _logits(outputs.astype("float64"), activation), _rows(labels, outputs.shape[-1])
    if activation == "sigmoid" or outputs.shape[-1] == 1:

        def loss(log_inverse):
            scaled = logits * np.exp(log_inverse)
            return (weights[:, None] * (np.logaddexp(0, scaled) - yes * scaled)).sum()
    else:

        def loss(log_inverse):
            scaled = logits * np.exp(log_inverse)
            return (weights * (special.logsumexp(scaled, axis=1) - (yes * scaled).sum(axis=1))).sum()

    bounds = np.log(_LOWEST), np.log(_HIGHEST)
    found = optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    layer = Temperature(float(np.exp(-found.x)), activation, name="temperature", dtype="float32")
    return keras.Model(model.inputs, layer(model.outputs[0]), name=f"{model.name}_calibrated")


def _logits(outputs, activation):
    tiny = 1e-37
    if activation == "linear":
        return outputs
    logs = np.log(np.maximum(outputs, tiny))
    return logs if activation == "softmax" else logs - np.log(np.maximum(1 - outputs, tiny))


def _rows(labels, classes):
    if labels.ndim == 2 and labels.shape[1] == classes:
        return labels.astype("float64")
    labels = labels.reshape(-1)
    if labels.min() < 0 or labels.max() >= max(2, classes):
        raise ValueError(
            f"evaluate.calibrate expects class numbers in 0..{max(2, classes) - 1}. Received {labels.min()} to "
            f"{labels.max()}. Number the classes as in training."
        )
    return labels[:, None].astype("float64") if classes == 1 else np.eye(classes)[labels.astype(int)]
