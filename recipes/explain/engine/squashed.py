"""A tensor that is the result of a softmax or sigmoid, with its logits."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import tensorflow as tf

from recipes.explain.engine import dataflow


@dataclasses.dataclass(frozen=True)
class Squashed:
    """A tensor that was computed by a softmax or sigmoid, possibly with operations after it.

    Args:
        kind: "softmax", "sigmoid", "exp" (not yet divided by its sum) or "log" (a logarithm of probabilities).
        logits: The logit of each class, up to a constant that all classes share; None if several tensors were joined.
        log: Function that computes the logarithm of the tensor; None if it is not known.
        other: Function that computes the logarithm of one minus the tensor, for sigmoids; None if it is not known.
        base: For "log", the kind of which it is the logarithm.
    """

    kind: str
    logits: object = None
    log: Callable | None = None
    other: Callable | None = None
    base: str = "softmax"


#: Function `tensor -> Squashed`, or None if it was not squashed or is not known; each rule calls it for its inputs.
ValueOf: TypeAlias = "Callable[[Any], Squashed | None]"


def of_softmax(made: dataflow.Made, _: ValueOf) -> Squashed:
    """A softmax: its logarithm is known exactly."""
    logits = tf.cast(made.inputs[0], "float32")
    return Squashed("softmax", logits, lambda: tf.nn.log_softmax(logits))


def of_log_softmax(made: dataflow.Made, _: ValueOf) -> Squashed:
    """A logarithm of a softmax."""
    return Squashed("log", tf.cast(made.inputs[0], "float32"))


def of_sigmoid(made: dataflow.Made, _: ValueOf) -> Squashed:
    """A sigmoid."""
    return sigmoid_of(tf.cast(made.inputs[0], "float32"))


def sigmoid_of(logits: tf.Tensor) -> Squashed:
    """The sigmoid of known logits."""
    return Squashed(
        "sigmoid", logits, lambda: tf.math.log_sigmoid(logits), lambda: tf.math.log_sigmoid(-logits)
    )
