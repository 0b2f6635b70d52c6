"""Derivatives by finite differences, and how far to trust them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

# Relative errors: above the first a gradient is suspicious (a small mistake, or an unrecognized kink), above the second
# it is wrong.
VERDICT_BOUNDS = {"float64": (1e-4, 1e-2), "float32": (1e-2, 0.2)}


def verdict_bounds(dtype: str) -> tuple[float, float]:
    """The relative errors `(suspicious, wrong)`, > 0, above which a gradient is called so.

    Args:
        dtype: "float64" or "float32", the dtype of the finite differences.

    Raises:
        KeyError: for another dtype.
    """
    return VERDICT_BOUNDS[dtype]


def dense(gradient: Any, shape: Any) -> np.ndarray:
    """A gradient of a `tf.GradientTape` as a float64 array of this shape; it may be None (zeros) or sparse."""
    return np.zeros(shape) if gradient is None else np.asarray(tf.convert_to_tensor(gradient), "float64")


def directions(gradient: np.ndarray, samples: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """One random direction over all entries, the entry with the largest gradient, and random entries.

    Args:
        gradient: Gradient of any shape, float64.
        samples: Number of directions along a single entry, >= 0.
        random: Generator that draws the direction and the entries.

    Yields:
        `1 + samples` arrays in the gradient's shape, each of Euclidean norm 1.
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
    """A derivative by backpropagation compared with one by central differences.

    At a kink, or where the differences still change with smaller steps, the two are not comparable; then `error` is 0
    and `kink` is True.

    Attributes:
        error: Relative error, >= 0, less what rounding explains.
        analytic: The derivative by backpropagation.
        numeric: The derivative by central differences.
        kink: Whether the two are not comparable.
    """

    error: float
    analytic: float
    numeric: float
    kink: bool = False


class Differences:
    """Compares derivatives with central differences, with steps and tolerances that fit the dtype.

    Args:
        dtype: "float64" or "float32".
        size: Absolute value of the function, from which the rounding error of a difference is estimated.
    """

    def __init__(self, dtype: str, size: Any) -> None:
        # The first step is almost always good enough; smaller ones avoid kinks, larger ones rounding errors.
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
        """Whether differences of the two smallest usable steps are much nearer to each other than to `analytic`.

        A step is usable where rounding is small. With a large second derivative, as of a square root near 0,
        differences change with the step, and a deviation from `analytic` shows no mistake.
        """
        gap = min(abs(analytic - numeric) for numeric in numerics.values())
        small = [step for step in sorted(numerics) if self.rounding / step < 0.1 * gap][:2]
        if len(small) < 2:
            return True
        return abs(numerics[small[0]] - numerics[small[1]]) < 0.25 * gap

    def _stands_at_a_kink(self, value):
        """Whether the one-sided derivatives differ, and do so for a smaller step as well."""
        here = value(0.0)
        larger, smaller = (
            abs(value(step) - 2 * here + value(-step)) / step for step in (self.steps[0], self.steps[1])
        )
        return smaller > 0.5 * larger and smaller > 4 * self.rounding / self.steps[1]
