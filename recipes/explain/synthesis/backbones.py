"""The layers of style and content for the backbones that are usual in style transfer."""

from collections.abc import Sequence

import keras

from recipes.common.traversal import walk
from recipes.explain.engine import layer_lookup
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.options import Layer

# Key: a layer that only this family has. Value: the layers of style, from fine to coarse, and the layer of content.
_FAMILIES = {
    "block5_conv4": ([f"block{n}_conv1" for n in range(1, 6)], "block4_conv2"),  # VGG19, Gatys et al. 2016
    "block5_conv3": ([f"block{n}_conv1" for n in range(1, 6)], "block4_conv2"),  # VGG16
    "conv2_block1_out": (  # ResNet50, ResNet101, ResNet152
        ["conv1_relu", "conv2_block1_out", "conv2_block3_out", "conv3_block4_out", "conv4_block3_out"],
        "conv4_block2_out",
    ),
    "stage7_block1_depthwise": (  # EfficientNet-Lite0: before ReLU6, whose upper end hides differences
        [
            "stem_norm",
            "stage2_block1_expand_norm",
            "stage3_block1_expand_norm",
            "stage4_block1_expand_norm",
            "stage5_block1_expand_norm",
        ],
        "stage4_block2_expand_norm",
    ),
    "stage1_block1_conv1": (  # recipes.models.resnet
        ["stem_conv", "stage1_block1_add", "stage2_block1_add", "stage3_block1_add"],
        "stage2_block1_add",
    ),
}


def style_layers(
    model: keras.Model, chosen: Sequence[Layer] | Layer | None, method: str
) -> tuple[layer_lookup.LayerCall, ...]:
    """The `LayerCall`s of style: the chosen layers, or those of the model's family."""
    if chosen is None:
        chosen = _family(model, "style_layers" if method != "texture" else "layers", method)[0]
    chosen = chosen if isinstance(chosen, (list, tuple)) else [chosen]
    return tuple(layer_lookup.find(model, layer, method=method) for layer in chosen)


def content_layer(model: keras.Model, chosen: Layer | None, method: str) -> layer_lookup.LayerCall:
    """The `LayerCall` of content: the chosen layer, or that of the model's family."""
    if chosen is None:
        chosen = _family(model, "content_layer", method)[1]
    return layer_lookup.find(model, chosen, method=method)


def _family(model, argument, method):
    nodes = walk(model)
    paths = {node.path.rsplit("/", 1)[-1]: node.path for node in nodes}
    for mark, (style, content) in _FAMILIES.items():
        if mark in paths and {*style, content} <= set(paths):
            return [paths[name] for name in style], paths[content]
    maps = [node.path for node in nodes if "Conv" in type(node.operation).__name__]
    raise UsageError(
        f"{method} knows the layers to use for VGG, ResNet and EfficientNet-Lite0. Received model '{model.name}'. "
        f"Give {argument}=, such as one or several of {', '.join(map(repr, maps[:: max(1, len(maps) // 5)]))}."
    )
