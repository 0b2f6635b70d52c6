"""HiResCAM: feature maps times their gradients, which shows exactly what a linear head used."""

import numpy as np

from recipes.common.types import FloatArray
from recipes.explain.attribution.layer_method import signed_map


@signed_map
def hires_cam(activations: FloatArray, gradients: FloatArray) -> FloatArray:
    """Sum over channels of each activation times its own gradient, of either sign.

    If the layer feeds one Dense layer, flattened or averaged, the signed map before resizing sums to the score minus
    its bias. Grad-CAM averages the gradient first, and so may show positions that the score does not depend on. Source:
    Draelos & Carin 2020, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural
    networks", https://arxiv.org/abs/2011.08891.
    """
    return np.einsum("n...c,n...c->n...", activations, gradients)
