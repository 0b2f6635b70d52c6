"""Ranges to search: numbers in log space or not, choices; narrowed around what did well."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import optuna


@dataclass(frozen=True)
class Range:
    """A setting's range: `low..high`, in log space when `log`, whole numbers when `whole`."""

    low: float
    high: float
    log: bool
    whole: bool

    def suggest(self, trial: optuna.Trial, name: str) -> Any:
        """A value from Optuna's `trial`."""
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def draw(self, generator: np.random.Generator) -> Any:
        """A random value, from a numpy `Generator`."""
        if self.whole and not self.log:
            return int(generator.integers(int(self.low), int(self.high), endpoint=True))
        if not self.log:
            return float(generator.uniform(self.low, self.high))
        # Whole numbers have a bin of width 1 each, so that the ends are as likely as their size says.
        widen = 0.5 if self.whole else 0.0
        value = math.exp(generator.uniform(math.log(self.low - widen), math.log(self.high + widen)))
        value = min(max(value, self.low), self.high)
        return round(value) if self.whole else value

    def around(self, values: Sequence[Any]) -> Range:
        """The range of the best `values`, widened at either end by an eighth of this range's width, within this
        range."""
        turn, back = (math.log, math.exp) if self.log else (float, float)
        margin = 0.125 * (turn(self.high) - turn(self.low))
        low = max(self.low, back(turn(min(values)) - margin))
        high = min(self.high, back(turn(max(values)) + margin))
        return (
            Range(round(low), round(high), self.log, True)
            if self.whole
            else Range(low, high, self.log, False)
        )


@dataclass(frozen=True)
class Choice:
    """One of several values; Optuna asks for numbers, strings, booleans or None."""

    values: tuple[Any, ...]

    def suggest(self, trial: optuna.Trial, name: str) -> Any:
        return trial.suggest_categorical(name, list(self.values))

    def draw(self, generator: np.random.Generator) -> Any:
        """A random choice."""
        return self.values[int(generator.integers(len(self.values)))]

    def around(self, values: Sequence[Any]) -> Choice:
        """Only the choices among the best."""
        return Choice(tuple(value for value in self.values if value in values))


def parse(space: Mapping[str, Any]) -> dict[str, Range | Choice]:
    """Turn what the user wrote into ranges.

    Args:
        space: dict from a name to `(low, high)` or `(low, high, "linear")` for numbers - in log space unless said
            otherwise or `low` is not positive - or to a list of choices. Two ints give whole numbers.

    Returns:
        dict from names to `Range` and `Choice`.

    Raises:
        ValueError: for an empty space, an empty list, or bounds that do not form a range.
    """
    if not isinstance(space, dict) or not space:
        raise ValueError(
            f"tune.search expects space to be a dict with at least one setting. Received {space!r}. "
            'Give for example space={"learning_rate": (1e-4, 1e-1), "depth": [8, 14, 20]}.'
        )
    return {name: _parse_one(name, entry) for name, entry in space.items()}


def _parse_one(name, entry):
    if isinstance(entry, (Range, Choice)):
        return entry
    if isinstance(entry, list) and entry:
        return Choice(tuple(entry))
    if isinstance(entry, tuple) and len(entry) in (2, 3):
        low, high, *scale = entry
        numbers = all(
            isinstance(bound, (int, float)) and not isinstance(bound, bool) for bound in (low, high)
        )
        if (
            numbers
            and low < high
            and all(word in ("log", "linear") for word in scale)
            and not ("log" in scale and low <= 0)
        ):
            log = scale != ["linear"] and low > 0
            return Range(low, high, log, isinstance(low, int) and isinstance(high, int))
    raise ValueError(
        f"tune.search expects each setting as (low, high), (low, high, 'linear') or a list of choices. Received "
        f"{name}={entry!r}. Write (1e-4, 1e-1) for a range in log space, [32, 64] for choices."
    )
