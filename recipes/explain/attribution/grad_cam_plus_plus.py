"""Grad-CAM++: Grad-CAM with a weight for every position, so that several objects count."""

import keras
import numpy as np
from typing_extensions import Unpack

from recipes.common.types import FloatArray, Inputs
from recipes.explain.attribution.cam import layer_maps
from recipes.explain.engine.options import LayerOptions, Target, shares


@shares(LayerOptions)
def grad_cam_plus_plus(
    model: keras.Model, images: Inputs, target: Target = None, **options: Unpack[LayerOptions]
) -> FloatArray:
    """Sum of a layer's feature maps, weighted by their positive gradients, each position by its own share.

    Source: Chattopadhyay et al. 2018, "Grad-CAM++", equations 5, 7 and 19, https://arxiv.org/abs/1710.11063.
    With the paper's `exp(score)` the higher derivatives are powers of the gradient (equations 16 to 19); the
    positive factor `exp(score)` itself, one number per image, is left out, as it overflows. As in the
    authors' code, though not in their equations, the shares of a channel are scaled to add up to 1 over its
    positions.

    Args:
        model, images, target: As in every method, see `recipes.explain`.
        options: Those of `LayerOptions`: the layer, and what every attribution takes.

    Returns:
        float32 `(n, height, width)`, at least 0; `(height, width)` for a single image.

    Raises:
        ValueError: As `grad_cam`.
    """
    return layer_maps("grad_cam_plus_plus", weigh, model, images, target, **options)


def weigh(activations: FloatArray, gradients: FloatArray) -> FloatArray:
    """Equations 5 and 7: `(n, *spatial, channels)` each to `(n, *spatial)`."""
    alpha = shares_of_positions(activations, gradients)
    weights = (alpha * np.maximum(gradients, 0)).sum(tuple(range(1, gradients.ndim - 1)))
    return np.maximum(np.einsum("n...c,nc->n...", activations, weights), 0)


def shares_of_positions(activations: FloatArray, gradients: FloatArray) -> FloatArray:
    """Equation 19: alpha of each position and channel, scaled to add up to 1 over the positions of a channel."""
    positions = tuple(range(1, gradients.ndim - 1))
    squares = gradients**2
    denominator = 2 * squares + activations.sum(positions, keepdims=True) * squares * gradients
    alpha = np.divide(squares, denominator, out=np.zeros_like(squares), where=denominator != 0)
    totals = alpha.sum(positions, keepdims=True)
    return alpha / np.where(totals == 0, 1, totals)
