"""LayerCAM: feature maps weighted position by position, which stays sharp in early layers."""

import keras
import numpy as np
from typing_extensions import Unpack

from recipes.common.types import FloatArray, Inputs
from recipes.explain.attribution.cam import layer_maps
from recipes.explain.engine.options import LayerOptions, Target, shares


@shares(LayerOptions)
def layer_cam(
    model: keras.Model, images: Inputs, target: Target = None, **options: Unpack[LayerOptions]
) -> FloatArray:
    """Sum over channels of each activation times its own positive gradient.

    Source: Jiang et al. 2021, "LayerCAM", equations 6 to 8, https://doi.org/10.1109/TIP.2021.3089943.

    Args:
        model, images, target: As in every method, see `recipes.explain`.
        options: Those of `LayerOptions`: the layer, and what every attribution takes.

    Returns:
        float32 `(n, height, width)`, at least 0; `(height, width)` for a single image.

    Raises:
        ValueError: As `grad_cam`.
    """
    return layer_maps("layer_cam", weigh, model, images, target, **options)


def weigh(activations: FloatArray, gradients: FloatArray) -> FloatArray:
    """Equations 6 to 8: `(n, *spatial, channels)` each to `(n, *spatial)`."""
    return np.maximum(np.einsum("n...c,n...c->n...", activations, np.maximum(gradients, 0)), 0)
