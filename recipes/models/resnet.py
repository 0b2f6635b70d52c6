"""Residual networks for images like CIFAR-10's: thin or wide, plain or pre-activated, with or without normalization."""

from collections.abc import Callable
from typing import Any, Literal

import keras

from recipes.common.validation import is_number, is_whole
from recipes.layers import StochasticDepth, linear_decay
from recipes.models.parts import Parts, scaled_image, smallest_side


def resnet(
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    depth: int = 20,
    width: int = 1,
    block: Literal["basic", "preactivation"] = "basic",
    stem: Literal["auto", 32, 224] = "auto",
    norm: Literal["batch", "layer", "instance", "group"] | None = "batch",
    activation: str | Callable[[Any], Any] = "relu",
    initializer: str | keras.initializers.Initializer | dict[str, Any] | None = "he_normal",
    stochastic_depth: float = 0.0,
    dropout: float = 0.0,
    weight_decay: float = 0.0,
    classifier_activation: str | Callable[[Any], Any] | None = "softmax",
    name: str = "resnet",
) -> keras.Model:
    """Build three stages of residual blocks with 16, 32 and 64 filters times `width`.

    - `block="basic"`: He et al. 2015, section 4.2, https://arxiv.org/abs/1512.03385. Depth 6n+2, two 3x3 convolutions
      per block, activation after the addition, shortcuts without parameters (option A). ResNet-20 has 0.27 M
      parameters.
    - `block="preactivation"`: He et al. 2016, figure 1b, https://arxiv.org/abs/1603.05027, and Wide ResNets,
      Zagoruyko & Komodakis 2016, table 1, https://arxiv.org/abs/1605.07146: normalization and activation before each
      convolution, 1x1 convolutions as shortcuts where the shape changes. Depth is 6n+4 as Wide ResNets count it (with
      the convolutions of the shortcuts), or 6n+2 as He et al. count it. WRN-28-10 is `depth=28, width=10`.
    - `norm=None`: Fixup, Zhang et al. 2019, section 3, https://arxiv.org/abs/1901.09321, with either block. The paper
      trains the scalars at a tenth of the learning rate; here all weights have the same rate.

    Layers are called `stem_conv`, `stage2_block1_conv1`, `stage2_block1_norm1`, `stage2_block1_relu1`, ...,
    `stage2_block1_add`; the last activation is `top_relu`, then come `top_average` and `predictions`.

    Args:
        input_shape: `(height, width, channels)` of images in 0..255, scaled to -1..1 inside the model.
        classes: Number of outputs, >= 1.
        depth: Layers with weights: 8, 14, 20, 32, 44, 56, 110 ... (6n+2); 10, 16, 22, 28, 40 ... (6n+4).
        width: Factor on the filters of every stage, a whole number >= 1.
        block: "basic" or "preactivation".
        stem: 32 is a 3x3 convolution, for small images. 224 is a 7x7 convolution and a max pooling, both with strides
            of 2 (He et al. 2015, table 1), for large images. "auto" takes 224 when the smaller side has 112 pixels or
            more.
        norm: "batch", "layer" (over height, width and channels), "instance", "group" (8 groups), None (Fixup).
        activation: A Keras activation's name or function; or "maxout", which takes the largest of two pieces in every
            3x3 convolution and has no activation after it, nor after the addition.
        initializer: Initializer of the convolutions' kernels: a Keras initializer or its name. The classifier starts
            at N(0, 0.01), a normal distribution of standard deviation 0.01, or at 0 with `norm=None`.
        stochastic_depth: Share of examples whose last block is dropped in training, in [0, 1). Earlier blocks are
            dropped less often, by linear decay (Huang et al. 2016, section 3, https://arxiv.org/abs/1603.09382; paper:
            0.5).
        dropout: Share of activations dropped between a block's convolutions in training, in [0, 1) (Wide ResNets,
            section 3.4: 0.3).
        weight_decay: Adds `weight_decay * kernel` to each kernel's gradient, >= 0 (biases and norms have no decay).
        classifier_activation: Activation of the last layer, as in `keras.applications`; None gives logits.
        name: Name of the model.

    Returns:
        An uncompiled `keras.Model` with an output of `(batch, classes)`.

    Raises:
        ValueError: when a shape, number or name is none of the above.
    """
    blocks = _blocks_a_stage(depth, block)
    if not is_number(width) or width < 1 or width != int(width):
        raise ValueError(
            f"resnet expects width to be a whole number >= 1. Received width={width}. "
            "The networks of He et al. have 1, Wide ResNets up to 10."
        )
    parts = Parts(norm, activation, initializer, weight_decay, dropout, 3 * blocks if norm is None else 0)
    drop_rates = linear_decay(stochastic_depth, 3 * blocks)
    image, x = scaled_image(input_shape, classes, classifier_activation, "resnet")
    x = _stem(parts, x, stem, block)
    for index, rate in enumerate(drop_rates):
        stage, number = index // blocks + 1, index % blocks + 1
        last = index == 3 * blocks - 1
        x = BLOCKS[block](
            parts,
            x,
            filters=16 * int(width) * 2 ** (stage - 1),
            strides=2 if number == 1 and stage > 1 else 1,
            drop_rate=rate,
            prefix=f"stage{stage}_block{number}",
            last=last,
        )
    if block == "preactivation":
        x = parts.activate(parts.normalize(x, "top"), "top")
    x = keras.layers.GlobalAveragePooling2D(name="top_average")(x)
    return keras.Model(image, parts.classify(x, classes, classifier_activation), name=name)


