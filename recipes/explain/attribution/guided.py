"""Guided backpropagation and deconvnet: gradients whose negative parts are set to 0 at every rectifier."""

import functools
from typing import Any

import keras
import tensorflow as tf
from typing_extensions import Unpack

from recipes.common.patching import wrapped
from recipes.common.traversal import walk
from recipes.common.types import FloatArray, Inputs
from recipes.explain.attribution.attribution_task import Task
from recipes.explain.attribution.nonlinearities import located, unguided
from recipes.explain.attribution.reduced_channels import reduce_channels
from recipes.explain.engine import targets, tracing
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.inputs import pack
from recipes.explain.engine.options import AttributionOptions, Reduce, Target, check_flag, shares

_SCOPE = "rectifier_of_recipes"
_FUNCTIONS = (
    *(keras.activations.relu, keras.activations.relu6, keras.activations.leaky_relu),
    *(keras.ops.relu, keras.ops.relu6, keras.ops.leaky_relu),
    *(tf.nn.relu, tf.nn.relu6, tf.nn.leaky_relu),
)
_LAYERS = (keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.PReLU)


@shares(AttributionOptions)
def guided_backprop(
    model: keras.Model,
    images: Inputs,
    target: Target = None,
    *,
    reduce: Reduce = "absmax",
    strict: bool = True,
    **options: Unpack[AttributionOptions],
) -> FloatArray:
    """Guided backpropagation: a gradient that passes a rectifier only if its input and the gradient are positive.

    Each rectifier keeps its own derivative (a ReLU6 passes nothing above 6, a leaky ReLU passes its slope). It may be
    the activation of a layer (`activation="relu"`), an `Activation`, `ReLU`, `LeakyReLU` or `PReLU` layer, or a
    functional operation, at any depth of nested models. Every other nonlinearity between input and score keeps its own
    gradient, so the map would mix two methods; such models are refused. Gates (squeeze-and-excitation, attention, the
    cells of LSTM and GRU) are not counted as nonlinearities. The maps are sharp, but they change little when the
    weights of the upper layers are randomized: see `sanity_check`. The model is always traced.

    Source: Springenberg et al. 2014, "Striving for Simplicity", section 3.4, https://arxiv.org/abs/1412.6806.

    Args:
        model, images, target: As in every method; see `recipes.explain`.
        reduce: How channels are reduced: `"absmax"`, `"mean"`, `"sum"`, `"l2"`; None keeps them.
        strict: True refuses a model with nonlinearities that cannot be guided (swish, gelu, `ops.where`, a relu called
            in a layer's own code). False explains the model nevertheless and warns with their names.
        options: The options of `AttributionOptions`.

    Returns:
        float32 `(n, height, width)`; `(height, width)` for a single image.

    Raises:
        ValueError: when the model has no rectifier that can be guided, or has other nonlinearities between input and
            score (see `strict`).
    """
    return _guided("guided_backprop", "guided", model, images, target, reduce, strict, **options)


@shares(AttributionOptions)
def deconvnet(
    model: keras.Model,
    images: Inputs,
    target: Target = None,
    *,
    reduce: Reduce = "absmax",
    strict: bool = True,
    **options: Unpack[AttributionOptions],
) -> FloatArray:
    """Deconvnet: a gradient that passes a rectifier if the gradient is positive, whatever the rectifier's input.

    Source: Zeiler & Fergus 2013, "Visualizing and Understanding Convolutional Networks", section 2.1,
    https://arxiv.org/abs/1311.2901 (pooling is undone at the position of the maximum, as in the paper).

    Args, Returns, Raises: As in `guided_backprop`.
    """
    return _guided("deconvnet", "deconvnet", model, images, target, reduce, strict, **options)


