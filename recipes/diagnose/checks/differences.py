"""Derivatives by differences of a function's values, and how far to trust them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

# Relative errors: from here on a kink that was not recognized, or a small mistake; from there on a mistake.
VERDICT_BOUNDS = {"float64": (1e-4, 1e-2), "float32": (1e-2, 0.2)}


def verdict_bounds(dtype: str) -> tuple[float, float]:
    """The relative errors, > 0, above which a gradient is suspicious, and wrong.

    Args:
        dtype: "float64" or "float32", in which differences are taken.

    Raises:
        KeyError: for another dtype.
    """
    return VERDICT_BOUNDS[dtype]


def dense(gradient: Any, shape: Any) -> np.ndarray:
    """A gradient as the tape gives it - perhaps nothing, or sparse - as a float64 array."""
    return np.zeros(shape) if gradient is None else np.asarray(tf.convert_to_tensor(gradient), "float64")


def directions(gradient: np.ndarray, samples: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """One random direction over all entries, the entry of the steepest gradient, and random entries.

    Args:
        gradient: Of any shape, float64.
        samples: Single entries, >= 0.
        random: Draws directions and entries.

    Yields:
        `1 + samples` arrays of length 1 in the gradient's shape.
    """
    direction = random.normal(size=gradient.shape)
    yield direction / np.sqrt((direction**2).sum())
    entries = [int(np.abs(gradient).argmax()), *random.integers(gradient.size, size=max(0, samples - 1))]
    for entry in entries[:samples]:
        single = np.zeros(gradient.size)
        single[entry] = 1.0
        yield single.reshape(gradient.shape)


@dataclass(frozen=True)
class Comparison:
    """A derivative by backpropagation and by differences.

    At a kink, and where smaller steps still give other differences, the two are not comparable, and `error` is 0.
    """

    error: float
    analytic: float
    numeric: float
    kink: bool = False


class Differences:
    """Compares a derivative with differences, with steps and allowances that fit the number type."""

    def __init__(self, dtype: str, size: Any) -> None:
        # The first step serves almost always; smaller ones escape kinks, larger ones rounding.
        self.steps = (1e-5, 1e-6, 1e-4, 1e-7, 1e-3) if dtype == "float64" else (1e-2, 3e-3, 3e-2, 1e-1)
        self.rounding = 8 * np.finfo(dtype).eps * max(size, 1e-3)
        self.fine = 1e-7 if dtype == "float64" else 1e-3
        self.suspicious = verdict_bounds(dtype)[0]

    def compare(self, value: Callable[[float], float], analytic: float) -> "Comparison":
        best, numerics = None, {}
        for step in self.steps:
            numeric = numerics[step] = (value(step) - value(-step)) / (2 * step)
            difference = max(0.0, abs(analytic - numeric) - self.rounding / step)
            error = difference / max(abs(analytic), abs(numeric), 1e-300)
            if best is None or error < best.error:
                best = Comparison(error, analytic, numeric)
            if error <= self.fine:
                return best
        if best.error > self.suspicious and (
            self._stands_at_a_kink(value) or not self._converged(numerics, analytic)
        ):
            return Comparison(0.0, best.analytic, best.numeric, kink=True)
        return best

    def _converged(self, numerics, analytic):
        """Whether the two smallest steps that rounding leaves meaning to agree far better than with `analytic`.

        Under a strong bend, as of a square root near 0, differences move with the step: they show no fault then.
        """
        gap = min(abs(analytic - numeric) for numeric in numerics.values())
        small = [step for step in sorted(numerics) if self.rounding / step < 0.1 * gap][:2]
        if len(small) < 2:
            return True
        return abs(numerics[small[0]] - numerics[small[1]]) < 0.25 * gap

    def _stands_at_a_kink(self, value):
        """Whether the derivatives from left and right differ, and do so no less with a smaller step."""
        here = value(0.0)
        larger, smaller = (
            abs(value(step) - 2 * here + value(-step)) / step for step in (self.steps[0], self.steps[1])
        )
        return smaller > 0.5 * larger and smaller > 4 * self.rounding / self.steps[1]
