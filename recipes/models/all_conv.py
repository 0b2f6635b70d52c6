"""The all-convolutional network, on which guided backpropagation was first shown."""

from collections.abc import Callable
from typing import Any, Literal

import keras

from recipes.common.validation import is_number
from recipes.models.parts import Parts, output_dtype, scaled_image, smallest_side

# Filters, kernel size, strides, padding of each convolution: the column All-CNN-C of table 2.
STAGES = (
    ((96, 3, 1, "same"), (96, 3, 1, "same"), (96, 3, 2, "same")),
    ((192, 3, 1, "same"), (192, 3, 1, "same"), (192, 3, 2, "same")),
    ((192, 3, 1, "valid"), (192, 1, 1, "same")),
)


def all_conv(
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    norm: Literal["batch", "layer", "instance", "group"] | None = None,
    activation: str | Callable[[Any], Any] = "relu",
    initializer: str | keras.initializers.Initializer | dict[str, Any] | None = "he_normal",
    dropout: float = 0.5,
    input_dropout: float = 0.2,
    weight_decay: float = 0.0,
    classifier_activation: str | Callable[[Any], Any] | None = "softmax",
    name: str = "all_conv",
) -> keras.Model:
    """Build All-CNN-C: convolutions only, two of them with strides in place of pooling.

    Source: Springenberg et al. 2014, tables 1 and 2 and section 3.2.1, https://arxiv.org/abs/1412.6806. It has 1.37 M
    parameters for ten classes of RGB images. The paper trains it with a weight decay of 0.001.

    Layers are called `stage1_conv1`, `stage1_relu1`, ... `stage1_dropout`; the last activation is `top_relu`, then
    come `class_conv` (one map per class), `top_average` and `predictions`.

    Args:
        input_shape: `(height, width, channels)` of images in 0..255, scaled to -1..1 inside the model; height and
            width at least 9.
        classes: Number of outputs, >= 1.
        norm: None as in the paper, "batch", "layer" (over height, width and channels), "instance" or "group"
            (8 groups).
        activation: A Keras activation's name or function, or "maxout" (the largest of two pieces).
        initializer: Initializer of the convolutions' kernels: a Keras initializer or its name. The classifier starts
            at N(0, 0.01), a normal distribution of standard deviation 0.01.
        dropout: Share of activations dropped after each convolution with strides, in [0, 1). Paper: 0.5.
        input_dropout: Share of the image's values dropped, in [0, 1). Paper: 0.2.
        weight_decay: Adds `weight_decay * kernel` to each kernel's gradient, >= 0 (biases and norms have no decay).
        classifier_activation: Activation of the last layer, as in `keras.applications`; None gives logits.
        name: Name of the model.

    Returns:
        An uncompiled `keras.Model` with an output of `(batch, classes)`.

    Raises:
        ValueError: when a shape, number or name is none of the above.
    """
    parts = Parts(norm, activation, initializer, weight_decay, dropout)
    if not is_number(input_dropout) or not 0 <= input_dropout < 1:
        raise ValueError(
            f"all_conv expects input_dropout in [0, 1), the share that is dropped. "
            f"Received input_dropout={input_dropout}. Use 0 to turn it off."
        )
    image, x = scaled_image(input_shape, classes, classifier_activation, "all_conv")
    if (smallest_side(image) or 9) < 9:
        raise ValueError(
            f"all_conv expects images of 9 pixels or more. Received input_shape={tuple(input_shape)}. "
            "Take recipes.models.plain_cnn for smaller ones."
        )
    if input_dropout:
        x = keras.layers.Dropout(input_dropout, name="input_dropout")(x)
    for stage, convolutions in enumerate(STAGES, start=1):
        for number, (filters, kernel_size, strides, padding) in enumerate(convolutions, start=1):
            top = stage == len(STAGES) and number == len(convolutions)
            name_ = f"stage{stage}_conv{number}"
            x = parts.conv(x, filters, kernel_size, name_, strides=strides, padding=padding)
            x = parts.normalize(x, f"stage{stage}", number)
            x = parts.activate(x, "top") if top else parts.activate(x, f"stage{stage}", number)
        if stage < len(STAGES):
            x = parts.drop(x, f"stage{stage}_dropout")
    x = keras.layers.Conv2D(
        classes,
        1,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        kernel_regularizer=parts.regularizer,
        name="class_conv",
    )(x)
    x = keras.layers.GlobalAveragePooling2D(name="top_average")(x)
    x = keras.layers.Activation(classifier_activation, dtype=output_dtype(), name="predictions")(x)
    return keras.Model(image, x, name=name)
