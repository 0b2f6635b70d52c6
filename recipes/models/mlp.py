"""A multi-layer perceptron: dense layers one after the other."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras

from recipes.common.validation import are_whole, as_row
from recipes.models.parts import Parts, check_classes, scaled_image


def mlp(
    input_shape: tuple[int, ...],
    classes: int,
    *,
    hidden: Sequence[int] = (256, 256),
    norm: Literal["batch", "layer", "instance", "group"] | None = None,
    activation: str | Callable[[Any], Any] = "relu",
    initializer: str | keras.initializers.Initializer | dict[str, Any] | None = "he_normal",
    dropout: float = 0.0,
    weight_decay: float = 0.0,
    classifier_activation: str | Callable[[Any], Any] | None = "softmax",
    name: str = "mlp",
) -> keras.Model:
    """Build dense layers of `hidden` units, each followed by normalization, activation and dropout.

    Layers are called `dense1`, `norm1`, `relu1` (after the activation), `dropout1`, ..., `predictions`.

    Args:
        input_shape: `(height, width, channels)` of images in 0..255, scaled to -1..1 and flattened inside the
            model, or `(features,)` of vectors, which are not scaled.
        classes: Number of outputs, >= 1.
        hidden: Units of each hidden layer, one number per layer.
        norm: "batch", "layer", "group" (8 groups) or None. "instance" raises, because a vector has no spatial axis to
            average over.
        activation: A Keras activation's name or function, or "maxout" (each unit is the largest of two pieces).
        initializer: Initializer of the hidden kernels: a Keras initializer or its name. The classifier starts at
            N(0, 0.01), a normal distribution of standard deviation 0.01.
        dropout: Share of each hidden layer's activations dropped in training, in [0, 1).
        weight_decay: Adds `weight_decay * kernel` to each kernel's gradient, >= 0 (biases and norms have no decay).
        classifier_activation: Activation of the last layer, as in `keras.applications`; None gives logits.
        name: Name of the model.

    Returns:
        An uncompiled `keras.Model` with an output of `(batch, classes)`.

    Raises:
        ValueError: when a shape, number or name is none of the above.
    """
    input_shape = as_row(input_shape) or ()
    if not are_whole(hidden) or any(units < 1 for units in hidden):
        raise ValueError(
            f"mlp expects hidden to hold numbers of units >= 1. Received hidden={hidden}. "
            "Give one number per hidden layer, such as hidden=(256, 256)."
        )
    hidden = tuple(hidden)
    parts = Parts(norm, activation, initializer, weight_decay, dropout)
    if len(input_shape) == 1:
        check_classes(classes, classifier_activation, "mlp")
        inputs = x = keras.Input(input_shape, name="features")
    else:
        inputs, x = scaled_image(input_shape, classes, classifier_activation, "mlp")
        x = keras.layers.Flatten(name="flatten")(x)
    for number, units in enumerate(hidden, start=1):
        x = parts.dense(x, units, f"dense{number}")
        x = parts.normalize(x, "", number)
        x = parts.activate(x, "", number)
        x = parts.drop(x, f"dropout{number}")
    return keras.Model(inputs, parts.classify(x, classes, classifier_activation), name=name)
