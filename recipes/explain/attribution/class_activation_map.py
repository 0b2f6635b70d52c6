"""CAM: the class weights applied to every position before the average pooling."""

import keras
import numpy as np
import tensorflow as tf
from typing_extensions import Unpack

from recipes.common.traversal import layers_of
from recipes.common.types import FloatArray, Inputs
from recipes.explain.attribution import cam
from recipes.explain.attribution.attribution_task import Task
from recipes.explain.engine import tracing
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.options import AttributionOptions, Layer, Target, check_flag, shares


@shares(AttributionOptions)
def class_activation_map(
    model: keras.Model,
    images: Inputs,
    target: Target = None,
    *,
    layer: Layer | None = None,
    call_index: int | None = None,
    resize: bool = True,
    return_layer: bool = False,
    **options: Unpack[AttributionOptions],
) -> FloatArray:
    """CAM: evidence for a class at each position, if the network ends in global average pooling and one Dense layer.

    The mean of the map before resizing plus the bias of the class is exactly the logit of the class. Source: Zhou
    et al. 2016, "Learning Deep Features for Discriminative Localization", equation 2,
    https://arxiv.org/abs/1512.04150.

    Args:
        model, images, target: As in every method; see `recipes.explain`. The target is a class.
        layer, call_index, resize, return_layer: As in `LayerOptions`; the layer is the one whose output is averaged.
        options: The options of `AttributionOptions`. The score is the logit of the class.

    Returns:
        float32 `(n, height, width)`, signed, in units of the logit; `(height, width)` for a single image.

    Raises:
        ValueError: when the head is not the average of `layer` followed by one Dense layer, which is found by comparing
            the logits with that average. Dropout between them is allowed, because it is off at inference.
    """
    check_flag("class_activation_map", "resize", resize)
    score = options["score"]
    task = Task("class_activation_map", model, images, target, return_layer=return_layer, **options)
    if task.target.spec.kind != "class" or score != "logits":
        raise UsageError(
            "class_activation_map expects a class as target and score='logits'. Received "
            f"{'another kind of target' if score == 'logits' else f'score={score!r}'}. Use grad_cam, which "
            "explains any score."
        )
    call = cam.find_layer(task, layer, call_index)
    maps = []
    for rows in task.chunks():
        activations, _, scores, index = task.layer_pass(rows, call)
        place = call or tracing.default_layer(model, task.target.spec)
        activations = cam.spread(task, activations, place, None)
        weights = _head(model, task.target.spec, activations, scores, index[:, 0], place)
        maps.append(np.einsum("n...c,nc->n...", activations, weights))
    return cam.finish(task, np.concatenate(maps), resize)


def _head(model, spec, activations, scores, index, place):
    """The Dense weights `(n, channels)` of each image's class, from the Dense layer that yields the logits."""
    average = activations.reshape(len(activations), -1, activations.shape[-1]).mean(1)
    one_sigmoid = tracing.record_of(model).heads[spec.output].binary
    for dense in reversed(layers_of(model, keras.layers.Dense)):
        if dense.kernel.shape[0] != average.shape[-1]:
            continue
        width = dense.kernel.shape[1]
        if one_sigmoid and width == 1:
            columns, sign = np.zeros_like(index), np.where(index == 1, 1.0, -1.0).astype("float32")
        elif index.max() < width:
            columns, sign = index, np.ones(len(index), "float32")
        else:
            continue
        weights = sign[:, None] * tracing.array(tf.gather(dense.kernel, columns, axis=1)).T
        biases = sign * tracing.array(dense.bias)[columns] if dense.use_bias else 0 * sign
        terms = np.abs(average * weights).sum(1) + np.abs(biases) + 1e-6
        error = np.abs((average * weights).sum(1) + biases - scores)
        # Half-precision layers round each term of the sum to 1e-3 (float16) or 8e-3 (bfloat16).
        if np.all(error <= {"float32": 1e-3, "float64": 1e-3}.get(dense.compute_dtype, 2e-2) * terms):
            return weights
    raise UsageError(
        f"class_activation_map expects logits that are one Dense layer of the average of layer '{place.path}'. "
        f"The logits of model '{model.name}' are not. Use grad_cam, which needs no such head (with such a head, it "
        "gives this map times a constant)."
    )
