"""Residual networks of the CIFAR kind, thin or wide, for small or large images."""

import keras

from recipes.layers import IdentityShortcut
from recipes.models.parts import Parts, scaled_image


def resnet(
    input_shape,
    classes,
    *,
    depth=20,
    width=1,
    norm="batch",
    activation="relu",
    initializer="he_normal",
    dropout=0.0,
    weight_decay=0.0,
    classifier_activation="softmax",
    name="resnet",
):
    """Build three stages of residual blocks with 16, 32 and 64 filters times `width`.

    Source: He et al. 2015, section 4.2, https://arxiv.org/abs/1512.03385: depth 6n+2, two 3x3 convolutions a
    block, shortcuts without parameters (option A).

    Layers are called `stem_conv`, `stage2_block1_conv1`, `stage2_block1_norm1`, `stage2_block1_relu1`, ...,
    `stage2_block1_add`; the last activation is `top_relu`, then come `top_average` and `predictions`.

    Args:
        input_shape: `(height, width, channels)` of images in 0..255, scaled to -1..1 inside the model.
        classes: Number of outputs, >= 1.
        depth: Layers with weights, 6n+2: 8, 14, 20, 32, 44, 56, 110 ...
        width: Factor on the filters of every stage, >= 1.
        norm: "batch", "layer" (over height, width and channels), "group" (8 groups) or None.
        activation: A Keras activation's name or function.
        initializer: Of the convolutions' kernels: a Keras initializer or its name. The classifier starts at
            N(0, 0.01).
        dropout: Share of activations dropped between a block's convolutions in training, in [0, 1).
        weight_decay: Adds `weight_decay * kernel` to each kernel's gradient (biases and norms are spared).
        classifier_activation: Of the last layer, as in `keras.applications`; None gives logits.
        name: Name of the model.

    Returns:
        An uncompiled `keras.Model`.

    Raises:
        ValueError: when a shape, number or name is none of the above.
    """
    blocks, rest = divmod(depth - 2, 6)
    if blocks < 1 or rest:
        raise ValueError(
            f"resnet expects a depth of 6n+2. Received depth={depth}. "
            f"Take {6 * max(1, round((depth - 2) / 6)) + 2}."
        )
    if width < 1:
        raise ValueError(f"resnet expects width >= 1. Received width={width}. The paper's networks have 1.")
    parts = Parts(norm, activation, initializer, weight_decay, dropout)
    image, x = scaled_image(input_shape, classes, classifier_activation, "resnet")
    x = parts.conv(x, 16, 3, "stem_conv")
    x = parts.activate(parts.normalize(x, "stem_norm"), "stem")
    for stage in (1, 2, 3):
        for number in range(1, blocks + 1):
            prefix = f"stage{stage}_block{number}"
            strides = 2 if number == 1 and stage > 1 else 1
            x = basic_block(parts, x, 16 * width * 2 ** (stage - 1), strides, prefix)
            top = (stage, number) == (3, blocks)
            x = parts.activate(x, "top") if top else parts.activate(x, prefix, 2)
    x = keras.layers.GlobalAveragePooling2D(name="top_average")(x)
    return keras.Model(image, parts.classify(x, classes, classifier_activation), name=name)


def basic_block(parts, inputs, filters, strides, prefix):
    """The block of He et al. 2015, figure 5 left, up to the addition."""
    x = parts.conv(inputs, filters, 3, f"{prefix}_conv1", strides)
    x = parts.activate(parts.normalize(x, f"{prefix}_norm1"), prefix, 1)
    x = parts.drop(x, f"{prefix}_dropout")
    x = parts.conv(x, filters, 3, f"{prefix}_conv2")
    x = parts.normalize(x, f"{prefix}_norm2")
    shortcut = inputs
    if strides > 1 or inputs.shape[-1] != filters:
        shortcut = IdentityShortcut(filters, strides, name=f"{prefix}_shortcut")(inputs)
    return keras.layers.Add(name=f"{prefix}_add")([shortcut, x])
