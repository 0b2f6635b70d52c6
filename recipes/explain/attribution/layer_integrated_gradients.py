"""Integrated gradients of a layer's activations instead of the input's values."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from typing_extensions import Unpack

from recipes.common.types import FloatArray, Inputs
from recipes.explain.attribution import cam
from recipes.explain.attribution.attribution_task import Task, at_least_one
from recipes.explain.attribution.baselines import filled
from recipes.explain.attribution.integrated_gradients import attribute, quadrature
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
    """Integrated gradients of a layer: activations minus those of a baseline, times the gradient averaged between them.

    At an embedding layer this explains text, with a neutral token as baseline. If all information passes through the
    layer, the values add up to the change in score.

    Source: Sundararajan et al. 2017, equation 1, https://arxiv.org/abs/1703.01365; at a layer as in Dhamdhere et al.
    2018, "How Important Is a Neuron?", section 3, https://arxiv.org/abs/1805.12233, along the straight path between
    activations.

    Args:
        model, images, target: As in every method; see `recipes.explain`.
        layer: A layer object, a name, an "outer/inner" path or an index. None takes the last feature map before the
            head, as `grad_cam` does.
        steps: Number of gradients per image, >= 1, at the midpoints of as many parts of the path.
        baseline: The input whose activations are the start of the path, as in `integrated_gradients`; for token ids,
            the id of a neutral token.
        call_index: Number of the call of a shared layer, counted from 0.
        as_map: Whether to sum over the channels and resize to the image, `(n, height, width)`, as the CAM methods do.
        options: The options of `AttributionOptions`.

    Returns:
        float32, the shape of the layer's output `(n, ..., channels)`, or `(n, height, width)`; without the batch axis
        for a single image.

    Raises:
        ValueError: when there is no such layer, or the score does not depend on it.

    Example:
        >>> explain.layer_integrated_gradients(model, ids, 1, layer="embedding", baseline=0).sum(-1)   # per token
    """
    at_least_one("layer_integrated_gradients", "steps", steps)
    check_flag("layer_integrated_gradients", "as_map", as_map, "True returns (n, height, width).")
    task = Task("layer_integrated_gradients", model, images, target, **options)
    call = _layer_of(task, layer, call_index)
    where, weights = quadrature("midpoint", steps)

    def explain(group):
        clean = task.inputs.images[group]
        if task.tokens:
            nothing = np.full_like(clean, baseline)
        else:
            nothing = filled(task.method, "baseline", baseline, clean.astype("float32"), task, group)
        starts, ends = _ends(task, group, call, nothing, clean)
        average, most = np.zeros_like(ends), max(1, task.batch_size // len(clean))
        for start in range(0, steps, most):
            chosen = slice(start, start + most)
            average += _gradients(task, group, call, starts, ends, where[chosen], weights[chosen])
        return attribute(starts, ends, average)

    values = task.each_group(explain, steps + 2, passes=2)
    return (
        cam.finish(task, cam.spread(task, values, call, None).sum(-1), True)
        if as_map
        else task.finish(values)
    )


def _layer_of(task, layer, call_index):
    """The call of the named layer, or of the last feature map."""
    if layer is not None:
        return layer_lookup.find(task.model, layer, call_index=call_index, method=task.method)
    cam.find_layer(task, layer, call_index)  # refuses call_index alone
    if len(task.spatial) < 2:
        raise UsageError(
            f"layer_integrated_gradients expects layer= for inputs of shape {task.inputs.images.shape}. Received none. "
            "Name the layer, such as layer='embedding' for token ids."
        )
    return task.last_map()


def _ends(task, group, call, nothing, clean):
    """The activations of baselines and images, in one pass, which also predicts the class if no target was given."""
    count = len(clean)
    tensors = task.inputs.tensors(
        np.tile(np.arange(group.start, group.stop), 2), np.concatenate([nothing, clean])
    )
    if task.settled(group):
        values = task.evaluate(_below, tensors, call=call)
    else:
        index = np.full((2 * count, 1), -1, "int32")
        values, index = task.evaluate(_below_and_class, [*tensors, index], spec=task.target.spec, call=call)
        task.target.index[group] = index[count:]
    values = tracing.array(values)
    half = len(values) // 2  # more than `count` where the model folds an axis into the batch
    return values[:half], values[half:]


def _gradients(task, group, call, starts, ends, where, weights):
    """Weighted sum of the gradients at several points of the path, which are evaluated together."""
    way = [*task.inputs.tensors(group), starts, ends, where]
    count = group.stop - group.start
    most = count * len(where)
    if task.target.function is not None:
        outputs = task.evaluate(_outputs_on_way, way, evaluations=0, spec=task.target.spec, call=call)
        # Step by step, because the user's function may treat the images differently.
        parts = [
            targets.cotangents(task.target, [one[start : start + count] for one in outputs])[1]
            for start in range(0, most, count)
        ]
        arguments = [tf.concat(one, 0) for one in zip(*parts, strict=True)]
    else:
        arguments = [np.tile(task.target.index[group], (len(where), 1))]
    return tracing.array(
        task.evaluate(
            _gradient_on_way,
            [*way, weights, *arguments],
            evaluations=most,
            spec=task.target.spec,
            call=call,
        )
    )


def _below(model: keras.Model, *tensors: tf.Tensor, keys: Any, inputs: int, call: Any) -> tf.Tensor:
    """Kernel of the activations of the layer."""
    _, (values,) = tracing.capture(model, pack(model, tensors[:inputs], keys), [call], stop=True)
    return _led_by_images(values, call)


def _below_and_class(
    model: keras.Model, *tensors: tf.Tensor, keys: Any, inputs: int, spec: Any, call: Any
) -> tuple[tf.Tensor, tf.Tensor]:
    """Kernel of the activations of the layer and the predicted class."""
    with tracing.recording([call]) as recorder:
        _, index = targets.scores(model, pack(model, tensors[:inputs], keys), spec, tensors[inputs:])
    return _led_by_images(recorder.activations()[0], call), index


def _led_by_images(values, call):
    """The activations as float32; raises when their first axis is not that of the images."""
    if not tf.executing_eagerly() and values.shape[0] is not None:
        raise UsageError(
            f"layer_integrated_gradients expects a layer whose output has the images as its first axis. Layer "
            f"'{call.path}' returns {tuple(values.shape)}. Choose the layer before the axes are exchanged."
        )
    return tf.cast(values, "float32")


def _on_way(starts, ends, where):
    """Activations `(points * n, ...)` between the ends `(n, ...)`: all images at one point, then at the next."""
    values = starts + tf.reshape(where, (-1, *[1] * starts.shape.rank)) * (ends - starts)
    return tf.reshape(values, tf.concat([[-1], tf.shape(starts)[1:]], 0))


def _copies(model, tensors, keys, where):
    """The model's inputs, once for every point of the path."""
    count = tf.shape(where)[0]
    return pack(
        model,
        [tf.tile(one, tf.concat([[count], tf.ones(one.shape.rank - 1, "int32")], 0)) for one in tensors],
        keys,
    )


