"""Grad-CAM++: Grad-CAM with a weight for every position, so that several objects count."""

import numpy as np

from recipes.common.types import FloatArray
from recipes.explain.attribution.layer_method import positive_map


@positive_map
def grad_cam_plus_plus(activations: FloatArray, gradients: FloatArray) -> FloatArray:
    """Sum of a layer's feature maps, weighted by their positive gradients, with a separate share for each position.

    Source: Chattopadhyay et al. 2018, "Grad-CAM++", equations 5, 7 and 19, https://arxiv.org/abs/1710.11063.
    With the paper's `exp(score)`, the higher derivatives are powers of the gradient (equations 16 to 19). The positive
    factor `exp(score)` itself, one number per image, is left out, because it overflows. The shares of a channel are
    scaled to add up to 1 over its positions, as in the authors' code but not in their equations.
    """
    alpha = shares_of_positions(activations, gradients)
    weights = (alpha * np.maximum(gradients, 0)).sum(tuple(range(1, gradients.ndim - 1)))
    return np.maximum(np.einsum("n...c,nc->n...", activations, weights), 0)


def shares_of_positions(activations: FloatArray, gradients: FloatArray) -> FloatArray:
    """Equation 19: alpha of each position and channel, scaled to add up to 1 over the positions of a channel.

    Activations, gradients and the result are float32 `(n, *spatial, channels)`.
    """
    positions = tuple(range(1, gradients.ndim - 1))
    squares = gradients**2
    denominator = 2 * squares + activations.sum(positions, keepdims=True) * squares * gradients
    alpha = np.divide(squares, denominator, out=np.zeros_like(squares), where=denominator != 0)
    totals = alpha.sum(positions, keepdims=True)
    return alpha / np.where(totals == 0, 1, totals)