def basic_block(
    parts: Parts, inputs: Any, *, filters: int, strides: int, drop_rate: float, prefix: str, last: bool
) -> Any:
    """The basic residual block of He et al. 2015, figure 5 left, https://arxiv.org/abs/1512.03385."""
    x = parts.conv(
        inputs,
        filters,
        3,
        f"{prefix}_conv1",
        strides=strides,
        initializer=parts.inside_branch(f"{prefix}_conv1"),
    )
    x = parts.activate(parts.normalize(x, prefix, 1), prefix, 1)
    x = parts.drop(x, f"{prefix}_dropout")
    x = parts.conv(x, filters, 3, f"{prefix}_conv2", initializer=parts.ending_branch())
    x = parts.gain(x, f"{prefix}_gain") if parts.branches else parts.normalize(x, prefix, 2)
    if drop_rate:
        x = StochasticDepth(drop_rate, name=f"{prefix}_depth")(x)
    shortcut = inputs
    if strides > 1 or inputs.shape[-1] != filters:
        shortcut = _padded(inputs, filters, strides, f"{prefix}_shortcut")
    x = keras.layers.Add(name=f"{prefix}_add")([shortcut, x])
    return parts.activate(x, "top") if last else parts.activate(x, prefix, 2)


def preactivation_block(
    parts: Parts, inputs: Any, *, filters: int, strides: int, drop_rate: float, prefix: str, last: bool
) -> Any:
    """The pre-activated block of He et al. 2016, figure 1b, https://arxiv.org/abs/1603.05027.

    Where the shape changes, the branch and the shortcut both start from the activation.
    """
    active = parts.activate(parts.normalize(inputs, prefix, 1), prefix, 1)
    x = parts.conv(
        active,
        filters,
        3,
        f"{prefix}_conv1",
        strides=strides,
        initializer=parts.inside_branch(f"{prefix}_conv1"),
    )
    x = parts.activate(parts.normalize(x, prefix, 2), prefix, 2)
    x = parts.drop(x, f"{prefix}_dropout")
    x = parts.conv(x, filters, 3, f"{prefix}_conv2", initializer=parts.ending_branch())
    x = parts.gain(x, f"{prefix}_gain")
    if drop_rate:
        x = StochasticDepth(drop_rate, name=f"{prefix}_depth")(x)
    shortcut = inputs
    if strides > 1 or inputs.shape[-1] != filters:
        shortcut = keras.layers.Conv2D(
            filters,
            1,
            strides=strides,
            use_bias=False,
            kernel_initializer=parts.draws(f"{prefix}_shortcut"),
            kernel_regularizer=parts.regularizer,
            name=f"{prefix}_shortcut",
        )(active)
    return keras.layers.Add(name=f"{prefix}_add")([shortcut, x])


def _padded(inputs, filters, strides, name):
    """`layers.IdentityShortcut` of layers that Keras has, so that a saved network loads without this library."""
    kept = (
        keras.layers.AveragePooling2D(1, strides, name=f"{name}_subsample")(inputs) if strides > 1 else inputs
    )
    more = filters // inputs.shape[-1] - 1  # all widths are multiples of the stem's
    if not more:
        return kept
    zeros = keras.layers.Rescaling(0.0, name=f"{name}_zeros")(kept)
    return keras.layers.Concatenate(name=name)([kept, *[zeros] * more])


BLOCKS = {"basic": basic_block, "preactivation": preactivation_block}


def _stem(parts, inputs, stem, block):
    if stem not in ("auto", 32, 224):
        raise ValueError(
            f"resnet expects stem to be 'auto', 32 or 224. Received stem={stem!r}. "
            "Take 32 for images of up to 100 pixels, 224 for larger ones."
        )
    large = stem == 224 or (stem == "auto" and (smallest_side(inputs) or 0) >= 112)
    if not large:
        x = parts.conv(inputs, 16, 3, "stem_conv")
        # A pre-activated block normalizes and activates its own input.
        return x if block == "preactivation" else parts.activate(parts.normalize(x, "stem"), "stem")
    x = parts.conv(inputs, 16, 7, "stem_conv", strides=2)
    x = parts.activate(parts.normalize(x, "stem"), "stem")
    return keras.layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pool")(x)


def _blocks_a_stage(depth, block):
    if block not in BLOCKS:
        raise ValueError(
            f"resnet expects block to be one of {tuple(BLOCKS)}. Received block={block!r}. "
            "Take 'basic' for He et al. 2015, 'preactivation' for He et al. 2016 and Wide ResNets."
        )
    if not is_whole(depth):
        raise ValueError(
            f"resnet expects depth to be a whole number, such as 20, 32 or 56. Received depth={depth!r}. Take 20."
        )
    blocks, rest = divmod(depth - 2, 6)
    if blocks < 1 or rest not in ((0,) if block == "basic" else (0, 2)):
        kinds, near = (
            ("6n+2", 6 * max(1, round((depth - 2) / 6)) + 2)
            if block == "basic"
            else (
                "6n+4 or 6n+2",
                6 * max(1, round((depth - 4) / 6)) + 4,
            )
        )
        raise ValueError(
            f"resnet expects a depth of {kinds} for block={block!r}. Received depth={depth}. Take {near}."
        )
    return blocks
