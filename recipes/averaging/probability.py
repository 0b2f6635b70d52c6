"""What a classifier's outputs are - logits or probabilities - and how to average them."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from recipes.common.models import output_activation

SPACES = ("probability", "logit")
_SMALLEST = 1e-7


class Outputs:
    """Meaning of a classifier's outputs.

    Attributes:
        logits: True for scores before softmax or sigmoid.
        exclusive: True when each example has one class (softmax), False for independent yes-or-no (sigmoid).
    """

    def __init__(self, logits: bool, exclusive: bool) -> None:
        self.logits, self.exclusive = bool(logits), bool(exclusive)

    @classmethod
    def of(
        cls, model: keras.Model, from_logits: bool | None, shape: tuple[int | None, ...], caller: str
    ) -> "Outputs":
        """Read the kind of outputs from the last layer, or take what the user says. `shape` is the output's, if known.

        Raises:
            ValueError: when neither says which of the two the outputs are.
        """
        activation = output_activation(model)
        several = shape is None or shape[-1] != 1
        if from_logits is not None:
            return cls(from_logits, several and activation != "sigmoid")
        if activation in ("softmax", "sigmoid"):
            return cls(False, activation == "softmax")
        if activation == "linear":
            return cls(True, several)
        raise ValueError(
            f"{caller} expects a last layer with softmax, sigmoid or no activation, to know probabilities from "
            f"logits. Received {model.name!r} with {activation or 'a graph that cannot be read'}. "
            "Give from_logits=True or from_logits=False."
        )

    def to_probability(self, outputs: Any) -> Any:
        """Probabilities, float32 `(batch, classes)` in [0, 1]; rows sum to 1 where classes exclude one another.

        Args:
            outputs: What the model gives, `(batch, classes)`, of any float dtype.
        """
        outputs = ops.cast(outputs, "float32")
        if not self.logits:
            return outputs
        return ops.softmax(outputs) if self.exclusive else ops.sigmoid(outputs)

    def to_logit(self, outputs: Any) -> Any:
        """Logits, float32 `(batch, classes)`; for softmax up to a constant per example, which softmax ignores.

        Args:
            outputs: What the model gives, `(batch, classes)`, of any float dtype.
        """
        outputs = ops.cast(outputs, "float32")
        if self.logits:
            return outputs
        outputs = ops.clip(outputs, _SMALLEST, 1 - _SMALLEST)
        return ops.log(outputs) if self.exclusive else ops.log(outputs) - ops.log1p(-outputs)

    @property
    def activation(self) -> Callable[[Any], Any]:
        """What turns logits into probabilities: softmax over the last axis, or sigmoid."""
        return keras.activations.softmax if self.exclusive else keras.activations.sigmoid


def check_space(space: str, caller: str) -> None:
    """Check where averages are taken.

    Args:
        space: "probability" or "logit".
        caller: The name of the function, for the error.

    Raises:
        ValueError: for anything else.
    """
    if not isinstance(space, str) or space not in SPACES:
        raise ValueError(
            f"{caller} expects space to be one of {SPACES}. Received space={space!r}. "
            "Take 'probability' for the arithmetic mean, 'logit' for the geometric one."
        )
