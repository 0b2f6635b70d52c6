"""Grad-CAM: feature maps weighted by how much the score listens to them."""

import functools

import keras
import numpy as np
from typing_extensions import Unpack

from recipes.common.types import FloatArray, Inputs
from recipes.explain.attribution.cam import layer_maps
from recipes.explain.engine.options import LayerOptions, Target, check_flag, shares


@shares(LayerOptions)
def grad_cam(
    model: keras.Model,
    images: Inputs,
    target: Target = None,
    *,
    relu: bool = True,
    **options: Unpack[LayerOptions],
) -> FloatArray:
    """Sum of a layer's feature maps, each weighted by its mean gradient.

    Source: Selvaraju et al. 2017, "Grad-CAM", equations 1 and 2, https://arxiv.org/abs/1610.02391. Only the part of
    the network above the layer is differentiated.

    Args:
        model, images, target: As in every method, see `recipes.explain`.
        relu: Keep positive evidence only, as in the paper; False returns signed maps.
        options: Those of `LayerOptions`: the layer, and what every attribution takes.

    Returns:
        float32 `(n, height, width)`, raw values; `(height, width)` for a single image.

    Raises:
        ValueError: a layer without spatial axes, and what does not fit the model, with what to type instead.
    """
    check_flag("grad_cam", "relu", relu)
    return layer_maps("grad_cam", functools.partial(weigh, relu=relu), model, images, target, **options)


def weigh(activations: FloatArray, gradients: FloatArray, *, relu: bool = True) -> FloatArray:
    """Equations 1 and 2: a channel's weight is the mean of its gradient over positions.

    Args:
        activations, gradients: `(n, *spatial, channels)`.
        relu: Keep positive evidence only.

    Returns:
        `(n, *spatial)`.
    """
    weights = gradients.mean(axis=tuple(range(1, gradients.ndim - 1)))
    maps = np.einsum("n...c,nc->n...", activations, weights)
    return np.maximum(maps, 0) if relu else maps
