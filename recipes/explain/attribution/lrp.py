"""Layer-wise relevance propagation: the score handed back from layer to layer, to what made it in proportion."""

import re
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from typing_extensions import Unpack

from recipes.common.traversal import walk
from recipes.common.types import FloatArray, Inputs
from recipes.common.validation import is_number, is_one_of
from recipes.explain.attribution.attribution_task import Task, reduce_channels
from recipes.explain.engine import targets, tracing
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.inputs import pack
from recipes.explain.engine.options import AttributionOptions, Reduce, Target, check_flag, shares

_layers = keras.layers
_WEIGHTED = (_layers.Dense, _layers.Conv1D, _layers.Conv2D, _layers.Conv3D)
# Linear too, but always by the epsilon rule.
_LINEAR = (
    *(_layers.BatchNormalization, _layers.Rescaling, _layers.Normalization, _layers.DepthwiseConv2D),
    *(_layers.AveragePooling1D, _layers.AveragePooling2D, _layers.AveragePooling3D),
    *(_layers.GlobalAveragePooling1D, _layers.GlobalAveragePooling2D, _layers.GlobalAveragePooling3D),
)
# Their gradient moves relevance as it should: places move, the winner takes all, an open gate passes.
_MOVING = (
    *(
        _layers.InputLayer,
        _layers.Flatten,
        _layers.Reshape,
        _layers.Permute,
        _layers.Identity,
        _layers.Concatenate,
    ),
    *(
        _layers.ZeroPadding1D,
        _layers.ZeroPadding2D,
        _layers.Cropping2D,
        _layers.Dropout,
        _layers.SpatialDropout2D,
    ),
    *(_layers.MaxPooling1D, _layers.MaxPooling2D, _layers.MaxPooling3D, _layers.GlobalMaxPooling2D),
    *(_layers.Activation, _layers.Softmax),
)
_PASSING = {"relu", "linear", "softmax", "log_softmax", "sigmoid"}
# Nonlinearities of single values, which hand on what they get though their slope is another.
_ELEMENTWISE = {"relu6", "leaky_relu", "elu", "selu", "silu", "gelu", "hard_silu", "softplus", "tanh", "mish"}
_RECTIFIERS = (_layers.ReLU, _layers.LeakyReLU, _layers.PReLU, _layers.ELU)


@shares(AttributionOptions)
def lrp(
    model: keras.Model,
    images: Inputs,
    target: Target = None,
    *,
    rule: Literal["epsilon", "alpha_beta", "composite"] = "composite",
    epsilon: float = 1e-6,
    alpha: float = 2.0,
    reduce: Reduce = "sum",
    return_layers: bool = False,
    **options: Unpack[AttributionOptions],
) -> FloatArray | tuple[FloatArray, dict[str, FloatArray]]:
    """Relevance of each pixel: the score, shared out from layer to layer among what contributed to it.

    A unit hands its relevance to the units below in proportion to what each of them added to it; what biases added
    stays with them. Without biases the map adds up to the score.

    Source: Bach et al. 2015, "On Pixel-Wise Explanations", equations 58 (epsilon) and 60 (alpha-beta),
    https://doi.org/10.1371/journal.pone.0130140. The composite is EpsilonPlus of Kohlbrenner et al. 2020, "Towards Best
    Practice in Explaining Neural Network Decisions with LRP", section III, https://arxiv.org/abs/1910.09840: epsilon
    for Dense layers, alpha 1 and beta 0 for convolutions. Sums of a residual network share out by the epsilon rule, as
    do batch normalization and average pooling; the largest value of a pool takes all.

    Args:
        model, images, target: As in every method, see `recipes.explain`. A Sequential or Functional model, also nested,
            of Dense, convolution, pooling, normalization, sums, concatenation and rectifiers.
        rule: `"epsilon"`, `"alpha_beta"` or `"composite"`.
        epsilon: Added to what is divided by, > 0, as a share of its largest value in a layer.
        alpha: Weight of what speaks for, >= 1; what speaks against has `alpha - 1`. For `"alpha_beta"`.
        reduce: How channels are collapsed: `"sum"` keeps the sum.
        return_layers: Also return the relevance that arrives at each layer, `{path: (n,)}`, which shows what is kept.
        options: Those of `AttributionOptions`. Always traces.

    Returns:
        float32 `(n, height, width)`, in units of the score; `(height, width)` for a single image.

    Raises:
        ValueError: a layer whose relevance cannot be shared out (attention, gates, code of your own), by name.
    """
    if not is_one_of(rule, ("epsilon", "alpha_beta", "composite")):
        raise UsageError(
            f"lrp expects rule to be 'epsilon', 'alpha_beta' or 'composite'. Received {rule!r}. Leave it out for the "
            "composite."
        )
    if not is_number(epsilon) or not epsilon > 0 or not is_number(alpha) or not alpha >= 1:
        raise UsageError(
            f"lrp expects epsilon > 0 and alpha >= 1. Received epsilon={epsilon}, alpha={alpha}. Leave them out."
        )
    check_flag("lrp", "return_layers", return_layers)
    task = Task("lrp", model, images, target, gradient=True, **{**options, "compile": True})
    if task.tokens:
        raise UsageError("lrp expects images or features. Received token ids. Use gradient_times_input.")
    settings = (rule, float(epsilon), float(alpha) if rule == "alpha_beta" else 1.0)
    sums = []

    def explain(rows):
        tensors = task.inputs.tensors(rows)
        arguments, _ = task.arguments(rows, tensors)
        relevance, kept = task.evaluate(
            _relevance, [*tensors, *arguments], spec=task.target.spec, wrt=task.inputs.wrt, settings=settings
        )
        sums.append({path: tracing.array(one) for path, one in kept.items()})
        return reduce_channels(tracing.array(relevance), reduce, task.channel_axis)

    maps = task.each_chunk(explain)
    if not return_layers:
        return maps
    return maps, {path: np.concatenate([one[path] for one in sums]) for path in sums[0]}


