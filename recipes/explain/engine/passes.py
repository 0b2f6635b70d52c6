"""The few passes over a model that all attributions are made of; each is traced once (see `tracing.evaluate`).

A kernel takes the model's inputs and then the target's arguments as one flat run of tensors, batch first;
`keys` says how the inputs are packed and `inputs` how many they are. Methods of one family share a kernel, so
a second method on the same model starts without a new trace.
"""

import tensorflow as tf

from recipes.explain.engine import layer_lookup, targets, tracing
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.inputs import pack


def score(model, *tensors, spec, keys, inputs):
    """`(scores (n,), index)`: forward only; the index has the predicted class where -1 was."""
    return targets.scores(model, pack(model, tensors[:inputs], keys), spec, tensors[inputs:])


def outputs(model, *tensors, spec, keys, inputs):
    """The outputs a function target sees, as a flat list."""
    result = tracing.forward(model, pack(model, tensors[:inputs], keys))
    return targets.flat_outputs(model, result, spec)


def input_gradient(model, *tensors, spec, keys, inputs, wrt):
    """`(gradient, scores, index)`: of each image's score by its own input `wrt`."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(tensors[wrt])
        scores, index = targets.scores(model, pack(model, tensors[:inputs], keys), spec, tensors[inputs:])
    return _present(tape.gradient(scores, tensors[wrt]), "the input"), scores, index


def at_layer(model, *tensors, spec, keys, inputs, call, rank, differentiate):
    """`(activation, gradient, scores, index)` at a layer; without `differentiate`, no gradient.

    Only what lies between the layer and the score is differentiated, which costs next to nothing beside the
    forward pass. Without a layer (`call=None`) the last map with spatial axes is taken; `rank` is that of the
    images.
    """
    packed = pack(model, tensors[:inputs], keys)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        watch = tape.watch if differentiate else None
        if call is None:
            with tracing.surveying(model, on_output=watch) as survey:
                scores, index = targets.scores(model, packed, spec, tensors[inputs:])
            call, activation = layer_lookup.last_map(survey, model, rank)
            tracing.remember_default(model, spec, call)
        else:
            with tracing.recording([call], on_output=watch) as recorder:
                scores, index = targets.scores(model, packed, spec, tensors[inputs:])
            (activation,) = recorder.activations()
    if activation.shape.rank < 3:
        raise layer_lookup.no_map("explain", call.path, activation.shape, rank - 2)
    if not differentiate:
        return tf.cast(activation, "float32"), scores, index
    gradient = _present(tape.gradient(scores, activation), f"layer '{call.path}'")
    return tf.cast(activation, "float32"), tf.cast(gradient, "float32"), scores, index


def _present(gradient, place):
    if gradient is None:
        raise UsageError(
            f"explain expects a score that depends on {place} in a differentiable way. The gradient does not reach "
            "it. Choose a layer on the way to the score, and look for rounding, argmax or stop_gradient on that way."
        )
    return gradient
