"""Integrated gradients at a layer: of its activations instead of the input's values."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from typing_extensions import Unpack

from recipes.common.types import FloatArray, Inputs
from recipes.explain.attribution import cam
from recipes.explain.attribution.attribution_task import Task, at_least_one
from recipes.explain.attribution.baselines import filled
from recipes.explain.attribution.integrated_gradients import attribute, path, quadrature
from recipes.explain.engine import layer_lookup, targets, tracing
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.inputs import pack
from recipes.explain.engine.options import AttributionOptions, Baseline, Layer, Target, check_flag, shares


@shares(AttributionOptions)
def layer_integrated_gradients(
    model: keras.Model,
    images: Inputs,
    target: Target = None,
    *,
    layer: Layer | None = None,
    steps: int = 50,
    baseline: Baseline | int = 0.0,
    call_index: int | None = None,
    as_map: bool = False,
    **options: Unpack[AttributionOptions],
) -> FloatArray:
    """Difference of a layer's activations to those of a baseline, times the gradient averaged on the way between them.

    For an embedding this is integrated gradients of text: the baseline is a token that stands for nothing. The values
    add up to the change in score, where everything passes the layer.

    Source: Sundararajan et al. 2017, equation 1, https://arxiv.org/abs/1703.01365; at a layer as in Dhamdhere et al.
    2018, "How Important Is a Neuron?", section 3, https://arxiv.org/abs/1805.12233, along the straight way between
    activations.

    Args:
        model, images, target: As in every method, see `recipes.explain`.
        layer: A layer object, a name, an "outer/inner" path or an index. None takes the last feature map before the
            head, as `grad_cam` does.
        steps: Gradients per image, >= 1 (midpoints).
        baseline: The input that the way starts from, as in `integrated_gradients`; for token ids the id that stands for
            nothing.
        call_index: Which call of a shared layer, from 0.
        as_map: Sum over the channels and resize to the image, `(n, height, width)`, as methods that look at a layer's
            maps do.
        options: Those of `AttributionOptions`.

    Returns:
        float32, the shape of the layer's output `(n, ..., channels)`, or `(n, height, width)`; without the batch axis
        for a single image.

    Raises:
        ValueError: no such layer; a score that does not depend on it.

    Example:
        >>> explain.layer_integrated_gradients(model, ids, 1, layer="embedding", baseline=0).sum(-1)   # per token
    """
    at_least_one("layer_integrated_gradients", "steps", steps)
    check_flag("layer_integrated_gradients", "as_map", as_map, "True returns (n, height, width).")
    task = Task("layer_integrated_gradients", model, images, target, **options)
    call = _layer_of(task, layer, call_index)
    where, weights = quadrature("midpoint", steps)

    def explain(group):
        task.settle(group)
        clean = task.inputs.images[group]
        if task.tokens:
            nothing = np.full_like(clean, baseline)
        else:
            nothing = filled(task.method, "baseline", baseline, clean.astype("float32"), task, group)
        ends, starts = (_activations(task, group, call, values) for values in (clean, nothing))
        average = np.zeros_like(ends)
        for step, weight in zip(where, weights, strict=True):
            average += weight * _gradients(task, group, call, path(starts, ends, step))
        return attribute(starts, ends, average)

    values = task.each_group(explain, steps + 3)
    return (
        cam.finish(task, cam.spread(task, values, call, None).sum(-1), True)
        if as_map
        else task.finish(values)
    )


def _layer_of(task, layer, call_index):
    """The call of the layer that was named, or of the last feature map."""
    if layer is not None:
        return layer_lookup.find(task.model, layer, call_index=call_index, method=task.method)
    cam.find_layer(task, layer, call_index)  # refuses call_index alone
    if len(task.spatial) < 2:
        raise UsageError(
            f"layer_integrated_gradients expects layer= for inputs of shape {task.inputs.images.shape}. Received none. "
            "Name the layer, such as layer='embedding' for token ids."
        )
    task.layer_pass(slice(0, 1), None, differentiate=False)
    return task.place


def _activations(task, group, call, images):
    (values,) = task.evaluate(_forward, task.inputs.tensors(group, images), call=call)
    return tracing.array(values)


def _gradients(task, group, call, values):
    tensors = task.inputs.tensors(group)
    if task.target.function is not None:
        arguments = _cotangents(task, tensors, values, call)
    else:
        arguments = [task.target.index[group]]
    return tracing.array(
        task.evaluate(_gradient_at, [*tensors, *arguments, values], spec=task.target.spec, call=call)
    )


def _cotangents(task, tensors, values, call):
    """What the user's function says of the outputs at these activations."""
    outputs = task.evaluate(_outputs_at, [*tensors, values], spec=task.target.spec, call=call)
    return targets.cotangents(task.target, outputs)[1]


def _forward(model: keras.Model, *tensors: tf.Tensor, keys: Any, inputs: int, call: Any) -> list[tf.Tensor]:
    """Kernel: the activations of the layer."""
    return [
        tf.cast(one, "float32")
        for one in tracing.capture(model, pack(model, tensors[:inputs], keys), [call], stop=True)[1]
    ]


def _outputs_at(
    model: keras.Model, *tensors: tf.Tensor, keys: Any, inputs: int, spec: Any, call: Any
) -> list[tf.Tensor]:
    """Kernel: the outputs with the last tensor in the place of the layer's activations."""
    with tracing.tapped({call.operation: _stand_in(call, tensors[-1])}):
        return targets.flat_outputs(model, model(pack(model, tensors[:inputs], keys), training=False), spec)


def _gradient_at(
    model: keras.Model, *tensors: tf.Tensor, keys: Any, inputs: int, spec: Any, call: Any
) -> tf.Tensor:
    """Kernel: the gradient of the score with the last tensor in the place of the layer's activations, by it."""
    *rest, values = tensors
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        with tracing.tapped({call.operation: _stand_in(call, values)}):
            scores, _ = targets.scores(model, pack(model, rest[:inputs], keys), spec, rest[inputs:])
    gradient = tape.gradient(scores, values)
    if gradient is None:
        raise UsageError(
            f"layer_integrated_gradients expects a score that depends on layer '{call.path}'. The gradient does not "
            "reach it. Choose a layer on the way to the score."
        )
    return gradient


def _stand_in(call, values):
    """A tap (see `tracing.tapped`) that puts values in the place of what one call returns."""
    seen = 0

    def tap(output):
        nonlocal seen
        seen += 1
        return (
            tf.cast(values, tracing.single(output, call.path).dtype)
            if seen - 1 == (call.index or 0)
            else None
        )

    return tap
