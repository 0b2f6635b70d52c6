"""The value before the softmax or sigmoid, found by walking back from a model's output.

The way back leads through everything that keeps each class by itself and in order: casts, reshapes, slices, adding and
multiplying by constants, clipping, logarithms, powers, renormalization. Where probabilities are averaged, added or
multiplied (an ensemble, frames of a video, a mixture of experts), the logarithm of the whole stands in for the logits:
it does not saturate where its parts do. Nothing here depends on how a model was written; eager passes have to be
watched (see `dataflow.watching`).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from recipes.explain.engine import dataflow

# These pass a value on, as far as an explanation goes.
_SAME = ("Cast", "Identity", "StopGradient", "PreventGradient", "CheckNumerics", "EnsureShape", "Snapshot")
# These apply weights, so that whatever comes before them is no squashed output any more.
_WEIGHTED = (
    *("BiasAdd", "MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum", "Conv2D", "Conv3D"),
    *("DepthwiseConv2dNative", "Conv2DBackpropInput", "Conv3DBackpropInputV2", "XlaDotV2"),
)
# These join or move values without squashing them.
_LINEAR = (
    *(
        "Add",
        "AddV2",
        "AddN",
        "Sub",
        "Neg",
        "Mean",
        "Sum",
        "Mul",
        "RealDiv",
        "ConcatV2",
        "Pack",
        "Unpack",
        "Split",
    ),
    *(
        "Reshape",
        "Squeeze",
        "ExpandDims",
        "Transpose",
        "StridedSlice",
        "Slice",
        "GatherV2",
        "Tile",
        "Pad",
        "IdentityN",
    ),
)
_CHOOSING = ("Maximum", "Minimum", "SelectV2", "Max", "Min")
_SQUASHING = ("Softmax", "LogSoftmax", "Sigmoid")
_TINY = 1e-30


@dataclasses.dataclass(frozen=True)
class Ending:
    """How an output ends.

    Args:
        kind: "softmax", "sigmoid", "mean" (of probabilities), "linear" (nothing squashes) or "unknown".
        logits: Of the output's shape: the score of each class. For "mean" the logarithm of the output, else the output
            itself where nothing was found.
        other: For one sigmoid, the score of the class that it does not name.
        squashed: Whether a softmax or sigmoid was seen, also where it could not be taken away.
        two: Whether each value stands for two classes, itself and what it is not.
    """

    kind: str
    logits: object
    other: object = None
    squashed: bool = False
    two: bool = False


def ending_of(output: Any) -> Any:
    """The `Ending` of an output of a model."""
    value = _value_of(output)
    if value is None:
        logits = getattr(output, "_keras_logits", None)
        if logits is not None:
            two = output.shape[-1] == 1
            return Ending("sigmoid" if two else "softmax", logits, -logits, True, two)
        linear = _is_linear(output)
        return Ending("linear" if linear else "unknown", output, squashed=linear is None)
    kind = value.base if value.kind == "log" else value.kind
    if value.logits is not None and kind in ("softmax", "sigmoid"):
        return Ending(kind, value.logits, -value.logits, True, kind == "sigmoid")
    if value.log is not None and value.kind in ("softmax", "sigmoid"):
        two = value.kind == "sigmoid" and value.other is not None
        return Ending("mean", value.log(), value.other() if two else None, True, two)
    return Ending("unknown", output, squashed=True)


@dataclasses.dataclass(frozen=True)
class _Value:
    """A tensor that was squashed on its way.

    Args:
        kind: "softmax", "sigmoid", "exp" (not yet divided by its sum) or "log" (a logarithm of probabilities).
        logits: Per class, up to what all classes share; None where several were joined.
        log: Makes the logarithm of the tensor; None where it has none.
        other: Makes the logarithm of one minus the tensor, joined as the tensor was; for sigmoids.
        base: For "log", the kind that it is the logarithm of.
    """

    kind: str
    logits: object = None
    log: Callable | None = None
    other: Callable | None = None
    base: str = "softmax"


def _value_of(tensor):
    """The `_Value` of a tensor; None where it is none, or cannot be told."""
    made = dataflow.made(tensor)
    if made is None:
        return None
    rule = _RULES.get(made.type)
    if made.type in _SAME or (made.type == "IdentityN" and len(made.inputs) > made.place):
        return _value_of(made.inputs[made.place if made.type == "IdentityN" else 0])
    return rule(dataclasses.replace(made, output=tensor)) if rule else None


def _softmax(made):
    logits = tf.cast(made.inputs[0], "float32")
    return _Value("softmax", logits, lambda: tf.nn.log_softmax(logits))


def _log_softmax(made):
    return _Value("log", tf.cast(made.inputs[0], "float32"))


def _sigmoid(made):
    return _sigmoid_of(tf.cast(made.inputs[0], "float32"))


def _sigmoid_of(logits):
    return _Value(
        "sigmoid", logits, lambda: tf.math.log_sigmoid(logits), lambda: tf.math.log_sigmoid(-logits)
    )


def _moved(made):
    """What moves values about, done again to the logits."""
    value = _value_of(made.inputs[0])
    if value is None:
        return None
    again = _again(made)
    logits, log, other = value.logits, value.log, value.other
    if value.kind == "softmax" and logits is not None and _cuts_classes(made):
        # One probability of several: its log-odds, as of a sigmoid.
        odds = again(log()) - again(_log_of_rest(logits))
        return _sigmoid_of(odds)
    return dataclasses.replace(
        value,
        logits=None if logits is None else again(logits),
        log=log and (lambda: again(log())),
        other=other and (lambda: again(other())),
    )


def _cuts_classes(made):
    """Whether a slice of an output leaves a single class of several."""
    before, after = made.inputs[0].shape, made.output.shape
    if (
        made.type not in ("StridedSlice", "GatherV2", "Unpack", "Split", "Slice", "SplitV")
        or before.rank is None
    ):
        return False
    classes = before[-1]
    if classes in (None, 1) or after.rank is None or (after.rank == before.rank and after[-1] == classes):
        return False
    return after.rank < before.rank and (after.rank == 0 or after[-1] != classes) or after[-1] == 1


def _log_of_rest(logits):
    """The logarithm of one minus each probability of a softmax, exact also where that is close to nothing."""
    log = tf.nn.log_softmax(logits)
    largest = tf.one_hot(tf.argmax(logits, -1), tf.shape(logits)[-1], True, False, dtype="bool")
    without = tf.where(largest, tf.fill(tf.shape(logits), -np.inf), logits)
    rest = tf.reduce_logsumexp(without, -1, keepdims=True) - tf.reduce_logsumexp(logits, -1, keepdims=True)
    # Where it is not the largest, a probability is at most a half.
    safe = tf.where(largest, tf.fill(tf.shape(log), -1.0), log)
    return tf.where(largest, rest, tf.math.log(-tf.math.expm1(safe)))


def _again(made):
    """The same operation as a function of another tensor in place of its first."""
    rest = made.inputs[1:]
    attribute = made.attribute

    def strided_slice(x):
        names = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
        masks = {name: attribute(name) for name in names}
        return tf.raw_ops.StridedSlice(input=x, begin=rest[0], end=rest[1], strides=rest[2], **masks)

    def squeeze(x):
        return tf.squeeze(x, list(attribute("squeeze_dims") or []) or None)

    return {
        "Reshape": lambda x: tf.reshape(x, rest[0]),
        "ExpandDims": lambda x: tf.expand_dims(x, rest[0]),
        "Squeeze": squeeze,
        "Transpose": lambda x: tf.transpose(x, rest[0]),
        "StridedSlice": strided_slice,
        "Slice": lambda x: tf.slice(x, *rest),
        "GatherV2": lambda x: tf.gather(
            x, rest[0], axis=int(_constant(rest[1])), batch_dims=attribute("batch_dims")
        ),
        "Unpack": lambda x: tf.unstack(x, made.outputs, attribute("axis"))[made.place],
        "Tile": lambda x: tf.tile(x, rest[0]),
        "BroadcastTo": lambda x: tf.broadcast_to(x, rest[0]),
    }[made.type]


def _split(made):
    """One piece of a split along an axis."""
    axis, whole = made.inputs[0], made.inputs[1]
    turned = dataclasses.replace(made, type="Unpack", inputs=(whole,))
    value = _value_of(whole)
    if value is None or value.logits is None or value.kind not in ("softmax", "sigmoid"):
        return None
    axis = int(_constant(axis))
    logits = tf.split(value.logits, made.outputs, axis)[made.place]
    if value.kind == "softmax" and _cuts_classes(turned):
        return _sigmoid_of(tf.split(value.log() - _log_of_rest(value.logits), made.outputs, axis)[made.place])
    return _sigmoid_of(logits) if value.kind == "sigmoid" else _Value("softmax", logits)


def _joined(made):
    """Several outputs beside each other or stacked."""
    parts = made.inputs if made.type == "Pack" else made.inputs[:-1]
    values = [_value_of(part) for part in parts]
    if any(value is None for value in values):
        return None
    axis = made.attribute("axis") if made.type == "Pack" else int(_constant(made.inputs[-1]))
    join = (
        (lambda parts: tf.stack(parts, axis))
        if made.type == "Pack"
        else (lambda parts: tf.concat(parts, axis))
    )

    def every(get):
        found = [get(value) for value in values]
        return None if any(one is None for one in found) else found

    logits, logs, others = (every(get) for get in (lambda v: v.logits, lambda v: v.log, lambda v: v.other))
    kinds = {value.kind for value in values}
    beside = (
        made.type == "ConcatV2"
        and made.output.shape.rank
        and axis in (-1, made.output.shape.rank - 1)
        and len(values) > 1
    )
    if beside and kinds == {"sigmoid"} and all(part.shape[-1] == 1 for part in parts):
        kinds = {"softmax"}  # one column for each class, such as [1 - p, p]
    if len(kinds) > 1 or (kinds == {"sigmoid"} and others is None):
        return None
    return _Value(
        kinds.pop(),
        None if logits is None else join(logits),
        logs and (lambda: join([log() for log in logs])),
        others and (lambda: join([other() for other in others])),
    )


def _sum(made):
    """A sum of two or more: a constant moves every class alike, probabilities make a mixture."""
    parts = list(made.inputs)
    constants = [_constant(part) for part in parts]
    values = [_value_of(part) for part, constant in zip(parts, constants, strict=True) if constant is None]
    if any(value is None for value in values) or not values:
        return None
    constant = sum(one for one in constants if one is not None)
    if len(values) == 1:
        return _shifted(values[0], constant)
    if all(value.kind == "log" for value in values):
        found = [value.logits for value in values]
        return None if any(one is None for one in found) else _Value("log", sum(found), base=values[0].base)
    kinds = {value.kind for value in values}
    if len(kinds) > 1 or kinds & {"log", "exp"} or any(value.log is None for value in values):
        return None

    def total(logs):
        return tf.reduce_logsumexp(tf.stack(tf.nest.map_structure(tf.identity, _alike(logs))), 0)

    others = [value.other for value in values]
    return _Value(
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
    """A value plus a constant, which moves all images alike."""
    if value.kind == "exp":
        return None
    if np.all(np.asarray(constant) == 0):
        return value
    log = value.log
    lifted = None
    if log is not None and np.all(np.asarray(constant) > 0):
        lifted = lambda: tf.reduce_logsumexp(  # noqa: E731 - made only where it is asked for
            tf.stack(_alike([log(), tf.math.log(tf.cast(constant, "float32"))])), 0
        )
    return dataclasses.replace(value, log=lifted, other=None)


def _difference(made):
    left, right = made.inputs
    constants = _constant(left), _constant(right)
    if constants[1] is not None:
        value = _value_of(left)
        return None if value is None else _shifted(value, -constants[1])
    if constants[0] is not None and np.all(constants[0] == 1):
        value = _value_of(right)
        if value is None or value.kind != "sigmoid":
            return None
        return _Value("sigmoid", None if value.logits is None else -value.logits, value.other, value.log)
    # x - log(sum(exp(x))) is a log-softmax, x - max(x) what comes before a softmax written by hand.
    return _Value("log", tf.cast(left, "float32")) if _is_log_sum_exp(right) else None


def _product(made):
    left, right = made.inputs
    constants = _constant(left), _constant(right)
    if constants[0] is not None or constants[1] is not None:
        constant, part = (constants[0], right) if constants[0] is not None else (constants[1], left)
        return _scaled(_value_of(part), constant)
    values = _value_of(left), _value_of(right)
    if None in values or any(
        value.log is None or value.kind not in ("softmax", "sigmoid") for value in values
    ):
        return None
    logs = [value.log for value in values]
    kind = "softmax" if "softmax" in (values[0].kind, values[1].kind) else "sigmoid"
    return _Value(kind, None, lambda: logs[0]() + logs[1]())


def _scaled(value, constant):
    """A value times a positive constant."""
    if value is None or not np.all(np.asarray(constant) > 0):
        return None
    if value.kind == "log":
        return dataclasses.replace(
            value, logits=None if value.logits is None else value.logits * np.float32(constant)
        )
    shift, log, other = np.log(np.asarray(constant, "float32")), value.log, value.other
    return dataclasses.replace(
        value, log=log and (lambda: log() + shift), other=other and (lambda: other() + shift)
    )


def _quotient(made):
    upper, lower = made.inputs
    constants = _constant(upper), _constant(lower)
    if constants[1] is not None:
        return _scaled(_value_of(upper), 1 / np.asarray(constants[1], "float64"))
    if constants[0] is not None:
        return _hand_made_sigmoid(lower) if np.all(constants[0] == 1) else None
    value = _value_of(upper)
    if value is None or not _is_sum_of(lower, upper):
        return None
    if value.kind == "exp":
        return _Value("softmax", value.logits, lambda: tf.nn.log_softmax(value.logits))
    log = value.log
    if value.kind != "softmax":
        return None
    return _Value(
        "softmax", value.logits, log and (lambda: log() - tf.reduce_logsumexp(log(), -1, keepdims=True))
    )


def _reciprocal(made):
    return _hand_made_sigmoid(made.inputs[0])


def _hand_made_sigmoid(lower):
    """1 / (1 + exp(-x))."""
    made = _strip(lower)
    if made is None or made.type != "AddV2":
        return None
    for constant, other in (made.inputs, made.inputs[::-1]):
        if _constant(constant) is not None and np.all(_constant(constant) == 1):
            inner = _strip(other)
            if inner is not None and inner.type == "Exp":
                return _sigmoid_of(-tf.cast(inner.inputs[0], "float32"))
    return None


def _exp(made):
    value = _value_of(made.inputs[0])
    if value is not None and value.kind == "log" and value.logits is not None:
        logits = value.logits
        if value.base == "sigmoid":
            return _sigmoid_of(logits)
        return _Value("softmax", logits, lambda: tf.nn.log_softmax(logits))
    return _Value("exp", tf.cast(made.inputs[0], "float32")) if value is None else None


def _logarithm(made):
    value = _value_of(made.inputs[0])
    if value is None or value.kind not in ("softmax", "sigmoid"):
        return None
    return _Value(
        "log", value.logits if value.logits is not None else value.log and value.log(), base=value.kind
    )


def _power(made):
    """p ** a, and its special cases: the logits times a."""
    exponent = {"Sqrt": 0.5, "Square": 2.0}.get(made.type)
    if made.type == "Pow":
        exponent = _constant(made.inputs[1])
    value = _value_of(made.inputs[0])
    if (
        exponent is None
        or value is None
        or value.kind not in ("softmax", "sigmoid")
        or not np.all(exponent > 0)
    ):
        return None
    log, factor = value.log, np.float32(exponent)
    logits = None if value.logits is None else value.logits * (factor if value.kind == "softmax" else 1)
    return _Value(value.kind, logits, log and (lambda: log() * factor))


def _clipped(made):
    """A value kept away from 0 and 1."""
    for part, bounds in ((made.inputs[0], made.inputs[1:]), (made.inputs[1], made.inputs[:1])):
        if all(_constant(bound) is not None for bound in bounds):
            return _value_of(part)
    return None


def _reduced(made):
    """A mean or sum over frames, views or members."""
    value = _value_of(made.inputs[0])
    axes = _constant(made.inputs[1])
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
    return _Value(value.kind, None, lambda: reduce(log()), other and (lambda: reduce(other())))


def _weighed(made):
    """Probabilities joined by a matrix product with weights that are known, or probabilities themselves."""
    values = [_value_of(part) for part in made.inputs]
    known = [
        value is not None or _constant(part) is not None
        for value, part in zip(values, made.inputs, strict=True)
    ]
    kinds = {value.kind for value in values if value is not None}
    if not all(known) or not kinds <= {"softmax", "sigmoid"} or not kinds:
        return None
    return _Value("softmax", None, lambda: tf.math.log(tf.maximum(tf.cast(made.output, "float32"), _TINY)))


_RULES = {
    "Softmax": _softmax,
    "LogSoftmax": _log_softmax,
    "Sigmoid": _sigmoid,
    **dict.fromkeys(
        (
            "Reshape",
            "ExpandDims",
            "Squeeze",
            "Transpose",
            "StridedSlice",
            "Slice",
            "GatherV2",
            "Unpack",
            "Tile",
        ),
        _moved,
    ),
    "BroadcastTo": _moved,
    "Split": _split,
    **dict.fromkeys(("Pack", "ConcatV2"), _joined),
    **dict.fromkeys(("Add", "AddV2", "AddN"), _sum),
    "Sub": _difference,
    "Mul": _product,
    "RealDiv": _quotient,
    **dict.fromkeys(("Reciprocal", "Inv"), _reciprocal),
    "Exp": _exp,
    "Log": _logarithm,
    **dict.fromkeys(("Pow", "Sqrt", "Square"), _power),
    **dict.fromkeys(("ClipByValue", "Maximum", "Minimum"), _clipped),
    **dict.fromkeys(("Mean", "Sum"), _reduced),
    **dict.fromkeys(("Einsum", "MatMul", "BatchMatMulV2"), _weighed),
}


def _constant(tensor):
    """The value of a tensor that is the same for every image; None otherwise."""
    if isinstance(tensor, tf.__internal__.EagerTensor):
        made = dataflow.made(tensor)
        derived = made is not None and made.type in ("Cast", "Fill", "Range", "Pack", "Identity", "Reshape")
        if made is None or (derived and all(_constant(part) is not None for part in made.inputs)):
            return tensor.numpy() if (tensor.shape.num_elements() or 0) <= 65536 else None
        return None
    return tf.get_static_value(tensor)


def _same(one, other):
    """Whether two names stand for one tensor."""
    if isinstance(one, tf.__internal__.EagerTensor):
        return one is other
    return one.op.name == other.op.name and one.value_index == other.value_index


def _strip(tensor):
    """How a tensor was made, behind what passes values on or only reshapes them."""
    made = dataflow.made(tensor)
    while made is not None and made.type in (*_SAME, "Reshape", "Squeeze", "ExpandDims", "BroadcastTo"):
        made = dataflow.made(made.inputs[0])
    return made


def _is_sum_of(lower, upper):
    """Whether `lower` is the sum of `upper`, possibly kept away from zero."""
    made = _strip(lower)
    while made is not None and made.type in ("AddV2", "Maximum"):
        parts = [part for part in made.inputs if _constant(part) is None]
        made = _strip(parts[0]) if len(parts) == 1 else None
    return made is not None and made.type == "Sum" and _same(made.inputs[0], upper)


def _is_log_sum_exp(tensor):
    """Whether a tensor is the logarithm of a sum of exponentials, with or without a maximum taken out."""
    made = _strip(tensor)
    if made is not None and made.type in ("Add", "AddV2"):  # log(sum(exp(x - max))) + max
        return any(_is_log_sum_exp(part) for part in made.inputs)
    if made is None or made.type != "Log":
        return False
    made = _strip(made.inputs[0])
    if made is None or made.type != "Sum":
        return False
    made = _strip(made.inputs[0])
    return made is not None and made.type == "Exp"


def _is_linear(tensor, depth=0):
    """True where weights or sums end the network and nothing squashed is among what they join; None where it is."""
    made = dataflow.made(tensor)
    if made is None or depth > 30:
        return False
    if made.type in _SQUASHING:
        return None
    if made.type in _WEIGHTED:
        return True
    if made.type in _SAME:
        return _is_linear(made.inputs[0], depth + 1)
    if made.type not in (*_LINEAR, *_CHOOSING):
        return False
    parts = [part for part in made.inputs if part.dtype.is_floating and _constant(part) is None]
    found = [_is_linear(part, depth + 1) for part in parts]
    if made.type in ("Mul", "RealDiv"):  # a gate is no squashed output; a temperature scales a linear one
        if any(one is True for one in found):
            return all(one is True or _is_variable(part) for one, part in zip(found, parts, strict=True))
        return None if all(one is None for one in found) and found else False
    if None in found:
        return None
    joins = made.type in ("Add", "AddV2", "AddN", "Sub", "Mean", "Sum")
    return made.type not in _CHOOSING and (joins or all(found))


def _is_variable(tensor):
    """Whether a tensor is read from a variable, such as a temperature."""
    made = _strip(tensor)
    return made is not None and made.type in ("ReadVariableOp", "Placeholder")
