"""Find the logits, the values before the softmax or sigmoid, by walking back from a model's output.

The walk passes through all operations that keep each class separate and in order: casts, reshapes, slices, adding and
multiplying by constants, clipping, logarithms, powers, renormalization. Probabilities may be averaged, added or
multiplied (an ensemble, frames of a video, a mixture of experts). Then the logarithm of the result replaces the logits,
because it does not saturate where its parts do. Nothing here depends on how a model was written; eager passes have to
be watched (see `dataflow.watching`).
"""

import dataclasses
from typing import Any

from recipes.explain.engine import dataflow
from recipes.explain.engine.output_graph import SAME, is_linear
from recipes.explain.engine.squashed import Squashed, of_log_softmax, of_sigmoid, of_softmax
from recipes.explain.engine.squashed_arithmetic import (
    through_chosen,
    through_clipped,
    through_difference,
    through_exp,
    through_logarithm,
    through_power,
    through_product,
    through_quotient,
    through_reciprocal,
    through_rectified,
    through_reduced,
    through_sum,
    through_weighed,
)
from recipes.explain.engine.squashed_moves import through_joined, through_moved, through_split


@dataclasses.dataclass(frozen=True)
class Ending:
    """The last operations of an output.

    Args:
        kind: "softmax", "sigmoid", "mean" (of probabilities), "linear" (no softmax or sigmoid) or "unknown".
        logits: The score of each class, in the output's shape. For "mean" it is the logarithm of the output; if no
            logits were found, it is the output itself.
        other: For one sigmoid, the score of the other class.
        squashed: Whether a softmax or sigmoid was seen, even if it could not be undone.
        two: Whether each value stands for two classes, a class and its opposite.
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
        linear = is_linear(output)
        return Ending("linear" if linear else "unknown", output, squashed=linear is None)
    kind = value.base if value.kind == "log" else value.kind
    if value.logits is not None and kind in ("softmax", "sigmoid"):
        return Ending(kind, value.logits, -value.logits, True, kind == "sigmoid")
    if value.log is not None and value.kind in ("softmax", "sigmoid"):
        two = value.kind == "sigmoid" and value.other is not None
        return Ending("mean", value.log(), value.other() if two else None, True, two)
    return Ending("unknown", output, squashed=True)


def _value_of(tensor: Any) -> Squashed | None:
    """The `Squashed` of a tensor; None if it was not squashed or its origin is not known."""
    made = dataflow.made(tensor)
    if made is None:
        return None
    rule = _RULES.get(made.type)
    if made.type in SAME or (made.type == "IdentityN" and len(made.inputs) > made.place):
        return _value_of(made.inputs[made.place if made.type == "IdentityN" else 0])
    return rule(dataclasses.replace(made, output=tensor), _value_of) if rule else None


_RULES = {
    "Softmax": of_softmax,
    "LogSoftmax": of_log_softmax,
    "Sigmoid": of_sigmoid,
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
        through_moved,
    ),
    "BroadcastTo": through_moved,
    "Split": through_split,
    **dict.fromkeys(("Pack", "ConcatV2"), through_joined),
    **dict.fromkeys(("Add", "AddV2", "AddN"), through_sum),
    "Sub": through_difference,
    "Mul": through_product,
    "RealDiv": through_quotient,
    **dict.fromkeys(("Reciprocal", "Inv"), through_reciprocal),
    "Exp": through_exp,
    "Log": through_logarithm,
    **dict.fromkeys(("Pow", "Sqrt", "Square"), through_power),
    **dict.fromkeys(("ClipByValue", "Maximum", "Minimum"), through_clipped),
    **dict.fromkeys(("Select", "SelectV2"), through_chosen),
    **dict.fromkeys(("Relu", "Relu6"), through_rectified),
    **dict.fromkeys(("Mean", "Sum"), through_reduced),
    **dict.fromkeys(("Einsum", "MatMul", "BatchMatMulV2"), through_weighed),
}
