"""LRP rules of single layers: functions that replace the call of a layer and have the rule as their gradient."""

from collections.abc import Callable
from typing import Any, TypeAlias

import keras
import tensorflow as tf
from keras import ops

from recipes.explain.engine.errors import UsageError

#: The call of a layer, and a function that makes its replacement, whose gradient is the rule.
Call: TypeAlias = Callable[..., Any]
Rule: TypeAlias = Callable[[Call], Call]

# Elementwise nonlinearities, which pass relevance on unchanged, whatever their slope; a softmax at the end does too.
ELEMENTWISE = {
    *("relu6", "leaky_relu", "elu", "selu", "silu", "gelu", "hard_silu", "softplus", "tanh", "mish"),
    *("sigmoid", "hard_sigmoid", "softmax", "log_softmax"),
}


def divided(relevance: tf.Tensor, values: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Equation 58: relevance divided by values, stabilized by `epsilon` times the largest value of each image."""
    axes = tuple(range(1, values.shape.rank))
    least = epsilon * tf.reduce_max(tf.abs(values), axes, keepdims=True) + 1e-30
    return relevance / (values + tf.where(values >= 0, least, -least))


def _divided_by_one_sign(relevance, values, epsilon, sign):
    """`divided` for values that all have one sign or are 0."""
    axes = tuple(range(1, values.shape.rank))
    reduce = tf.reduce_max if sign > 0 else tf.reduce_min
    return relevance / (values + (epsilon * reduce(values, axes, keepdims=True) + sign * 1e-30))


def _share(parts, inputs, relevance, epsilon):
    """`sum over parts of weight * input * d(part . R / part) / d input`.

    Each part is `(weight, values, sources, sign)`; the sign is 1 or -1 if all values have it, otherwise 0.
    """
    total = [0.0 for _ in inputs]
    for weight, values, sources, sign in parts:
        shares = (
            _divided_by_one_sign(relevance, values, epsilon, sign)
            if sign
            else divided(relevance, values, epsilon)
        )
        slopes = tf.gradients(values, sources, shares)
        contributions = [0.0 if s is None else one * s for one, s in zip(sources, slopes, strict=True)]
        for number, one in enumerate(contributions):
            place = number % len(inputs)
            total[place] = total[place] + weight * one
    return total


def _without_variables(share):
    """A gradient function that gives relevance to the input only, and None to the layer's variables."""

    def shared(relevance, variables=()):
        found = share(relevance)
        return (found, [None] * len(variables)) if variables else found

    return shared


def shared(epsilon: float) -> Rule:
    """The epsilon rule for a layer of one input."""

    def wrap(call):
        def stand_in(inputs, *args, **kwargs):
            @tf.custom_gradient
            def linear(x):
                values = call(x, *args, **kwargs)
                return values, _without_variables(
                    lambda r: _share([(1.0, values, [x], 0)], [x], r, epsilon)[0]
                )

            return linear(inputs)

        return stand_in

    return wrap


def passed(call: Call) -> Call:
    """The rule for an elementwise nonlinearity: each output passes its relevance to its input unchanged."""

    def stand_in(inputs, *args, **kwargs):
        @tf.custom_gradient
        def same(x):
            return call(x, *args, **kwargs), _without_variables(lambda relevance: relevance)

        return same(inputs)

    return stand_in


def scaled(path: str) -> Rule:
    """The rule for a product with constants or a division by one, which leaves all relevance unchanged."""

    def wrap(call):
        def stand_in(*args, **_):
            places = [place for place, one in enumerate(args) if hasattr(one, "op")]
            if len(places) != 1 or places[0] == 1 and "ivide" in path:
                raise UsageError(
                    f"lrp expects layers for which it has a rule. '{path}' multiplies or divides values that both "
                    "depend on the input. Use integrated_gradients, which works with any model."
                )
            return passed(lambda x: call(*args[: places[0]], x, *args[places[0] + 1 :]))(args[places[0]])

        return stand_in

    return wrap


def summed(epsilon: float) -> Rule:
    """The epsilon rule for a sum: its relevance is distributed among the terms in proportion to their values."""

    def wrap(call):
        def stand_in(*args, **_):
            terms = list(args[0]) if isinstance(args[0], (list, tuple)) else list(args)

            @tf.custom_gradient
            def total(*parts):
                parts = [tf.identity(part) for part in parts]  # one term may be computed from another
                values = call(list(parts)) if isinstance(args[0], (list, tuple)) else call(*parts)
                return values, lambda r: _share([(1.0, values, list(parts), 0)], list(parts), r, epsilon)

            return total(*terms)

        return stand_in

    return wrap


def weighted(layer: Any, settings: tuple[str, float, float]) -> Rule:
    """The epsilon or alpha-beta rule for a Dense or convolution layer; its activation is applied afterwards."""
    rule, epsilon, alpha = settings
    signs = rule == "alpha_beta" or (rule == "composite" and not isinstance(layer, keras.layers.Dense))

    def apply(x, kernel, bias):
        if isinstance(layer, keras.layers.Dense):
            values = ops.matmul(x, kernel)
        elif layer.padding == "causal":
            reach = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
            x = ops.pad(x, [(0, 0), (reach, 0), (0, 0)])
            values = ops.conv(x, kernel, list(layer.strides), "valid", layer.data_format, layer.dilation_rate)
        else:
            values = layer.convolution_op(x, kernel)
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
                        return _share([(1.0, values, [x], 0)], [x], r, epsilon)[0]
                    # After a rectifier no input is negative, and half of the products are 0.
                    both = not _never_negative(x)
                    high, low = (tf.nn.relu(x), -tf.nn.relu(-x)) if both else (x, None)
                    sources = [high, low] if both else [high]
                    positive, up = tf.nn.relu(kernel), None if bias is None else tf.nn.relu(bias)
                    negative = -tf.nn.relu(-kernel) if both or alpha > 1 else None
                    for_it = apply(high, positive, up)
                    if both:
                        for_it += apply(low, negative, None)
                    parts = [(alpha, for_it, sources, 1)]
                    if alpha > 1:
                        down = None if bias is None else -tf.nn.relu(-bias)
                        against = apply(high, negative, down)
                        if both:
                            against += apply(low, positive, None)
                        parts.append((1 - alpha, against, sources, -1))
                    return _share(parts, [x], r, epsilon)[0]

                return values, share

            values = linear(inputs)
            if getattr(layer.activation, "__name__", None) in ELEMENTWISE:
                return passed(layer.activation)(values)
            return values if layer.activation is None else layer.activation(values)

        return stand_in

    return wrap


_NOT_NEGATIVE = {"Relu", "Relu6", "Sigmoid", "Softmax", "Square", "Exp", "Abs", "Softplus"}
_KEEPING_SIGNS = {"Identity", "MaxPool", "AvgPool", "Pad", "Reshape", "Transpose", "Squeeze", "Mean", "Sum"}


def _never_negative(tensor):
    """Whether the operations that made a tensor of the graph cannot give values below 0."""
    operation = tensor.op
    if operation.type in _NOT_NEGATIVE:
        return True
    if operation.type in _KEEPING_SIGNS:
        return _never_negative(operation.inputs[0])
    if operation.type == "IdentityN":
        return _never_negative(operation.inputs[tensor.value_index])
    if operation.type in ("AddV2", "ConcatV2"):
        terms = operation.inputs[:-1] if operation.type == "ConcatV2" else operation.inputs
        return all(_never_negative(one) for one in terms)
    return False
