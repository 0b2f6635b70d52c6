"""What an argument is, asked before it is compared with anything: the first line of a check."""

import math
import numbers

import numpy as np


def is_number(value):
    """Whether it is one finite real number; True and False are none."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False


def is_whole(value):
    """Whether it is one integer; True, False and 3.0 are none."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def are_whole(values):
    """Whether it is a list, tuple, range or vector of integers."""
    row = isinstance(values, (list, tuple, range)) or (isinstance(values, np.ndarray) and values.ndim == 1)
    return row and all(is_whole(value) for value in values)


def is_one_of(value, names):
    """Whether it is one of some strings; an array is none."""
    return isinstance(value, str) and value in names


def as_row(values):
    """A tuple of what a list, an array or a shape holds (TensorFlow's as well), or None for what is none of them."""
    try:
        return tuple(values)
    except (TypeError, ValueError):
        return None


def as_numbers(caller, argument, values, dtype="float64"):
    """The values as one array of real numbers; of the dtype they have where `dtype` is None.

    Raises:
        TypeError: when they are not.
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


def check_seed(caller, seed):
    """Refuse what seeds no random numbers.

    Raises:
        ValueError: for anything but a whole number from 0 to 2**31 - 1.
    """
    if not is_whole(seed) or not 0 <= seed < 2**31:
        raise ValueError(
            f"{caller} expects seed to be a whole number from 0 to {2**31 - 1}. Received seed={seed!r}. "
            "The same one gives the same numbers again."
        )