def _outputs_on_way(
    model: keras.Model, *tensors: tf.Tensor, keys: Any, inputs: int, spec: Any, call: Any
) -> list[tf.Tensor]:
    """Kernel of the outputs, with points of the path in place of the layer's activations."""
    starts, ends, where = tensors[inputs:]
    with tracing.tapped({call.operation: _stand_in(call, _on_way(starts, ends, where))}):
        outputs = model(_copies(model, tensors[:inputs], keys, where), training=False)
    return targets.flat_outputs(model, outputs, spec)


def _gradient_on_way(
    model: keras.Model, *tensors: tf.Tensor, keys: Any, inputs: int, spec: Any, call: Any
) -> tf.Tensor:
    """Kernel of the weighted sum of the score's gradients at points of the path, which replace the activations."""
    starts, ends, where, weights, *arguments = tensors[inputs:]
    values, images = _on_way(starts, ends, where), tf.shape(tensors[0])[0]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        with tracing.tapped({call.operation: _stand_in(call, values)}):
            scores, _ = targets.scores(model, _copies(model, tensors[:inputs], keys, where), spec, arguments)
    gradient = tape.gradient(scores, values, output_gradients=tf.repeat(weights, images))
    if gradient is None:
        raise UsageError(
            f"layer_integrated_gradients expects a score that depends on layer '{call.path}'. The gradient does not "
            "reach this layer. Choose a layer between the input and the score."
        )
    return tf.reduce_sum(tf.reshape(gradient, tf.concat([[-1], tf.shape(starts)], 0)), 0)


def _stand_in(call, values):
    """A tap (see `tracing.tapped`) that replaces the output of one call by these values."""
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
