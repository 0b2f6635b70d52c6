"""calibrate: one number, stored in the model, that corrects its probabilities; or two numbers per class."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

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

    The order of the classes does not change, because dividing by a number above 0 keeps every comparison.
    Source: Guo et al. 2017, section 4.2, https://arxiv.org/abs/1706.04599

    Args:
        temperature: > 0; above 1 the probabilities become more even.
        activation: What the inputs are: "softmax" or "sigmoid" probabilities, or "linear", logits, which come out as
            logits.

    Input shape: `(batch, classes)`. Output shape: the same.

    Raises:
        ValueError: for a temperature of 0 or less.
    """

    def __init__(self, temperature: float, activation: str = "softmax", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not temperature > 0:
            raise ValueError(
                f"Temperature expects a temperature > 0. Received {temperature!r}. Give 1 to change nothing."
            )
        self.temperature, self.activation = float(temperature), keras.activations.get(activation)

    def call(self, inputs: Any) -> Any:
        return self.activation(_layer_logits(inputs, self.activation) / self.temperature)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "temperature": self.temperature,
            "activation": keras.activations.serialize(self.activation),
        }


@keras.saving.register_keras_serializable(package="recipes")
class VectorScaling(keras.layers.Layer):
    """Scale and shift the logits of each class: `softmax(scale * logits + offset)`. The likeliest class may change.

    The logarithms of softmax probabilities take the place of the logits, from which they differ by a constant per
    example.
    Source: Guo et al. 2017, section 4.2, https://arxiv.org/abs/1706.04599

    Args:
        scale: Factor on the logit of each class.
        offset: What is added to the scaled logit of each class.
        activation: What the inputs are, as in `Temperature`.

    Input shape: `(batch, classes)`. Output shape: the same.
    """

    def __init__(
        self, scale: Sequence[float], offset: Sequence[float], activation: str = "softmax", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.scale, self.offset = list(map(float, scale)), list(map(float, offset))
        self.activation = keras.activations.get(activation)

    def call(self, inputs: Any) -> Any:
        scale, offset = (keras.ops.cast(row, inputs.dtype) for row in (self.scale, self.offset))
        logits = _layer_logits(inputs, self.activation) * scale + offset
        return self.activation(logits)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "scale": self.scale,
            "offset": self.offset,
            "activation": keras.activations.serialize(self.activation),
        }


def _layer_logits(inputs, activation):
    if activation is keras.activations.linear:
        return inputs
    smallest = 1e-37  # of float32, above which log is finite
    logs = keras.ops.log(keras.ops.maximum(inputs, smallest))
    if activation is keras.activations.softmax:
        return logs
    return logs - keras.ops.log(keras.ops.maximum(1 - inputs, smallest))


def calibrate(
    model: Any,
    validation: Data,
    *,
    method: Literal["temperature", "vector"] = "temperature",
    batch_size: int = 64,
) -> Any:
    """Add the temperature to a model at which its probabilities fit held-out examples best (temperature scaling).

    One number is fitted, which minimizes the mean negative log-likelihood (convex in its inverse), so a few hundred
    examples are enough and the predicted classes stay as they are.
    Source: Guo et al. 2017, section 4.2, https://arxiv.org/abs/1706.04599

    Args:
        model: A trained Functional or Sequential `keras.Model` that ends in a softmax, a sigmoid, or logits; or a
            `recipes.Run`.
        validation: Examples it was not trained on, as for `evaluate.classifier`. Not the test set.
        method: "temperature": one number. "vector": a scale and an offset per class (`VectorScaling`), for thousands of
            examples; this can change predicted classes, and the change in accuracy on `validation` is printed.
        batch_size: Images per batch, >= 1.

    Returns:
        A new `keras.Model` that shares the weights, with a `Temperature` (or `VectorScaling`) after the output, saved
        with it. `model.get_layer("temperature").temperature` is its value. For a run, a run with such a model:
        `.save(folder)` and `.export(path)` keep the temperature.

    Raises:
        ValueError: for a model whose output cannot be read, labels that do not fit, or an unknown method.
    """
    if not isinstance(model, keras.Model) and hasattr(model, "model"):
        calibrated = calibrate(model.model, validation, method=method, batch_size=batch_size)
        return dataclasses.replace(model, model=calibrated)
    if method not in ("temperature", "vector"):
        raise ValueError(
            f"evaluate.calibrate expects method 'temperature' or 'vector'. Received {method!r}. The first changes no "
            "predicted class."
        )
    activation = output_activation(model)
    if activation not in ("softmax", "sigmoid", "linear") or len(model.outputs) != 1:
        raise ValueError(
            "evaluate.calibrate expects a Functional or Sequential model of one output that ends in softmax, sigmoid "
            f"or logits. Received {model.name!r}, which ends in {activation!r}. Wrap it so that it does."
        )
    outputs, labels, weights = predict_labeled(model, validation, batch_size, "evaluate.calibrate")
    weights = np.ones(len(outputs)) if weights is None else weights
    logits, yes = _logits(outputs.astype("float64"), activation), _rows(labels, outputs.shape[-1])
    sigmoids = activation == "sigmoid" or outputs.shape[-1] == 1
    if method == "vector":
        layer = _vector_layer(logits, yes, weights, sigmoids, activation)
    else:
        bounds = np.log(_LOWEST), np.log(_HIGHEST)
        loss = lambda log_inverse: _loss(logits * np.exp(log_inverse), yes, weights, sigmoids)[0]  # noqa: E731
        found = optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
        layer = Temperature(float(np.exp(-found.x)), activation, name="temperature", dtype="float32")
    return keras.Model(model.inputs, layer(model.outputs[0]), name=f"{model.name}_calibrated")


def _loss(logits, yes, weights, sigmoids):
    """Mean negative log-likelihood, and its gradient by the logits."""
    total = weights.sum()
    if sigmoids:
        value = (weights[:, None] * (np.logaddexp(0, logits) - yes * logits)).sum() / total
        return value, weights[:, None] * (special.expit(logits) - yes) / total
    value = (weights * (special.logsumexp(logits, axis=1) - (yes * logits).sum(axis=1))).sum() / total
    return value, weights[:, None] * (special.softmax(logits, axis=1) - yes) / total


def _vector_layer(logits, yes, weights, sigmoids, activation):
    classes = logits.shape[1]

    def loss(numbers):
        value, gradient = _loss(logits * numbers[:classes] + numbers[classes:], yes, weights, sigmoids)
        return value, np.concatenate([(gradient * logits).sum(0), gradient.sum(0)])

    start = np.concatenate([np.ones(classes), np.zeros(classes)])
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B").x
    scale, offset = found[:classes], found[classes:]
    before, after = (_accuracy(each, yes, weights, sigmoids) for each in (logits, logits * scale + offset))
    print(f"evaluate.calibrate: vector scaling changes the accuracy from {before:.2%} to {after:.2%}")
    return VectorScaling(scale, offset, activation, name="vector_scaling", dtype="float32")


def _accuracy(logits, yes, weights, sigmoids):
    right = ((logits > 0) == (yes > 0.5)).all(1) if sigmoids else logits.argmax(1) == yes.argmax(1)
    return float((weights * right).sum() / weights.sum())


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
