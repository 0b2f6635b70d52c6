"""Find the input that a pretrained network expects and the first layer of its upper half, from the network itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from recipes.common.traversal import kernel_levels, layers_of

_APPLICATIONS = keras.applications
# Families of keras.applications: a layer name that marks the family, its module, and its image size in pixels.
_FAMILIES = (
    ("conv2_block1_concat", "densenet", 224),
    ("post_bn", "resnet_v2", 224),
    ("conv2_block1_add", "resnet", 224),
    ("block1_conv1_act", "xception", 299),
    ("block3_conv3", "vgg16", 224),
    ("mixed_5b", "inception_resnet_v2", 299),
    ("mixed2", "inception_v3", 299),
    ("conv_dw_1", "mobilenet", 224),
    ("bn_Conv1", "mobilenet_v2", 224),
    ("stem_bn1", "nasnet", 224),
)
_SCALING = (keras.layers.Rescaling, keras.layers.Normalization)


@dataclass(frozen=True)
class BackboneFacts:
    """What `describe_backbone` found in a pretrained network.

    Attributes:
        family: Module of `keras.applications` that the network comes from, such as "mobilenet_v2"; None for all other
            networks.
        image_size: `(height, width)` of its input in pixels. A network that takes any size has the size its family's
            weights were trained on, or None when the family is unknown.
        preprocess: Function to apply to images in 0..255 before the network. None when the network scales its images
            itself, or when no function is known.
        freeze_point: Name of the first layer with weights in the upper half of the network, counted in layers with a
            kernel; None when there is none.
    """

    family: str | None
    image_size: tuple[int, int] | None
    preprocess: Callable[[Any], Any] | None
    freeze_point: str | None


def describe_backbone(backbone: keras.Model) -> BackboneFacts:
    """Tell which images a pretrained network expects, and from which layer to unfreeze it.

    A network of `keras.applications` is recognized by the names of its layers. Those that scale their images
    themselves (EfficientNet, EfficientNetV2, ConvNeXt, MobileNetV3) need no preprocessing.

    Args:
        backbone: A built `keras.Model` of one input, with or without its classifier, or a model that `transfer`
            returned.

    Returns:
        A `BackboneFacts`; facts that are not known are None.

    Example:
        >>> facts = models.describe_backbone(keras.applications.MobileNetV2(include_top=False))
        >>> train, validation, info = recipes.data.load("photos", image_size=facts.image_size)
    """
    names = {layer.name for layer in layers_of(backbone)}
    found = next(((family, size) for marker, family, size in _FAMILIES if marker in names), (None, None))
    family, size = found
    scales = bool(layers_of(backbone, _SCALING))
    sides = backbone.input_shape[1:3] if len(backbone.input_shape) == 4 else (None, None)
    if None in sides:
        sides = (size, size) if size else None
    preprocess = None if family is None or scales else getattr(_APPLICATIONS, family).preprocess_input
    upper = upper_half(backbone)
    return BackboneFacts(family, sides, preprocess, upper[0] if upper else None)


def upper_half(model: keras.Model) -> list[str]:
    """Names of the layers with weights in the upper half of a network, counted in levels of layers with a kernel."""
    levels = kernel_levels(model)
    half = max(levels.values(), default=0) // 2
    return [one.name for one in layers_of(model) if one.weights and levels.get(id(one), 0) > half]
