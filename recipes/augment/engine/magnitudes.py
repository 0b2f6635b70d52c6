"""The strength of an operation: a number, a range, or plus-minus a number, and how it is drawn."""

import dataclasses
import math
import numbers
from collections.abc import Mapping
from typing import Any, TypeAlias

import tensorflow as tf

from recipes.augment.engine.operation import OPERATIONS, call_text


@dataclasses.dataclass(frozen=True, repr=False)
class PlusMinus:
    """A strength of fixed size and random sign: `Rotate(PlusMinus(20))` turns by -20 or by 20 degrees.

    For a factor (`Brightness`, `Contrast`, `Saturation`, `Zoom`, `Stretch`) it is the distance from 1.

    Args:
        size: The absolute value, >= 0, in the unit of the argument it is passed to.

    Raises:
        ValueError: when `size` is not a number >= 0.
    """

    size: float

    def __post_init__(self) -> None:
        if not isinstance(self.size, numbers.Real) or self.size < 0:
            raise ValueError(
                f"augment.PlusMinus expects a number >= 0. Received {self.size!r}. "
                "Write PlusMinus(20) to draw -20 or 20."
            )

    def get_config(self) -> dict[str, Any]:
        return {"size": self.size}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "PlusMinus":
        return cls(**config)

    def __repr__(self) -> str:
        return call_text(self)


OPERATIONS["PlusMinus"] = PlusMinus

#: A number r for the range -r to r (for a factor: 1 - r to 1 + r), a pair (low, high), or `PlusMinus`.
Strength: TypeAlias = float | tuple[float, float] | PlusMinus


def read_range(
    owner: str,
    argument: str,
    value: Any,
    *,
    center: float = 0.0,
    lowest: float = -math.inf,
    highest: float = math.inf,
) -> tuple[float, float]:
    """Turn the user's argument into `(low, high)`, or into the two values of a `PlusMinus`.

    A number `r` stands for the range center - r to center + r, a pair for itself.

    Raises:
        ValueError: when the value is neither, or when the range leaves `lowest` to `highest`. The message names the
            operation `owner` and its `argument`.
    """
    if isinstance(value, PlusMinus):
        low, high = center - value.size, center + value.size
    elif isinstance(value, numbers.Real) and not isinstance(value, bool):
        if not value >= 0:
            raise ValueError(
                f"augment.{owner} expects {argument} to be a number >= 0 or a pair (low, high). Received "
                f"{value!r}. A number r stands for the range {center:g} - r to {center:g} + r."
            )
        low, high = center - value, center + value
    else:
        low, high = read_pair(owner, argument, value)
    if low < lowest or high > highest:
        raise ValueError(
            f"augment.{owner} expects {argument} to stay within {lowest:g} and {highest:g}. Received {value!r}, "
            f"which reaches from {low:g} to {high:g}. Write a smaller {argument}."
        )
    return float(low), float(high)


def read_pair(owner: str, argument: str, value: Any) -> tuple[float, float]:
    """Check the two ends of a range that the user gave.

    Args:
        owner: Name of the operation, for the message.
        argument: Name of its argument.
        value: A pair of finite numbers, the lower one first.

    Returns:
        `(low, high)` with low <= high.

    Raises:
        ValueError: for anything else.
    """
    try:
        low, high = value
        finite = math.isfinite(low) and math.isfinite(high)
    except (TypeError, ValueError):
        raise ValueError(
            f"augment.{owner} expects {argument} to be a number or a pair (low, high). Received {value!r}. "
            f"For example: {argument}=(0.1, 0.5)."
        ) from None
    if not finite:
        raise ValueError(
            f"augment.{owner} expects {argument} to be two finite numbers. Received {value!r}. "
            f"For example: {argument}=(0.1, 0.5)."
        )
    if low > high:
        raise ValueError(
            f"augment.{owner} expects {argument} to be a pair with low <= high. Received {value!r}. "
            f"Write {argument}=({high}, {low})."
        )
    return low, high


def draw(uniform: tf.Tensor, limits: tuple[float, float], value: Any = None) -> tf.Tensor:
    """Map uniform draws in [0, 1) to the range `limits`, or to one of the two limits when `value` is a `PlusMinus`."""
    low, high = limits
    if isinstance(value, PlusMinus):
        return tf.where(uniform < 0.5, low, high)
    return low + uniform * (high - low)


def draw_log(uniform: tf.Tensor, limits: tuple[float, float], value: Any = None) -> tf.Tensor:
    """Like `draw`, but uniform in the logarithm, so that a factor and its inverse are equally likely."""
    low, high = limits
    if isinstance(value, PlusMinus):
        return tf.where(uniform < 0.5, low, high)
    return tf.exp(math.log(low) + uniform * (math.log(high) - math.log(low)))
