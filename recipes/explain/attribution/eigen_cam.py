"""Eigen-CAM: the first principal component of a layer's feature maps, whatever the class."""

import keras
import numpy as np
import scipy.linalg
import tensorflow as tf
from typing_extensions import Unpack

from recipes.common.types import FloatArray, Inputs
from recipes.explain.attribution import cam
from recipes.explain.attribution.attribution_task import Task
from recipes.explain.engine import tracing
from recipes.explain.engine.options import LayerOptions, Target, shares


@shares(LayerOptions)
def eigen_cam(
    model: keras.Model, images: Inputs, target: Target = None, **options: Unpack[LayerOptions]
) -> FloatArray:
    """Projection of a layer's activations on their first right singular vector.

    It shows the dominant pattern of the layer and not evidence for a class: no score is differentiated, and the map is
    the same for every target. Source: Muhammad & Yeasin 2020, "Eigen-CAM", section III,
    https://arxiv.org/abs/2008.00299. As in the paper, the activations are not centered. A singular vector has no fixed
    sign; here the sign makes the sum of the map positive.

    Args:
        model, images: As in every method; see `recipes.explain`.
        target: Accepted as in every method, but without effect on the map.
        options: The options of `LayerOptions`: the layer, and the options of every attribution.

    Returns:
        float32 `(n, height, width)`, or `(height, width)` for a single image. All values are >= 0 if the layer's
        activations are.

    Raises:
        ValueError: as in `grad_cam`.
    """
    layer, call_index, tokens, resize = (
        options.pop(name) for name in ("layer", "call_index", "tokens", "resize")
    )
    task = Task("eigen_cam", model, images, target, **options)
    call = cam.find_layer(task, layer, call_index)
    maps = []
    for rows in task.chunks():
        activations, *_ = task.layer_pass(rows, call, differentiate=False)
        place = call or tracing.default_layer(model, task.target.spec)
        maps.append(project(cam.spread(task, activations, place, tokens)))
    return cam.finish(task, np.concatenate(maps), resize)


def project(activations: FloatArray) -> FloatArray:
    """The projection `O V_1` for `O = U S V^T`: float32 `(n, *spatial)` from activations `(n, *spatial, channels)`.

    The rows of `O` are positions, its columns channels. The singular values are computed from the smaller of `O O^T`
    and `O^T O`.
    """
    flat = activations.reshape(len(activations), -1, activations.shape[-1]).astype("float64")
    wide = flat.shape[1] <= flat.shape[2]
    # TensorFlow multiplies small matrices faster: numpy starts threads that wait longer than they work.
    products = tf.linalg.matmul(flat, flat, transpose_a=not wide, transpose_b=wide).numpy()
    last = products.shape[-1] - 1
    tops = [scipy.linalg.eigh(one, subset_by_index=[last, last]) for one in products]
    values, vectors = (np.stack(parts) for parts in zip(*tops, strict=True))
    if wide:
        maps = vectors[..., 0] * np.sqrt(np.maximum(values, 0))
    else:
        maps = np.einsum("npc,nc->np", flat, vectors[..., 0])
    maps *= np.where(maps.sum(1, keepdims=True) < 0, -1, 1)
    return maps.reshape(activations.shape[:-1]).astype("float32")