def guided_gradient(
    model: keras.Model,
    *tensors: tf.Tensor,
    spec: targets.Spec,
    keys: Any,
    inputs: int,
    wrt: int,
    rule: str,
    strict: bool,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Kernel of `(gradient, scores, index)`, with every rectifier's gradient replaced by `rule`."""
    graph = tf.compat.v1.get_default_graph()
    with wrapped(_wrappers(model, rule)), located(model, graph) as places:
        scores, index = targets.scores(model, pack(model, tensors[:inputs], keys), spec, tensors[inputs:])
    _count(model, *unguided(graph, tensors[wrt], scores, places, _SCOPE), strict)
    # Symbolic differentiation, because a tape looks up gradients by the operation's type and would miss our rules.
    (gradient,) = tf.gradients(scores, tensors[wrt])
    if gradient is None:
        raise UsageError(
            "explain expects a score that depends on the input in a differentiable way. The gradient does not reach "
            "it. Look for rounding, argmax or stop_gradient in the model."
        )
    return gradient, scores, index


def _guided(method, rule, model, images, target, reduce, strict, **options):
    check_flag(
        method, "strict", strict, "False explains the model with the nonlinearities that can be guided."
    )
    task = Task(method, model, images, target, gradient=True, **{**options, "compile": True})
    return task.each_chunk(
        lambda rows: reduce_channels(
            task.guided_gradient(rows, guided_gradient, rule=rule, strict=bool(strict)),
            reduce,
            task.channel_axis,
        )
    )


def _wrappers(model, rule):
    """`patching.wrapped` triples that add the rule after every rectifier of the model."""

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
        elif isinstance(getattr(type(operation), "activation", None), property):
            continue  # a recurrent layer shows the activation of its cell, which is visited separately
        elif getattr(activation, "func", activation) in _FUNCTIONS:
            triples.append((operation, "activation", behind))
    if not triples:
        raise UsageError(
            f"explain expects a model with rectifiers to guide. '{model.name}' has none that can be reached: no "
            "relu activation, no ReLU, LeakyReLU or PReLU layer. Use saliency or smooth_grad, which work with any "
            "model; or replace a relu in a layer's own code by a keras.layers.ReLU held by the layer."
        )
    return triples


def _count(model, names, guided, strict):
    """Refuse nonlinearities that keep their ordinary gradient, or warn about them."""
    if not names:
        return
    listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    facts = (
        f"explain expects every nonlinearity between the input of '{model.name}' and the score to be a rectifier that "
        f"can be guided. Found {guided} that {'is' if guided == 1 else 'are'}, and {len(names)} that cannot be: "
        f"{listed}. "
    )
    if strict or not guided:
        raise UsageError(
            facts
            + "Use saliency or smooth_grad, which work with any model; replace a relu in a layer's own code by a "
            "keras.layers.ReLU held by the layer"
            + ("; or pass strict=False to guide the others." if guided else ".")
        )
    tracing.warn_once(
        model,
        ("guided", *names),
        facts + "These keep their own gradient. Use saliency or smooth_grad for a map with one rule for all.",
    )


def guided_rule(gradient: tf.Tensor) -> tuple[tf.Tensor | None, tf.Tensor | None]:
    """Section 3.4: the positive part of the gradient goes through the rectifier with its own derivative.

    Returns:
        `(gradient for the rectifier's output, gradient that bypasses it to its input)`.
    """
    return tf.nn.relu(gradient), None


def deconvnet_rule(gradient: tf.Tensor) -> tuple[tf.Tensor | None, tf.Tensor | None]:
    """Section 2.1: the positive part of the gradient bypasses the rectifier; returns the same as `guided_rule`."""
    return None, tf.nn.relu(gradient)


def _register():
    """Register the two rules in TensorFlow's table of gradients, once per process.

    After each rectifier there is an IdentityN(output, input), whose gradient is the rule.
    """
    for name, rule in {"guided": guided_rule, "deconvnet": deconvnet_rule}.items():
        try:
            tf.RegisterGradient(f"RecipesExplain_{name}")(lambda _, gradient, __, rule=rule: rule(gradient))
        except KeyError:  # the module was reloaded
            pass


_register()
