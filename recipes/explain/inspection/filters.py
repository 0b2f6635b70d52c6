"""The weights of a layer as images."""

from typing import Literal

import keras
import numpy as np

from recipes.common.traversal import walk
from recipes.common.types import FloatArray
from recipes.explain.engine import layer_lookup
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.options import Layer


def filters(
    model: keras.Model, layer: Layer | None = None, *, normalize: Literal["together", "each"] = "together"
) -> FloatArray:
    """Show a layer's filters as images, gray where a weight is 0.

    Source: Krizhevsky et al. 2012, figure 3. By default all filters share one scale, so that a weak filter looks weak.
    If each filter is scaled separately, noise looks like structure.

    Args:
        model: A built `keras.Model`.
        layer: A convolution, or a Dense layer on a flattened image (whose templates are then shown), by
            object, name, path or index. None takes the first of either kind.
        normalize: "together" (the largest weight of all filters becomes black or white) or "each" (the largest weight
            of each filter does).

    Returns:
        float32 in 0..1: `(filters, height, width, channels)` if a filter has 1, 3 or 4 channels; otherwise one
        gray image per filter and channel, `(filters, channels, height, width, 1)`.

    Raises:
        ValueError: when the layer is unknown or has no filters, or `normalize` is another word.
    """
    if normalize not in ("together", "each"):
        raise UsageError(
            f"filters expects normalize to be 'together' or 'each'. Received {normalize!r}. Write 'together' to "
            "compare filters on one scale."
        )
    found = (
        layer_lookup.find(model, layer, call_index=0, method="filters").operation
        if layer is not None
        else _first(model)
    )
    kernel = np.asarray(getattr(found, "kernel", np.zeros(0)), "float32")
    shape = getattr(model, "input_shape", None)
    if isinstance(found, keras.layers.DepthwiseConv2D):
        kernel = kernel.reshape(*kernel.shape[:2], 1, -1)
    elif isinstance(found, keras.layers.Dense) and isinstance(shape, tuple) and len(shape) == 4:
        if None not in shape[1:] and len(kernel) == np.prod(shape[1:]):
            kernel = kernel.reshape(*shape[1:], -1)
    if kernel.ndim != 4:
        raise UsageError(
            f"filters expects a 2-D convolution, or a Dense layer on the flattened image. Layer '{found.name}' "
            f"has weights of shape {kernel.shape}. Choose another with layer=."
        )
    images = np.moveaxis(kernel, -1, 0)
    axes = None if normalize == "together" else (1, 2, 3)
    limit = np.maximum(np.abs(images).max(axis=axes, keepdims=True), np.finfo("float32").tiny)
    images = 0.5 + 0.5 * images / limit
    return images if images.shape[-1] in (1, 3, 4) else np.moveaxis(images, -1, 1)[..., None]


def _first(model):
    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
    for node in walk(model):
        if isinstance(node.operation, kinds):
            return node.operation
    raise UsageError(
        f"filters expects a model with a convolution. Model '{model.name}' has none. Name the layer with layer=."
    )