def _relevance(
    model: keras.Model, *tensors: tf.Tensor, spec: Any, keys: Any, inputs: int, wrt: int, settings: Any
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Kernel: `(relevance of the input, relevance at each layer's output)`."""
    wrappers, outputs = _wrappers(model, settings), {}

    def noted(path, wrap):
        def inside(call):
            stand_in = wrap(call)

            def see(*args, **kwargs):
                output = stand_in(*args, **kwargs)
                outputs[path] = output
                return output

            return see

        return inside

    with tf.GradientTape(persistent=False, watch_accessed_variables=False) as tape:
        tape.watch(tensors[wrt])
        with tracing.intercepted({node.operation: noted(node.path, wrap) for node, wrap in wrappers}):
            scores, _ = targets.scores(model, pack(model, tensors[:inputs], keys), spec, tensors[inputs:])
    found = tape.gradient(scores, [tensors[wrt], *outputs.values()], output_gradients=scores)
    if found[0] is None:
        raise UsageError("lrp expects a score that depends on the input. It does not. Choose another target.")
    kept = {
        path: tf.reduce_sum(tf.reshape(one, (tf.shape(one)[0], -1)), 1)
        for path, one in zip(outputs, found[1:], strict=True)
        if one is not None
    }
    return found[0], kept


def _wrappers(model, settings):
    """`(Node, wrapper)` of each layer that shares out its relevance; refuses what cannot."""
    found, unknown = [], []
    for node in walk(model):
        operation, name = node.operation, type(node.operation).__name__
        activation = getattr(getattr(operation, "activation", None), "__name__", "linear")
        if type(operation) in _RECTIFIERS or _snake(name) in _ELEMENTWISE:
            found.append((node, _passed))
        elif type(operation) is _layers.Activation and activation in _ELEMENTWISE:
            found.append((node, _passed))
        elif isinstance(operation, (*_WEIGHTED, *_LINEAR, *_MOVING)) and activation not in (
            _PASSING if type(operation) not in _WEIGHTED else _PASSING | _ELEMENTWISE
        ):
            unknown.append(f"{node.path} ({activation})")
        elif type(operation) in _WEIGHTED:
            found.append((node, _weighted(operation, settings)))
        elif type(operation) in _LINEAR:
            found.append((node, _shared(settings[1])))
        elif name == "Add" and type(operation).__module__.startswith("keras."):
            found.append((node, _summed(settings[1])))
        elif type(operation) not in (*_MOVING, keras.Sequential) and name not in (
            "Functional",
            "Relu",
            "Reshape",
        ):
            unknown.append(f"{node.path} ({name})")
    if unknown or not isinstance(model, (keras.Sequential, *_functional())):
        raise UsageError(
            f"lrp expects layers that it can share relevance out at. Model '{model.name}' has others: "
            f"{', '.join(unknown[:8]) or type(model).__name__}. Use integrated_gradients, which any model has."
        )
    return found


def _functional():
    return (type(keras.Model(one := keras.Input((1,)), one)),)


def divided(relevance: tf.Tensor, values: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Equation 58: relevance over values, which are kept away from 0 by `epsilon` of the largest of their image."""
    axes = tuple(range(1, values.shape.rank))
    least = epsilon * tf.reduce_max(tf.abs(values), axes, keepdims=True) + 1e-30
    return relevance / (values + tf.where(values >= 0, least, -least))


def _share(parts, inputs, relevance, epsilon):
    """`sum over parts of weight * input * d(part . R / part) / d input`."""
    total = [0.0 for _ in inputs]
    for weight, values, sources in parts:
        slopes = tf.gradients(values, sources, divided(relevance, values, epsilon))
        contributions = [0.0 if s is None else one * s for one, s in zip(sources, slopes, strict=True)]
        for number, one in enumerate(contributions):
            place = number % len(inputs)
            total[place] = total[place] + weight * one
    return total


def _without_variables(share):
    """A gradient that hands relevance to the input alone, of a layer that may have variables."""

    def shared(relevance, variables=()):
        found = share(relevance)
        return (found, [None] * len(variables)) if variables else found

    return shared


def _shared(epsilon):
    """The epsilon rule for a layer of one input."""

    def wrap(call):
        def stand_in(inputs, *args, **kwargs):
            @tf.custom_gradient
            def linear(x):
                values = call(x, *args, **kwargs)
                return values, _without_variables(lambda r: _share([(1.0, values, [x])], [x], r, epsilon)[0])

            return linear(inputs)

        return stand_in

    return wrap


def _passed(call):
    """A nonlinearity of single values: what it makes of a value has that value's relevance."""

    def stand_in(inputs, *args, **kwargs):
        @tf.custom_gradient
        def same(x):
            return call(x, *args, **kwargs), _without_variables(lambda relevance: relevance)

        return same(inputs)

    return stand_in


def _snake(name):
    """`LeakyRelu`, as an operation of `keras.ops` is called, as the name of its function."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _summed(epsilon):
    """The epsilon rule for a sum, whose terms share its relevance by their values."""

    def wrap(call):
        def stand_in(*args, **_):
            terms = list(args[0]) if isinstance(args[0], (list, tuple)) else list(args)

            @tf.custom_gradient
            def total(*parts):
                parts = [tf.identity(part) for part in parts]  # one term may be made of another
                values = call(list(parts)) if isinstance(args[0], (list, tuple)) else call(*parts)
                return values, lambda r: _share([(1.0, values, list(parts))], list(parts), r, epsilon)

            return total(*terms)

        return stand_in

    return wrap


def _weighted(layer, settings):
    """Epsilon or alpha-beta for a Dense or convolution; its activation stays outside."""
    rule, epsilon, alpha = settings
    signs = rule == "alpha_beta" or (rule == "composite" and not isinstance(layer, _layers.Dense))

    def apply(x, kernel, bias):
        values = (
            ops.matmul(x, kernel) if isinstance(layer, _layers.Dense) else layer.convolution_op(x, kernel)
        )
        first = getattr(layer, "data_format", None) == "channels_first"
        return (
            values
            if bias is None
            else values + (ops.reshape(bias, (-1, *[1] * layer.rank)) if first else bias)
        )

    def wrap(_):
        def stand_in(inputs, *_, **__):
            kernel, bias = tf.convert_to_tensor(layer.kernel), layer.bias if layer.use_bias else None
            bias = None if bias is None else tf.convert_to_tensor(bias)

            @tf.custom_gradient
            def linear(x):
                values = apply(x, kernel, bias)

                def share(r):
                    if not signs:
                        return _share([(1.0, values, [x])], [x], r, epsilon)[0]
                    high, low = tf.nn.relu(x), -tf.nn.relu(-x)
                    positive, negative = tf.nn.relu(kernel), -tf.nn.relu(-kernel)
                    up = None if bias is None else tf.nn.relu(bias)
                    down = None if bias is None else -tf.nn.relu(-bias)
                    for_it = apply(high, positive, up) + apply(low, negative, None)
                    against = apply(high, negative, down) + apply(low, positive, None)
                    parts = [(alpha, for_it, [high, low])]
                    if alpha > 1:
                        parts.append((1 - alpha, against, [high, low]))
                    return _share(parts, [x], r, epsilon)[0]

                return values, share

            values = linear(inputs)
            if getattr(layer.activation, "__name__", None) in _ELEMENTWISE:
                return _passed(layer.activation)(values)
            return values if layer.activation is None else layer.activation(values)

        return stand_in

    return wrap
