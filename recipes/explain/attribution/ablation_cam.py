"""Ablation-CAM: feature maps weighted by the drop of the score without each of them."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from typing_extensions import Unpack

from recipes.common.types import FloatArray, Inputs
from recipes.explain.attribution import cam
from recipes.explain.attribution.attribution_task import Task, at_least_one
from recipes.explain.engine import layer_lookup, passes, targets, tracing
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.options import LayerOptions, Target, shares


@shares(LayerOptions)
def ablation_cam(
    model: keras.Model,
    images: Inputs,
    target: Target = None,
    *,
    top: int | None = None,
    **options: Unpack[LayerOptions],
) -> FloatArray:
    """Sum of a layer's feature maps, each weighted by the drop of the score when the map is set to 0.

    Source: Desai & Ramaswamy 2020, "Ablation-CAM", section 3, https://doi.org/10.1109/WACV45572.2020.9093360.
    It takes no gradients, but one forward pass per channel and image, and one more per image. The drop is divided by
    the magnitude of the score, so that a negative score does not change its sign.

    Args:
        model, images, target: As in every method; see `recipes.explain`.
        top: Ablate only this many channels, >= 1: those that vary most over each image; all others get the weight 0.
            None ablates all channels.
        options: The options of `LayerOptions`: the layer, and the options of every attribution.

    Returns:
        float32 `(n, height, width)`, at least 0; `(height, width)` for a single image.

    Raises:
        ValueError: as in `grad_cam`, and when `top` is below 1.
    """
    if top is not None:
        at_least_one("ablation_cam", "top", top)
    layer, call_index, tokens, resize = (
        options.pop(name) for name in ("layer", "call_index", "tokens", "resize")
    )
    task = Task("ablation_cam", model, images, target, **options)
    call = cam.find_layer(task, layer, call_index)

    def explain(group):
        raw, _, before, index = task.layer_pass(group, call, differentiate=False)
        if task.target.function is None:
            task.target.index[group] = index
        place = call or tracing.default_layer(model, task.target.spec)
        values = cam.spread(task, raw, place, tokens)
        spread = values.reshape(len(values), -1, values.shape[-1]).std(1)
        count = min(top or spread.shape[-1], spread.shape[-1])
        channels = np.argsort(-spread, axis=-1, kind="stable")[:, :count]
        after = np.empty(channels.shape, "float32")
        for start, stop in tracing.chunks(after.size, task.batch_size):
            row, sample = np.divmod(np.arange(start, stop), count)
            after[row, sample] = _scores_without(task, group.start + row, place, channels[row, sample], raw)
        weights = np.zeros(spread.shape, "float32")
        np.put_along_axis(weights, channels, drop(before, after), axis=-1)
        return weigh(values, weights)

    return cam.finish(task, task.each_group(explain, 1 + (top or 0)), resize)


def drop(before: FloatArray, after: FloatArray) -> FloatArray:
    """The slope `(y - y_k) / |y|`, `(n, channels)`, from scores `(n,)` and `(n, channels)`; y = 0 is not divided by."""
    scale = np.abs(before)[:, None]
    return (before[:, None] - after) / np.where(scale == 0, 1, scale)


def weigh(activations: FloatArray, weights: FloatArray) -> FloatArray:
    """The positive part of the weighted sum of maps `(n, *spatial, channels)` with `(n, channels)`: `(n, *spatial)`."""
    return np.maximum(np.einsum("n...c,nc->n...", activations, weights), 0)


def _scores_without(task, rows, place, channels, values):
    """Scores of images, each computed without one channel of the layer."""
    first = layer_lookup.data_format(task.model, place.operation) == "channels_first" and values.ndim > 3
    static = {"spec": task.target.spec, "call": place, "axis": 1 if first else values.ndim - 1}
    tensors, channels = task.inputs.tensors(rows), channels.astype("int32")
    if task.target.function is not None:
        outputs = task.evaluate(_without, [*tensors, channels], inner=passes.outputs, **static)
        return tracing.array(targets.call_function(task.target, outputs))
    arguments = [task.target.index[rows], channels]
    scores, _ = task.evaluate(_without, [*tensors, *arguments], inner=passes.score, **static)
    return tracing.array(scores)


def _without(model: keras.Model, *tensors: tf.Tensor, inner: Any, call: Any, axis: int, **static: Any) -> Any:
    """A forward kernel (see `passes`) with a channel of a layer set to 0 in each image; the last tensor names it."""
    *rest, channels = tensors
    seen = 0

    def tap(output):
        nonlocal seen
        seen += 1
        if call.index is not None and seen - 1 != call.index:
            return None
        values = tracing.single(output, call.path)
        kept = tf.one_hot(channels, values.shape[axis], on_value=0.0, off_value=1.0)
        shape = [-1 if one in (0, axis) else 1 for one in range(values.shape.rank)]
        shape[axis] = values.shape[axis]
        return values * tf.cast(tf.reshape(kept, shape), values.dtype)

    if call.index is not None and call.index < 0:
        raise UsageError(
            f"ablation_cam expects call_index from 0. Received {call.index} for layer '{call.path}'. "
            "Count from the first call."
        )
    with tracing.tapped({call.operation: tap}):
        return inner(model, *rest, **static)
