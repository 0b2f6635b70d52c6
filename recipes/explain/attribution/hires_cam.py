"""HiResCAM: feature maps times their gradients, which shows exactly what a linear head used."""

import functools

import keras
import numpy as np
from typing_extensions import Unpack

from recipes.common.types import FloatArray, Inputs
from recipes.explain.attribution.cam import layer_maps
from recipes.explain.engine.options import LayerOptions, Target, check_flag, shares


@shares(LayerOptions)
def hires_cam(
    model: keras.Model,
    images: Inputs,
    target: Target = None,
    *,
    relu: bool = True,
    **options: Unpack[LayerOptions],
) -> FloatArray:
    """Sum over channels of each activation times its own gradient, of either sign.

    Where the layer feeds one Dense layer, flattened or averaged, the unresized signed map sums to the score minus its
    bias; Grad-CAM, which averages the gradient first, may then show places that the score does not depend on. Source:
    Draelos & Carin 2020, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural
    networks", https://arxiv.org/abs/2011.08891.

    Args:
        model, images, target: As in every method, see `recipes.explain`.
        relu: Keep positive evidence only; False returns signed maps, for which the sum holds.
        options: Those of `LayerOptions`: the layer, and what every attribution takes.

    Returns:
        float32 `(n, height, width)`, raw values; `(height, width)` for a single image.

    Raises:
        ValueError: As `grad_cam`.
    """
    check_flag("hires_cam", "relu", relu)
    return layer_maps("hires_cam", functools.partial(weigh, relu=relu), model, images, target, **options)


def weigh(activations: FloatArray, gradients: FloatArray, *, relu: bool = True) -> FloatArray:
    """The elementwise product, summed over channels: `(n, *spatial, channels)` each to `(n, *spatial)`."""
    maps = np.einsum("n...c,n...c->n...", activations, gradients)
    return np.maximum(maps, 0) if relu else maps
