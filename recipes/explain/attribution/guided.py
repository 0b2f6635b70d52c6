"""Guided backpropagation and the deconvnet: gradients with their negative parts cut at every rectifier."""

import functools
from typing import Any, Unpack

import keras
import numpy as np
import tensorflow as tf

from recipes.common.patching import wrapped
from recipes.common.traversal import walk
from recipes.common.types import FloatArray, Inputs
from recipes.explain.attribution.attribution_task import Task, reduce_channels
from recipes.explain.engine import targets
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.inputs import pack
from recipes.explain.engine.options import AttributionOptions, Reduce, Target, shares

_SCOPE = "rectifier_of_recipes"
_FUNCTIONS = (
    *(keras.activations.relu, keras.activations.relu6, keras.activations.leaky_relu),
    *(keras.ops.relu, keras.ops.relu6, keras.ops.leaky_relu),
    *(tf.nn.relu, tf.nn.relu6, tf.nn.leaky_relu),
)
_LAYERS = (keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.PReLU)
_OPERATIONS = ("Relu", "Relu6", "LeakyRelu")


@shares(AttributionOptions)
def guided_backprop(
    model: keras.Model,
    images: Inputs,
    target: Target = None,
    *,
    reduce: Reduce = "absmax",
    **options: Unpack[AttributionOptions],
) -> FloatArray:
    """Gradient that passes a rectifier only where both its input and the gradient are positive.

    Each rectifier keeps its true gate (a ReLU6 is shut above 6, a leaky one passes its slope), whether it is
    fused into a layer (`activation="relu"`), an `Activation`, `ReLU`, `LeakyReLU` or `PReLU` layer, or a
    functional operation, at any depth of nesting. Maps are sharp, but change little when the upper layers
    forget what they learned: see `sanity_check`. Always traces.

    Source: Springenberg et al. 2014, "Striving for Simplicity", section 3.4, https://arxiv.org/abs/1412.6806.

    Args:
        model, images, target: As in every method, see `recipes.explain`.
        reduce: How channels are collapsed: `"absmax"`, `"mean"`, `"sum"`, `"l2"`; None keeps them.
        options: Those of `AttributionOptions`.

    Returns:
        float32 `(n, height, width)`; `(height, width)` for a single image.

    Raises:
        ValueError: the model has no rectifier, or hides one in the `call` of a layer, where its gradient
            cannot be told apart.
    """
    return _guided("guided_backprop", "guided", model, images, target, reduce, **options)


@shares(AttributionOptions)
def deconvnet(
    model: keras.Model,
    images: Inputs,
    target: Target = None,
    *,
    reduce: Reduce = "absmax",
    **options: Unpack[AttributionOptions],
) -> FloatArray:
    """Gradient that passes a rectifier where the gradient is positive, whatever its input was.

    Source: Zeiler & Fergus 2013, "Visualizing and Understanding Convolutional Networks", section 2.1,
    https://arxiv.org/abs/1311.2901 (pooling is undone at the place of the maximum, as in the paper).

    Args, Returns, Raises: As `guided_backprop`.
    """
    return _guided("deconvnet", "deconvnet", model, images, target, reduce, **options)


def guided_gradient(
    model: keras.Model, *tensors: tf.Tensor, spec: targets.Spec, keys: Any, inputs: int, wrt: int, rule: str
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Kernel: `(gradient, scores, index)` with every rectifier's gradient replaced by `rule`."""
    graph = tf.compat.v1.get_default_graph()
    with wrapped(_wrappers(model, rule)):
        scores, index = targets.scores(model, pack(model, tensors[:inputs], keys), spec, tensors[inputs:])
    _refuse_hidden(model, graph)
    # Symbolic differentiation: a tape looks gradients up by the operation's type and would miss ours.
    (gradient,) = tf.gradients(scores, tensors[wrt])
    if gradient is None:
        raise UsageError(
            "explain expects a score that depends on the input in a differentiable way. The gradient does "
            "not reach it. "
            "Look for rounding, argmax or stop_gradient in the model."
        )
    return gradient, scores, index


def _guided(method, rule, model, images, target, reduce, **options):
    task = Task(method, model, images, target, gradient=True, **{**options, "compile": True})
    maps = [
        reduce_channels(task.guided_gradient(rows, guided_gradient, rule), reduce, task.channel_axis)
        for rows in task.chunks()
    ]
    return task.finish(np.concatenate(maps))


def _wrappers(model, rule):
    """`patching.wrapped` triples that put the rule behind every rectifier of the model."""

    def behind(rectify):
        @functools.wraps(rectify)
        def stand_in(inputs, *args, **kwargs):
            with tf.name_scope(_SCOPE):
                outputs = rectify(inputs, *args, **kwargs)
                graph = tf.compat.v1.get_default_graph()
                with graph.gradient_override_map({"IdentityN": f"RecipesExplain_{rule}"}):
                    outputs, _ = tf.raw_ops.IdentityN(input=[outputs, tf.cast(inputs, outputs.dtype)])
            return outputs

        return stand_in

    triples = []
    for node in walk(model):
        operation = node.operation
        activation = getattr(operation, "activation", None)
        if isinstance(operation, _LAYERS) or type(operation).__name__ in ("Relu", "Relu6", "LeakyRelu"):
            triples.append((operation, "call", behind))
        elif getattr(activation, "func", activation) in _FUNCTIONS:
            triples.append((operation, "activation", behind))
    if not triples:
        raise UsageError(
            f"explain expects a model with rectifiers to guide. '{model.name}' has none that can be "
            "reached: no relu activation, "
            "no ReLU, LeakyReLU or PReLU layer. Use saliency or smooth_grad, which any model has."
        )
    return triples


def _refuse_hidden(model, graph):
    """Raise where a rectifier was traced that no stand-in guards: its gradient would silently stay the plain one."""
    names = [operation.name for operation in graph.get_operations() if _rectifies(operation)]
    for definition in graph.as_graph_def().library.function:
        names += [node.name for node in definition.node_def if node.op in _OPERATIONS]
    hidden = [name for name in names if _SCOPE not in name]
    if hidden:
        raise UsageError(
            f"explain expects every rectifier of '{model.name}' to be a layer, an activation argument or a "
            "functional "
            f"operation. Found relu called inside a layer's own code, at '{hidden[0]}'. "
            "Replace it there by a keras.layers.ReLU held by the layer, or use saliency."
        )


def _rectifies(operation):
    if operation.type == "Maximum" and operation.outputs[0].dtype.is_floating:
        constants = [tf.get_static_value(tensor) for tensor in operation.inputs]
        return any(np.all(constant == 0) for constant in constants if constant is not None)
    return operation.type in _OPERATIONS


def _register():
    """The two rules, under names of their own in TensorFlow's table of gradients, once a process.

    Behind a rectifier stands IdentityN(output, input). Guided sends the positive gradient back through the
    rectifier, whose own derivative is its gate; deconvnet sends it past the rectifier.
    """
    rules = {
        "guided": lambda _, output_gradient, __: (tf.nn.relu(output_gradient), None),
        "deconvnet": lambda _, output_gradient, __: (None, tf.nn.relu(output_gradient)),
    }
    for name, rule in rules.items():
        try:
            tf.RegisterGradient(f"RecipesExplain_{name}")(rule)
        except KeyError:  # the module was reloaded
            pass


_register()
