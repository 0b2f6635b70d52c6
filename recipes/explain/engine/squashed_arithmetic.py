"""Rules for arithmetic on squashed values: mixtures, temperatures, powers, logarithms, softmaxes written by hand."""

import dataclasses

import numpy as np
import tensorflow as tf

from recipes.explain.engine import dataflow
from recipes.explain.engine.output_graph import (
    constant_of,
    is_fixed,
    is_log_sum_exp,
    is_sum_of,
    strip,
    without_shared,
)
from recipes.explain.engine.squashed import Squashed, ValueOf, sigmoid_of

_TINY = 1e-30


def through_sum(made: dataflow.Made, value_of: ValueOf) -> Squashed | None:
    """A sum: adding a constant shifts all classes alike, adding probabilities gives a mixture."""
    parts = list(made.inputs)
    constants = [constant_of(part) for part in parts]
    values = [value_of(part) for part, constant in zip(parts, constants, strict=True) if constant is None]
    if any(value is None for value in values) or not values:
        return None
    constant = sum(one for one in constants if one is not None)
    if len(values) == 1:
        return _shifted(values[0], constant)
    if all(value.kind == "log" for value in values):
        found = [value.logits for value in values]
        return None if any(one is None for one in found) else Squashed("log", sum(found), base=values[0].base)
    kinds = {value.kind for value in values}
    if len(kinds) > 1 or kinds & {"log", "exp"} or any(value.log is None for value in values):
        return None

    def total(logs):
        return tf.reduce_logsumexp(tf.stack(tf.nest.map_structure(tf.identity, _alike(logs))), 0)

    others = [value.other for value in values]
    return Squashed(
        kinds.pop(),
        None,
        lambda: total([value.log() for value in values]),
        None if None in others else lambda: total([other() for other in others]),
    )


def _alike(tensors):
    """Tensors broadcast to one shape."""
    shape = tf.shape(sum(tensors))
    static = sum(tensors).shape
    found = [tf.broadcast_to(tensor, shape) for tensor in tensors]
    for one in found:
        one.set_shape(static) if not tf.executing_eagerly() else None
    return found


def _shifted(value, constant):
    """A value plus a constant, which shifts all images alike."""
    if value.kind == "exp":
        return None
    if np.all(np.asarray(constant) == 0):
        return value
    log = value.log
    lifted = None
    if log is not None and np.all(np.asarray(constant) > 0):
        lifted = lambda: tf.reduce_logsumexp(  # noqa: E731 - computed only when it is needed
            tf.stack(_alike([log(), tf.math.log(tf.cast(constant, "float32"))])), 0
        )
    return dataclasses.replace(value, log=lifted, other=None)


def through_difference(made: dataflow.Made, value_of: ValueOf) -> Squashed | None:
    """One minus a sigmoid, a subtracted constant, or a logarithm of a softmax written by hand."""
    left, right = made.inputs
    constants = constant_of(left), constant_of(right)
    if constants[1] is not None:
        value = value_of(left)
        return None if value is None else _shifted(value, -constants[1])
    if constants[0] is not None and np.all(constants[0] == 1):
        value = value_of(right)
        if value is None or value.kind != "sigmoid":
            return None
        return Squashed("sigmoid", None if value.logits is None else -value.logits, value.other, value.log)
    # x - log(sum(exp(x))) is a log-softmax.
    return Squashed("log", tf.cast(without_shared(left), "float32")) if is_log_sum_exp(right) else None


def through_product(made: dataflow.Made, value_of: ValueOf) -> Squashed | None:
    """A positive factor, or probabilities times probabilities."""
    left, right = made.inputs
    constants = constant_of(left), constant_of(right)
    if constants[0] is not None or constants[1] is not None:
        constant, part = (constants[0], right) if constants[0] is not None else (constants[1], left)
        return _scaled(value_of(part), constant)
    values = value_of(left), value_of(right)
    for value, other in zip(values, (right, left), strict=True):
        if value is not None and _is_mask(other):
            return value
    if None in values or any(
        value.log is None or value.kind not in ("softmax", "sigmoid") for value in values
    ):
        return None
    logs = [value.log for value in values]
    kind = "softmax" if "softmax" in (values[0].kind, values[1].kind) else "sigmoid"
    return Squashed(kind, None, lambda: logs[0]() + logs[1]())


def _is_mask(tensor):
    """Whether a tensor is a mask of the classes."""
    made = strip(tensor)
    casts = dataflow.made(tensor)
    return made is not None and (
        made.type.startswith("Logical")
        or (casts is not None and casts.type == "Cast" and casts.inputs[0].dtype == tf.bool)
    )


def _scaled(value, constant):
    """A value times a positive constant, which may be 0 for some classes."""
    if value is None or not np.all(np.asarray(constant) >= 0) or not np.any(constant):
        return None
    if value.kind == "log":
        return dataclasses.replace(
            value, logits=None if value.logits is None else value.logits * np.float32(constant)
        )
    shift, log, other = np.log(np.maximum(np.asarray(constant, "float32"), _TINY)), value.log, value.other
    return dataclasses.replace(
        value, log=log and (lambda: log() + shift), other=other and (lambda: other() + shift)
    )


