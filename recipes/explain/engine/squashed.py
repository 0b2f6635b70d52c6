"""A tensor that a softmax or sigmoid squashed, with the logits it came from."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import tensorflow as tf

from recipes.explain.engine import dataflow


@dataclasses.dataclass(frozen=True)
class Squashed:
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


#: function `tensor -> Squashed`, or None where it was not squashed or cannot be told; each rule goes on with it.
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
