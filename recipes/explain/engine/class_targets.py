"""Read class targets: from the user's argument to one class number per image."""

from typing import Any

import numpy as np

from recipes.explain.engine.errors import UsageError


def class_numbers(target: Any, count: int, method: str) -> np.ndarray:
    """Class numbers, int32 `(count,)`, from None (-1: the predicted class), an int, one int per image or one-hot rows.

    Raises:
        ValueError: when the numbers are not class numbers, one-hot rows or `count` of them.
        TypeError: when the target is of another kind.
    """
    if target is None:
        return np.full(count, -1, "int32")
    try:
        numbers = np.asarray(target)
    except ValueError:
        numbers = np.asarray(None)
    if numbers.dtype.kind not in "iufb":
        raise TypeError(
            f"{method} expects target to be None, a class number, one number per image, one-hot rows, a callable, a "
            f"Unit, or {{output: target}}. Received {type(target).__name__}. Leave it out for the predicted class."
        )
    if numbers.ndim == 2 and len(numbers) == count:
        if not (np.all((numbers == 0) | (numbers == 1)) and np.all(numbers.sum(1) == 1)):
            raise UsageError(
                f"{method} expects one-hot rows: a single 1 in each. Received other values. "
                "For a weighted sum of classes pass target=lambda outputs: keras.ops.sum(outputs * "
                "weights, axis=-1)."
            )
        return numbers.argmax(1).astype("int32")
    if numbers.ndim == 0:
        numbers = np.full(count, numbers)
    if numbers.shape != (count,):
        raise UsageError(
            f"{method} expects one target per image: {count}. Received an array of shape {numbers.shape}. "
            "Give one number for all images, or one number per image."
        )
    if not np.all(numbers == np.round(numbers)):
        raise UsageError(
            f"{method} expects whole class numbers. Received {numbers[numbers != np.round(numbers)][0]}. Use "
            "np.argmax on probabilities."
        )
    if numbers.min(initial=0) < 0 or numbers.max(initial=0) >= 2**31:
        wrong = numbers.min() if numbers.min() < 0 else numbers.max()
        raise UsageError(
            f"{method} expects class numbers from 0. Received {wrong}. "
            "Leave target out for the predicted class."
        )
    return numbers.astype("int32")


def without_tf_keras_vis(target: Any) -> Any:
    """Turn a score of tf-keras-vis, which holds one class per image, into class numbers; return others unchanged."""
    if not type(target).__module__.startswith("tf_keras_vis"):
        return target
    values = getattr(target, "indices", None) or getattr(target, "target_values", None)
    if values is None:
        return target
    return int(values[0]) if len(values) == 1 else [int(value) for value in values]