def through_quotient(made: dataflow.Made, value_of: ValueOf) -> Squashed | None:
    """A constant divisor, a sum over classes (renormalization), or a sigmoid written by hand."""
    upper, lower = made.inputs
    constants = constant_of(upper), constant_of(lower)
    if constants[1] is not None:
        return _scaled(value_of(upper), 1 / np.asarray(constants[1], "float64"))
    if constants[0] is not None:
        return _hand_made_sigmoid(lower) if np.all(constants[0] == 1) else None
    value = value_of(upper)
    if value is None or not is_sum_of(lower, upper):
        return None
    if value.kind == "exp":
        return Squashed("softmax", value.logits, lambda: tf.nn.log_softmax(value.logits))
    log = value.log
    if value.kind != "softmax":
        return None
    return Squashed(
        "softmax", value.logits, log and (lambda: log() - tf.reduce_logsumexp(log(), -1, keepdims=True))
    )


def through_reciprocal(made: dataflow.Made, _: ValueOf) -> Squashed | None:
    """A sigmoid written by hand."""
    return _hand_made_sigmoid(made.inputs[0])


def _hand_made_sigmoid(lower):
    """1 / (1 + exp(-x))."""
    made = strip(lower)
    if made is None or made.type != "AddV2":
        return None
    for constant, other in (made.inputs, made.inputs[::-1]):
        if constant_of(constant) is not None and np.all(constant_of(constant) == 1):
            inner = strip(other)
            if inner is not None and inner.type == "Exp":
                return sigmoid_of(-tf.cast(inner.inputs[0], "float32"))
    return None


def through_exp(made: dataflow.Made, value_of: ValueOf) -> Squashed | None:
    """The exponential of logarithms, or the first half of a softmax written by hand."""
    value = value_of(made.inputs[0])
    if value is not None and value.kind == "log" and value.logits is not None:
        logits = value.logits
        if value.base == "sigmoid":
            return sigmoid_of(logits)
        return Squashed("softmax", logits, lambda: tf.nn.log_softmax(logits))
    return Squashed("exp", tf.cast(without_shared(made.inputs[0]), "float32")) if value is None else None


def through_logarithm(made: dataflow.Made, value_of: ValueOf) -> Squashed | None:
    """A logarithm of probabilities."""
    value = value_of(made.inputs[0])
    if value is None or value.kind not in ("softmax", "sigmoid"):
        return None
    return Squashed(
        "log", value.logits if value.logits is not None else value.log and value.log(), base=value.kind
    )


def through_power(made: dataflow.Made, value_of: ValueOf) -> Squashed | None:
    """The power p ** a and its special cases: the logits are multiplied by a."""
    exponent = {"Sqrt": 0.5, "Square": 2.0}.get(made.type)
    if made.type == "Pow":
        exponent = constant_of(made.inputs[1])
    value = value_of(made.inputs[0])
    if (
        exponent is None
        or value is None
        or value.kind not in ("softmax", "sigmoid")
        or not np.all(exponent > 0)
    ):
        return None
    log, factor = value.log, np.float32(exponent)
    logits = None if value.logits is None else value.logits * (factor if value.kind == "softmax" else 1)
    return Squashed(value.kind, logits, log and (lambda: log() * factor))


def through_clipped(made: dataflow.Made, value_of: ValueOf) -> Squashed | None:
    """A value clipped away from 0 and 1."""
    for part, bounds in ((made.inputs[0], made.inputs[1:]), (made.inputs[1], made.inputs[:1])):
        if all(constant_of(bound) is not None for bound in bounds):
            return value_of(part)
    return None


def through_chosen(made: dataflow.Made, value_of: ValueOf) -> Squashed | None:
    """A selection between a value and a constant, such as for values that are not finite or classes that are masked."""
    for part, other in (made.inputs[1:], made.inputs[:0:-1]):
        if constant_of(other) is not None or is_fixed(other):
            return value_of(part)
    return None


def through_rectified(made: dataflow.Made, value_of: ValueOf) -> Squashed | None:
    """A rectifier, which passes probabilities."""
    value = value_of(made.inputs[0])
    return value if value is not None and value.kind in ("softmax", "sigmoid") else None


def through_reduced(made: dataflow.Made, value_of: ValueOf) -> Squashed | None:
    """A mean or sum over frames, views or members."""
    value = value_of(made.inputs[0])
    axes = constant_of(made.inputs[1])
    if value is None or axes is None:
        return None
    axes, rank = np.ravel(axes).tolist(), made.inputs[0].shape.rank
    keep = bool(made.attribute("keep_dims"))
    if value.kind == "log":
        reduce = tf.reduce_mean if made.type == "Mean" else tf.reduce_sum
        found = None if value.logits is None else reduce(value.logits, axes, keepdims=keep)
        return dataclasses.replace(value, logits=found)
    over_classes = value.kind == "softmax" and rank is not None and {-1, rank - 1} & set(axes)
    if value.log is None or value.kind == "exp" or over_classes:
        return None

    def reduce(log):
        count = tf.size(log) // tf.maximum(1, tf.size(tf.reduce_max(log, axes))) if made.type == "Mean" else 1
        return tf.reduce_logsumexp(log, axes, keepdims=keep) - tf.math.log(tf.cast(count, "float32"))

    log, other = value.log, value.other
    return Squashed(value.kind, None, lambda: reduce(log()), other and (lambda: reduce(other())))


def through_weighed(made: dataflow.Made, value_of: ValueOf) -> Squashed | None:
    """Probabilities joined by a matrix product with constant weights, or with weights that are probabilities."""
    values = [value_of(part) for part in made.inputs]
    known = [
        value is not None or constant_of(part) is not None
        for value, part in zip(values, made.inputs, strict=True)
    ]
    kinds = {value.kind for value in values if value is not None}
    if not all(known) or not kinds <= {"softmax", "sigmoid"} or not kinds:
        return None
    return Squashed("softmax", None, lambda: tf.math.log(tf.maximum(tf.cast(made.output, "float32"), _TINY)))
