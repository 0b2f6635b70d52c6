"""Find the layers whose own gradient is wrong."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from recipes.common.traversal import layers_of
from recipes.diagnose.checks.differences import Differences, dense, directions
from recipes.initialize.forward import called_through


def wrong_layers(
    model: keras.Model, inputs: Any, random: np.random.Generator, dtype: str
) -> list[keras.layers.Layer]:
    """Compare the gradients of every layer with finite differences, on the inputs that the layer has in the model.

    Args:
        model: A built model; its weights are changed while it is checked, and restored.
        inputs: A batch of its inputs.
        random: Generator of the random directions.
        dtype: "float64" or "float32", the dtype of the model.

    Returns:
        The layers whose gradient with respect to their inputs or their weights is wrong. A layer that contains one of
        them is left out.
    """
    calls = {}

    def recorder(layer):
        def wrapped(call, *args, **kwargs):
            calls.setdefault(id(layer), (layer, args, kwargs))
            return call(*args, **kwargs)

        return wrapped

    layers = [layer for layer in layers_of(model) if not isinstance(layer, keras.Model)]
    with called_through([(layer, recorder(layer)) for layer in layers]):
        model(inputs, training=True)
    wrong = [layer for layer, args, kwargs in calls.values() if _is_wrong(layer, args, kwargs, random, dtype)]
    # A layer that contains others is reported only if none of these is wrong.
    parts = {id(layer): {id(part) for part in layers_of(layer)} for layer in wrong}
    at_fault = {id(layer) for layer in wrong}
    return [layer for layer in wrong if not parts[id(layer)] & at_fault]


def _is_wrong(layer, args, kwargs, random, dtype):
    places = [tensor for tensor in keras.tree.flatten((args, kwargs)) if _is_float(tensor)]
    starts = [tf.identity(tensor) for tensor in places]
    trained = layer.trainable_variables
    states = [(v, keras.ops.convert_to_numpy(v)) for v in layer.variables if not any(v is t for t in trained)]

    def outputs_of(values):
        for variable, value in states:
            variable.assign(value)
        moved = dict(zip(map(id, places), values, strict=True))
        args_, kwargs_ = keras.tree.map_structure(lambda leaf: moved.get(id(leaf), leaf), (args, kwargs))
        return [output for output in keras.tree.flatten(layer(*args_, **kwargs_)) if _is_float(output)]

    # A random weighted sum of all outputs takes the place of the loss.
    mix = [tf.constant(random.normal(size=output.shape), output.dtype) for output in outputs_of(starts)]

    def value_of(values):
        terms = [tf.reduce_sum(part * output) for part, output in zip(mix, outputs_of(values), strict=True)]
        return tf.cast(tf.add_n(terms), "float64") if terms else tf.constant(0.0, "float64")

    with tf.GradientTape() as tape:
        tape.watch(starts)
        tape.watch([variable.value for variable in trained])
        value = value_of(starts)
    gradients = tape.gradient(value, [*starts, *(variable.value for variable in trained)])
    differences = Differences(dtype, abs(float(value)))
    for index, gradient in enumerate(gradients):
        owner = trained[index - len(starts)] if index >= len(starts) else None
        start = keras.ops.convert_to_numpy(starts[index] if owner is None else owner)
        gradient = dense(gradient, start.shape)
        for direction in directions(gradient, 1, random):

            def along(step, index=index, owner=owner, start=start, direction=direction):
                if owner is not None:
                    owner.assign(start + step * direction)
                    return float(value_of(starts))
                moved = tf.constant(start + step * direction, starts[index].dtype)
                return float(value_of([*starts[:index], moved, *starts[index + 1 :]]))

            error = differences.compare(along, float((gradient * direction).sum())).error
            if owner is not None:
                owner.assign(start)
            if error > differences.suspicious:
                return True
    return False


def _is_float(tensor):
    return tf.is_tensor(tensor) and tensor.dtype.is_floating
