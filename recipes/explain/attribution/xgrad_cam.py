"""XGrad-CAM: Grad-CAM whose mean gradient is weighted by the activations, so that channels account for the score."""

import functools

import keras
import numpy as np
from typing_extensions import Unpack

from recipes.common.types import FloatArray, Inputs
from recipes.explain.attribution.cam import layer_maps
from recipes.explain.engine.options import LayerOptions, Target, check_flag, shares


@shares(LayerOptions)
def xgrad_cam(
    model: keras.Model,
    images: Inputs,
    target: Target = None,
    *,
    relu: bool = True,
    **options: Unpack[LayerOptions],
) -> FloatArray:
    """Sum of a layer's feature maps, each weighted by its gradient averaged over where it is active.

    The weights come from two axioms: scores fall by what a channel contributed when it is removed (sensitivity), and
    the contributions add up to the score (conservation), as far as the network is linear above the layer. Source: Fu
    et al. 2020, "Axiom-based Grad-CAM", section 3, https://arxiv.org/abs/2008.02312.

    Args:
        model, images, target: As in every method, see `recipes.explain`.
        relu: Keep positive evidence only; False returns signed maps.
        options: Those of `LayerOptions`. The layer should have no negative activations, as after a ReLU: a channel
            whose activations add up to 0 gets no weight.

    Returns:
        float32 `(n, height, width)`, raw values; `(height, width)` for a single image.

    Raises:
        ValueError: As `grad_cam`.
    """
    check_flag("xgrad_cam", "relu", relu)
    return layer_maps("xgrad_cam", functools.partial(weigh, relu=relu), model, images, target, **options)


def weigh(activations: FloatArray, gradients: FloatArray, *, relu: bool = True) -> FloatArray:
    """A channel's weight is its gradient averaged by its share of activation at each position.

    Args:
        activations, gradients: `(n, *spatial, channels)`.
        relu: Keep positive evidence only.

    Returns:
        `(n, *spatial)`.
    """
    positions = tuple(range(1, gradients.ndim - 1))
    totals = activations.sum(positions)
    weights = (activations * gradients).sum(positions) / np.where(totals == 0, np.inf, totals)
    maps = np.einsum("n...c,nc->n...", activations, weights)
    return np.maximum(maps, 0) if relu else maps
