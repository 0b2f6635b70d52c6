"""Grad-CAM: feature maps weighted by the mean gradient of the score."""

import numpy as np

from recipes.common.types import FloatArray
from recipes.explain.attribution.layer_method import signed_map


@signed_map
def grad_cam(activations: FloatArray, gradients: FloatArray) -> FloatArray:
    """Sum of a layer's feature maps, each weighted by its mean gradient.

    Source: Selvaraju et al. 2017, "Grad-CAM", equations 1 and 2, https://arxiv.org/abs/1610.02391. Only the part of
    the network above the layer is differentiated.
    """
    weights = gradients.mean(axis=tuple(range(1, gradients.ndim - 1)))  # equation 1
    return np.einsum("n...c,nc->n...", activations, weights)  # equation 2, before its ReLU
