"""A plain convolutional network: 3x3 convolutions and pooling, in stages."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras

from recipes.common.validation import are_whole, is_whole
from recipes.models.parts import Parts, scaled_image, smallest_side


def plain_cnn(
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    filters: Sequence[int] = (32, 64, 128),
    convs: int = 2,
    norm: Literal["batch", "layer", "instance", "group"] | None = "batch",
    activation: str | Callable[[Any], Any] = "relu",
    initializer: str | keras.initializers.Initializer | dict[str, Any] | None = "he_normal",
    dropout: float = 0.0,
    weight_decay: float = 0.0,
    classifier_activation: str | Callable[[Any], Any] | None = "softmax",
    name: str = "plain_cnn",
) -> keras.Model:
    """Build stages of 3x3 convolutions, halve the image after each stage, average and classify.

    The stacked 3x3 convolutions with 2x2 max pooling come from Simonyan & Zisserman 2014, section 2.1,
    https://arxiv.org/abs/1409.1556. Unlike in their networks, a global average (Lin et al. 2013, section 3.2,
    https://arxiv.org/abs/1312.4400) replaces the dense layers and the last pooling.

    Layers are called `stage1_conv1`, `stage1_norm1`, `stage1_relu1`, ..., `stage1_pool`, `stage1_dropout`;
    the last activation is `top_relu`, then come `top_average` and `predictions`.

    Args:
        input_shape: `(height, width, channels)` of images in 0..255, scaled to -1..1 inside the model.
        classes: Number of outputs, >= 1.
        filters: Number of filters of each stage, one number per stage, each >= 1.
        convs: Convolutions per stage, >= 1.
        norm: "batch", "layer" (over height, width and channels), "instance", "group" (8 groups) or
            None.
        activation: A Keras activation's name or function, or "maxout" (each filter is the largest of two pieces).
        initializer: Initializer of the convolutions' kernels: a Keras initializer or its name. The classifier starts
            at N(0, 0.01), a normal distribution of standard deviation 0.01.
        dropout: Share of activations dropped after each stage in training, in [0, 1).
        weight_decay: Adds `weight_decay * kernel` to each kernel's gradient, >= 0 (biases and norms have no decay).
        classifier_activation: Activation of the last layer, as in `keras.applications`; None gives logits.
        name: Name of the model.

    Returns:
        An uncompiled `keras.Model` with an output of `(batch, classes)`.

    Raises:
        ValueError: when a shape, number or name is none of the above, or the image is too small to be halved
            after every stage but the last.
    """
    known = are_whole(filters) and is_whole(convs)
    if not known or not len(filters) or min(filters) < 1 or convs < 1:
        raise ValueError(
            f"plain_cnn expects one number of filters >= 1 per stage, and convs >= 1. "
            f"Received filters={filters}, convs={convs}. For three stages of two convolutions each, type "
            "filters=(32, 64, 128), convs=2."
        )
    filters = tuple(int(count) for count in filters)
    parts = Parts(norm, activation, initializer, weight_decay, dropout)
    image, x = scaled_image(input_shape, classes, classifier_activation, "plain_cnn")
    needed = 2 ** (len(filters) - 1)
    if (smallest_side(image) or needed) < needed:
        raise ValueError(
            f"plain_cnn with {len(filters)} stages expects images of {needed} pixels or more. "
            f"Received input_shape={tuple(input_shape)}. Give fewer stages, such as filters={filters[:1]}."
        )
    for stage, count in enumerate(filters, start=1):
        last_stage = stage == len(filters)
        for conv in range(1, convs + 1):
            top = last_stage and conv == convs
            x = parts.conv(x, count, 3, f"stage{stage}_conv{conv}")
            x = parts.normalize(x, f"stage{stage}", conv)
            x = parts.activate(x, "top") if top else parts.activate(x, f"stage{stage}", conv)
        if not last_stage:
            x = keras.layers.MaxPooling2D(2, name=f"stage{stage}_pool")(x)
        x = parts.drop(x, f"stage{stage}_dropout")
    x = keras.layers.GlobalAveragePooling2D(name="top_average")(x)
    return keras.Model(image, parts.classify(x, classes, classifier_activation), name=name)
