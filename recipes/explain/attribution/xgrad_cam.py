"""XGrad-CAM: Grad-CAM whose mean gradient is weighted by the activations, so that channels account for the score."""

import numpy as np

from recipes.common.types import FloatArray
from recipes.explain.attribution.layer_method import signed_map


@signed_map
def xgrad_cam(activations: FloatArray, gradients: FloatArray) -> FloatArray:
    """Sum of a layer's feature maps, each weighted by its gradient averaged with the activations as weights.

    The weights come from two axioms. When a channel is removed, the score falls by its contribution (sensitivity). The
    contributions add up to the score (conservation). Both hold as far as the network is linear above the layer. The
    layer should have no negative activations, as after a ReLU; a channel whose activations add up to 0 gets no weight.
    Source: Fu et al. 2020, "Axiom-based Grad-CAM", section 3, https://arxiv.org/abs/2008.02312.
    """
    positions = tuple(range(1, gradients.ndim - 1))
    totals = activations.sum(positions)
    weights = (activations * gradients).sum(positions) / np.where(totals == 0, np.inf, totals)
    return np.einsum("n...c,nc->n...", activations, weights)
