"""Questions about the type of an argument, for the first line of a check."""

import math
import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np


def is_number(value: object) -> bool:
    """Whether a value is one finite real number; True and False are not."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False


def is_whole(value: object) -> bool:
    """Whether a value is one integer; True, False and 3.0 are not."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def are_whole(values: object) -> bool:
    """Whether a value is a list, tuple, range or vector of integers."""
    row = isinstance(values, (list, tuple, range)) or (isinstance(values, np.ndarray) and values.ndim == 1)
    return row and all(is_whole(value) for value in values)


def is_one_of(value: object, names: Iterable[str]) -> bool:
    """Whether a value is one of some strings; an array is not."""
    return isinstance(value, str) and value in names


def as_row(values: Any) -> tuple[Any, ...] | None:
    """The entries of a list, an array or a shape (also TensorFlow's) as a tuple, or None for anything else."""
    try:
        return tuple(values)
    except (TypeError, ValueError):
        return None


def as_numbers(caller: str, argument: str, values: Any, dtype: str | None = "float64") -> np.ndarray:
    """The values as one array of real numbers, with their own dtype where `dtype` is None.

    Raises:
        TypeError: when they are not numbers in one array.
    """
    try:
        array = np.asarray(values)
    except ValueError:  # rows of several lengths
        array = np.empty(0, object)
    if array.dtype.kind not in "buif" and array.dtype.name != "bfloat16":
        shown = f"{type(values).__name__} of dtype {array.dtype}" if array.ndim else repr(values)
        raise TypeError(
            f"{caller} expects {argument} to be numbers in one array. Received {shown}. "
            f"Convert it first: np.asarray({argument}, 'float32')."
        )
    return array if dtype is None else array.astype(dtype)


def check_seed(caller: str, seed: object) -> None:
    """Refuse a value that cannot be a seed.

    Raises:
        ValueError: for anything but a whole number from 0 to 2**31 - 1.
    """
    if not is_whole(seed) or not 0 <= seed < 2**31:
        raise ValueError(
            f"{caller} expects seed to be a whole number from 0 to {2**31 - 1}. Received seed={seed!r}. "
            "Give for example seed=0: the same seed gives the same numbers again."
        )


def looks_channels_first(height: int, width: int | None, last: int | None) -> bool:
    """Whether a shape of images, given as `(height, width, channels)`, is rather `(channels, height, width)`.

    That is the case for three or four rows with more columns and with more channels than colors have. A single row
    counts only where the rest is square, because signals `(1, steps, channels)` are usual.
    """
    return height in (1, 3, 4) and (width or 0) > 4 and (last or 0) > 4 and (height > 1 or width == last)
