"""LayerCAM: feature maps weighted separately at each position, which gives sharp maps in early layers."""

import numpy as np

from recipes.common.types import FloatArray
from recipes.explain.attribution.layer_method import positive_map


@positive_map
def layer_cam(activations: FloatArray, gradients: FloatArray) -> FloatArray:
    """Sum over channels of each activation times its own positive gradient.

    Source: Jiang et al. 2021, "LayerCAM", equations 6 to 8, https://doi.org/10.1109/TIP.2021.3089943.
    """
    return np.maximum(np.einsum("n...c,n...c->n...", activations, np.maximum(gradients, 0)), 0)
