"""The few passes over a model that all attributions use; each is traced once (see `tracing.evaluate`).

A kernel takes the model's inputs and then the target's arguments as flat tensors, batch first. `keys` tells how the
inputs are packed, and `inputs` is their number. Methods of one family share a kernel, so a second method on the same
model needs no new trace.
"""

from typing import Any

import keras
import tensorflow as tf

from recipes.explain.engine import layer_lookup, targets, tracing
from recipes.explain.engine.dataflow import Flow
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.inputs import pack


def score(model: keras.Model, *tensors: Any, spec: Any, keys: Any, inputs: Any) -> Any:
    """Kernel of `(scores (n,), index)`, forward only; in the index, the predicted class replaces -1."""
    return targets.scores(model, pack(model, tensors[:inputs], keys), spec, tensors[inputs:])


def outputs(model: keras.Model, *tensors: Any, spec: Any, keys: Any, inputs: Any) -> Any:
    """Kernel of the outputs that a function target gets, as a flat list."""
    result = tracing.forward(model, pack(model, tensors[:inputs], keys))
    return targets.flat_outputs(model, result, spec)


def input_gradient(model: keras.Model, *tensors: Any, spec: Any, keys: Any, inputs: Any, wrt: Any) -> Any:
    """Kernel of `(gradient, scores, index)`: the gradient of each image's score with respect to its input `wrt`."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(tensors[wrt])
        scores, index = targets.scores(model, pack(model, tensors[:inputs], keys), spec, tensors[inputs:])
    return _present(tape.gradient(scores, tensors[wrt]), "the input"), scores, index


def at_layer(
    model: keras.Model,
    *tensors: Any,
    spec: Any,
    keys: Any,
    inputs: Any,
    wrt: Any,
    call: Any,
    rank: int | None,
    differentiate: Any,
) -> Any:
    """Kernel of `(activation, gradient, scores, index)` at a layer; without `differentiate`, no gradient.

    Only the part between the layer and the score is differentiated, which costs little compared with the forward pass.
    Without a layer (`call=None`), the last feature map is taken (see `layer_lookup.last_map`); `rank` is that of the
    images. If a layer is called several times and no call was chosen, the call between the input `wrt` and the score is
    taken.
    """
    packed, source = pack(model, tensors[:inputs], keys), tensors[wrt]
    seen = []
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        watch = tape.watch if differentiate else None
        if call is None:
            with tracing.surveying(model, on_output=watch) as survey:
                scores, index = targets.scores(model, packed, spec, tensors[inputs:], seen)
            flow, pictures = _flow(source, scores, spec, seen)
            call, activation = layer_lookup.last_map(survey, model, rank, flow, pictures, source)
            tracing.remember_default(model, (spec, wrt, tuple(source.shape[1:])), call)
        else:
            with tracing.recording([call], on_output=watch) as recorder:
                scores, index = targets.scores(model, packed, spec, tensors[inputs:])
            outputs = recorder.seen[call.path]
            if call.index is None and len(outputs) > 1:
                flow, _ = _flow(source, scores, spec, [])
                activation = layer_lookup.call_that_sees(call, outputs, flow, rank, source)
            else:
                (activation,) = recorder.activations()
    # There are several if each frame of a video is a separate call.
    parts = activation if isinstance(activation, list) else [activation]
    if parts[0].shape.rank < 3:
        raise layer_lookup.no_map("explain", call.path, parts[0].shape, rank - 2)
    values = [tf.cast(part, "float32") for part in parts]
    values = tf.stack(values, 1) if isinstance(activation, list) else values[0]
    if not differentiate:
        return values, scores, index
    gradients = [
        tf.cast(_present(gradient, f"layer '{call.path}'"), "float32")
        for gradient in tape.gradient(scores, parts)
    ]
    return values, tf.stack(gradients, 1) if isinstance(activation, list) else gradients[0], scores, index


def _flow(source, scores, spec, outputs):
    """`(Flow, whether the score is computed from pictures)`.

    If one output is a picture or a list of boxes, the flow goes to all outputs, so that all heads are explained at the
    map they share.
    """
    chosen = list(outputs) if spec.kind == "function" else []
    pictures = any(tensor.shape.rank is not None and tensor.shape.rank > 2 for tensor in chosen)
    return Flow(source, [scores, *chosen] if pictures else [scores]), pictures


def _present(gradient, place):
    if gradient is None:
        raise UsageError(
            f"explain expects a score that depends on {place} in a differentiable way. The gradient does not reach "
            "it. Choose a layer between the input and the score, and look for rounding, argmax or stop_gradient "
            "between them."
        )
    return gradient
