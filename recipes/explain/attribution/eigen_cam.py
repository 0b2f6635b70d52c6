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

    It shows what stands out to the layer, not what speaks for a class: no score is differentiated, and the map is the
    same for every target. Source: Muhammad & Yeasin 2020, "Eigen-CAM", section III, https://arxiv.org/abs/2008.00299.
    As in the paper the activations are not centered. The sign, which a singular vector leaves open, is the one that
    makes the map's sum positive.

    Args:
        model, images: As in every method, see `recipes.explain`.
        target: Taken as by every method, without influence on the map.
        options: Those of `LayerOptions`: the layer, and what every attribution takes.

    Returns:
        float32 `(n, height, width)`, at least 0 where the layer's activations are; `(height, width)` for a single
        image.

    Raises:
        ValueError: As `grad_cam`.
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
    """`O V_1` for `O = U S V^T`, positions down and channels across: `(n, *spatial, channels)` in.

    The smaller of `O O^T` and `O^T O` gives the same singular values.
    """
    flat = activations.reshape(len(activations), -1, activations.shape[-1]).astype("float64")
    wide = flat.shape[1] <= flat.shape[2]
    # TensorFlow's product of small matrices: numpy's wakes threads that wait longer than they work.
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
