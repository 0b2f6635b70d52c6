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
    """The call of the layer that was named, or of the last feature map."""
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
    """The activations of baselines and images, in one pass, which also predicts the class where none was given."""
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
    """Weighted sum of the gradients at places on the way, which are evaluated together."""
    way = [*task.inputs.tensors(group), starts, ends, where]
    count = group.stop - group.start
    most = count * len(where)
    if task.target.function is not None:
        outputs = task.evaluate(_outputs_on_way, way, evaluations=0, spec=task.target.spec, call=call)
        # Step by step, as the user's function may know which image is which.
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
    """Kernel: the activations of the layer."""
    _, (values,) = tracing.capture(model, pack(model, tensors[:inputs], keys), [call], stop=True)
    return _led_by_images(values, call)


def _below_and_class(
    model: keras.Model, *tensors: tf.Tensor, keys: Any, inputs: int, spec: Any, call: Any
) -> tuple[tf.Tensor, tf.Tensor]:
    """Kernel: the activations of the layer, and the predicted class."""
    with tracing.recording([call]) as recorder:
        _, index = targets.scores(model, pack(model, tensors[:inputs], keys), spec, tensors[inputs:])
    return _led_by_images(recorder.activations()[0], call), index


def _led_by_images(values, call):
    """The activations as float32, refused where another axis than that of the images comes first."""
    if not tf.executing_eagerly() and values.shape[0] is not None:
        raise UsageError(
            f"layer_integrated_gradients expects a layer whose output has the images as its first axis. Layer "
            f"'{call.path}' returns {tuple(values.shape)}. Choose the layer before the axes are exchanged."
        )
    return tf.cast(values, "float32")


def _on_way(starts, ends, where):
    """Activations `(places * n, ...)` between ends `(n, ...)`: all images at one place, then at the next."""
    values = starts + tf.reshape(where, (-1, *[1] * starts.shape.rank)) * (ends - starts)
    return tf.reshape(values, tf.concat([[-1], tf.shape(starts)[1:]], 0))


def _copies(model, tensors, keys, where):
    """The model's inputs, once for every place on the way."""
    count = tf.shape(where)[0]
    return pack(
        model,
        [tf.tile(one, tf.concat([[count], tf.ones(one.shape.rank - 1, "int32")], 0)) for one in tensors],
        keys,
    )


def _outputs_on_way(
    model: keras.Model, *tensors: tf.Tensor, keys: Any, inputs: int, spec: Any, call: Any
) -> list[tf.Tensor]:
    """Kernel: the outputs with values on the way in the place of the layer's activations."""
    starts, ends, where = tensors[inputs:]
    with tracing.tapped({call.operation: _stand_in(call, _on_way(starts, ends, where))}):
        outputs = model(_copies(model, tensors[:inputs], keys, where), training=False)
    return targets.flat_outputs(model, outputs, spec)


def _gradient_on_way(
    model: keras.Model, *tensors: tf.Tensor, keys: Any, inputs: int, spec: Any, call: Any
) -> tf.Tensor:
    """Kernel: the score's gradients by values on the way, which take the layer's place, weighted and added up."""
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
            "reach it. Choose a layer on the way to the score."
        )
    return tf.reduce_sum(tf.reshape(gradient, tf.concat([[-1], tf.shape(starts)], 0)), 0)


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
