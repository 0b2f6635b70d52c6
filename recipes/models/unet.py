"""A U-Net for semantic segmentation: a class for every pixel."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras

from recipes.common.validation import are_whole
from recipes.models.parts import Parts, output_dtype, scaled_image


def unet(
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    filters: Sequence[int] = (16, 32, 64, 128),
    norm: Literal["batch", "layer", "instance", "group"] | None = "batch",
    activation: str | Callable[[Any], Any] = "relu",
    initializer: str | keras.initializers.Initializer | dict[str, Any] | None = "he_normal",
    dropout: float = 0.0,
    weight_decay: float = 0.0,
    classifier_activation: str | Callable[[Any], Any] | None = "softmax",
    name: str = "unet",
) -> keras.Model:
    """Build a U-Net, which halves the image stage by stage, doubles it again, and predicts a class for each pixel.

    Source: Ronneberger et al. 2015, "U-Net", section 2, https://arxiv.org/abs/1505.04597.

    A stage has two 3x3 convolutions, and a skip connection leads from each stage of the downward path to the stage of
    the same size of the upward path. Three things differ from the paper. Convolutions are padded, so that the output
    map is as large as the image. Normalization is added. Nearest-neighbor upsampling replaces transposed convolutions,
    which produce checkerboard artifacts (Odena et al. 2016, https://distill.pub/2016/deconv-checkerboard).

    Layers are called `down1_conv1`, `down1_norm1`, `down1_relu1`, ..., `up1_conv2`, `up1_norm2`, `top_relu`, and
    `predictions`.

    Args:
        input_shape: `(height, width, channels)` of images in 0..255, scaled to -1..1 inside the model. Sides that are
            not a multiple of `2 ** (len(filters) - 1)` are padded inside the model, and the output is cropped to the
            size of the image. Where a side is None, the images must have such a multiple.
        classes: Number of outputs per pixel, >= 1.
        filters: Number of filters of each stage of the downward path, two or more numbers, each >= 1.
        norm: As in `plain_cnn`.
        activation: As in `plain_cnn`.
        initializer: Initializer of all convolution kernels except the last: a Keras initializer or its name.
        dropout: Share of activations dropped at the lowest stage in training, in [0, 1).
        weight_decay: Adds `weight_decay * kernel` to each kernel's gradient, >= 0 (biases and norms have no decay).
        classifier_activation: Activation of the last layer: "softmax", "sigmoid" for `classes=1`, None for logits.
        name: Name of the model.

    Returns:
        An uncompiled `keras.Model` with an output of `(batch, height, width, classes)`.

    Raises:
        ValueError: when a shape, number or name is none of the above.
    """
    if not are_whole(filters) or len(filters) < 2 or min(filters) < 1:
        raise ValueError(
            f"unet expects filters to hold two or more numbers >= 1, one per stage. Received filters={filters!r}. "
            "The default is filters=(16, 32, 64, 128)."
        )
    parts = Parts(norm, activation, initializer, weight_decay, dropout)
    image, x = scaled_image(input_shape, classes, classifier_activation, "unet")
    padding = [_padding(side, 2 ** (len(filters) - 1)) for side in image.shape[1:3]]
    if any(map(sum, padding)):
        x = keras.layers.ZeroPadding2D(padding, name="pad")(x)
    seen = []
    for stage, count in enumerate(filters, start=1):
        if stage > 1:
            seen.append(x)
            x = keras.layers.MaxPooling2D(2, name=f"down{stage}_pool")(x)
        x = _two_convolutions(parts, x, int(count), f"down{stage}")
    x = parts.drop(x, "bottom_dropout")
    for stage, count in reversed(list(enumerate(filters[:-1], start=1))):
        x = keras.layers.UpSampling2D(2, name=f"up{stage}_double")(x)
        x = keras.layers.Concatenate(name=f"up{stage}_join")([x, seen[stage - 1]])
        x = _two_convolutions(parts, x, int(count), f"up{stage}", last="top" if stage == 1 else None)
    if any(map(sum, padding)):
        x = keras.layers.Cropping2D(padding, name="cut")(x)
    x = keras.layers.Conv2D(
        classes,
        1,
        activation=classifier_activation,
        kernel_regularizer=parts.regularizer,
        dtype=output_dtype(),
        name="predictions",
    )(x)
    return keras.Model(image, x, name=name)


def _padding(side, multiple):
    missing = 0 if side is None else -side % multiple
    return missing // 2, missing - missing // 2


def _two_convolutions(parts, x, filters, prefix, last=None):
    for conv in (1, 2):
        x = parts.conv(x, filters, 3, f"{prefix}_conv{conv}")
        x = parts.normalize(x, prefix, conv)
        top = last is not None and conv == 2
        x = parts.activate(x, last) if top else parts.activate(x, prefix, conv)
    return x
