"""Find how an output of a model was computed: constants, sums over classes, and whether a softmax is used."""

from typing import Any

import numpy as np
import tensorflow as tf

from recipes.explain.engine import dataflow

# These pass a value on unchanged, as far as an explanation is concerned.
SAME = ("Cast", "Identity", "StopGradient", "PreventGradient", "CheckNumerics", "EnsureShape", "Snapshot")
# These apply weights, so that a softmax or sigmoid before them does not squash the output.
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
# These give equal results for equal inputs.
_PLACE_BY_PLACE = (
    *SAME,
    "Exp",
    "Square",
    "Pow",
    "Sqrt",
    "Sub",
    "Add",
    "AddV2",
    "Mul",
    "RealDiv",
    "Max",
    "Maximum",
    "Softmax",
)
_SQUASHING = ("Softmax", "LogSoftmax", "Sigmoid")


def constant_of(tensor: Any) -> Any:
    """The value of a tensor if it is the same for every image; otherwise None."""
    if isinstance(tensor, tf.__internal__.EagerTensor):
        made = dataflow.made(tensor)
        derived = made is not None and made.type in (
            *("Cast", "Fill", "Range", "Pack", "Identity", "Reshape", "Neg", "RealDiv", "Mul"),
        )
        if made is None or (derived and all(constant_of(part) is not None for part in made.inputs)):
            return tensor.numpy() if (tensor.shape.num_elements() or 0) <= 65536 else None
        return None
    return tf.get_static_value(tensor)


def same_tensor(one: Any, other: Any) -> bool:
    """Whether two Python objects are the same tensor."""
    if isinstance(one, tf.__internal__.EagerTensor):
        return one is other
    return one.op.name == other.op.name and one.value_index == other.value_index


def strip(tensor: Any) -> dataflow.Made | None:
    """How a tensor was made, skipping operations that pass values on or only reshape them."""
    made = dataflow.made(tensor)
    while made is not None and made.type in (*SAME, "Reshape", "Squeeze", "ExpandDims", "BroadcastTo"):
        made = dataflow.made(made.inputs[0])
    return made


def is_sum_of(lower: Any, upper: Any) -> bool:
    """Whether `lower` is the sum of `upper`, possibly with a lower bound or an added constant against zero."""
    made = strip(lower)
    while made is not None and made.type in ("AddV2", "Maximum"):
        parts = [part for part in made.inputs if constant_of(part) is None]
        made = strip(parts[0]) if len(parts) == 1 else None
    return made is not None and made.type == "Sum" and _equal(made.inputs[0], upper)


def _equal(one, other, depth=0):
    """Whether two tensors are the same, or computed in the same way from the same, such as a square written twice."""
    if same_tensor(one, other):
        return True
    values = constant_of(one), constant_of(other)
    if values[0] is not None and values[1] is not None:
        return np.array_equal(*values)
    left, right = dataflow.made(one), dataflow.made(other)
    if (
        left is None
        or right is None
        or depth > 8
        or (left.type, len(left.inputs)) != (right.type, len(right.inputs))
    ):
        return False
    return left.type in _PLACE_BY_PLACE and all(
        _equal(mine, others, depth + 1) for mine, others in zip(left.inputs, right.inputs, strict=True)
    )


def without_shared(tensor: Any) -> Any:
    """The logits without a number subtracted from all classes, such as the maximum in a softmax written by hand."""
    made = dataflow.made(tensor)
    while made is not None and made.type in (*SAME, "Sub"):
        if made.type == "Sub" and not _is_shared(*made.inputs):
            break
        tensor = made.inputs[0]
        made = dataflow.made(tensor)
    return tensor


def _is_shared(values, taken):
    """Whether the subtracted tensor has one number for all classes."""
    return taken.shape.rank == values.shape.rank and taken.shape[-1] == 1 != values.shape[-1]


def is_log_sum_exp(tensor: Any) -> bool:
    """Whether a tensor is the logarithm of a sum of exponentials, with or without a subtracted maximum."""
    made = strip(tensor)
    if made is not None and made.type in ("Add", "AddV2"):  # log(sum(exp(x - max))) + max
        return any(is_log_sum_exp(part) for part in made.inputs)
    if made is None or made.type != "Log":
        return False
    made = strip(made.inputs[0])
    if made is None or made.type != "Sum":
        return False
    made = strip(made.inputs[0])
    return made is not None and made.type == "Exp"


def is_linear(tensor: Any, depth: int = 0) -> bool | None:
    """True if the network ends in weights or sums of values that are not squashed, None if squashed values are joined.

    False means that it is not known.
    """
    made = dataflow.made(tensor)
    if made is None or depth > 30:
        return False
    if made.type in _SQUASHING:
        return None
    if made.type in _WEIGHTED:
        # Weights that mix classes, such as a matrix of label noise, give probabilities again.
        mixed = [strip(part) for part in made.inputs[:2]]
        probabilities = made.type != "BiasAdd" and mixed[0] is not None and mixed[0].type == "Softmax"
        return None if probabilities and is_fixed(made.inputs[1]) else True
    if made.type in SAME:
        return is_linear(made.inputs[0], depth + 1)
    if made.type == "IdentityN" and len(made.inputs) > made.place:
        return is_linear(made.inputs[made.place], depth + 1)
    if made.type not in (*_LINEAR, *_CHOOSING):
        return False
    parts = [part for part in made.inputs if part.dtype.is_floating and constant_of(part) is None]
    found = [is_linear(part, depth + 1) for part in parts]
    if made.type in (
        "Mul",
        "RealDiv",
    ):  # a gate is not a squashed output; a temperature scales a linear output
        if any(one is True for one in found):
            return all(one is True or _is_variable(part) for one, part in zip(found, parts, strict=True))
        squashed = [one is None or is_fixed(part) for one, part in zip(found, parts, strict=True)]
        return None if None in found and all(squashed) else False
    if None in found:
        return None
    joins = made.type in ("Mean", "Sum") or (made.type in ("Add", "AddV2", "AddN", "Sub") and len(parts) > 1)
    return made.type not in _CHOOSING and (joins or all(found))


def _is_variable(tensor):
    """Whether a tensor is read from a variable, such as a temperature."""
    made = strip(tensor)
    return made is not None and made.type in ("ReadVariableOp", "Placeholder")


def is_fixed(tensor: Any, depth: int = 0) -> bool:
    """Whether a tensor is computed from variables and constants only, so that it is the same for every image."""
    made = dataflow.made(tensor)
    if isinstance(tensor, tf.__internal__.EagerTensor):
        if made is None:  # from outside the pass; the images have a batch axis
            return tensor.shape.rank < 2
    elif constant_of(tensor) is not None:
        return True
    if made.type == "ReadVariableOp":
        return True
    return depth < 12 and bool(made.inputs) and all(is_fixed(part, depth + 1) for part in made.inputs)
