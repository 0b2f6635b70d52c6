"""The class that a segmentation network predicts for each pixel, and how far that agrees with the masks."""

from collections.abc import Iterable

import keras
import numpy as np
from numpy.typing import NDArray


def gives_class_maps(model: keras.Model) -> bool:
    """Whether a model has one output of `(batch, height, width, classes)`."""
    outputs = getattr(model, "outputs", None)
    return outputs is not None and len(outputs) == 1 and len(outputs[0].shape) == 4


def class_maps(outputs: NDArray[np.floating], activation: str | None) -> NDArray[np.integer]:
    """The likeliest class of every pixel.

    Args:
        outputs: `(n, height, width, classes)`; a single channel is the score of class 1 against class 0.
        activation: Activation of the model's last layer; "linear" has its threshold at 0, others at one half. None
            looks at the numbers.

    Returns:
        `(n, height, width)`, uint8 for up to 256 classes, else uint16.
    """
    if outputs.shape[-1] == 1:
        logits = activation == "linear" or (activation is None and (outputs.min() < 0 or outputs.max() > 1))
        return (outputs[..., 0] > (0 if logits else 0.5)).astype(np.uint8)
    return outputs.argmax(-1).astype(np.uint8 if outputs.shape[-1] <= 256 else np.uint16)


def map_confusion(pairs: Iterable[tuple[np.ndarray, np.ndarray]], classes: int) -> NDArray[np.int64]:
    """Count pixels, rows by the given class, columns by the predicted one.

    Args:
        pairs: `(given, predicted)` class numbers of one shape, array after array. Given numbers outside
            `0..classes-1` do not count.
        classes: Number of classes.

    Returns:
        int64 `(classes, classes)`.
    """
    counts = np.zeros(classes * classes, np.int64)
    for given, predicted in pairs:
        given, predicted = given.reshape(-1).astype(np.int64), predicted.reshape(-1).astype(np.int64)
        known = (given >= 0) & (given < classes)
        counts += np.bincount(given[known] * classes + predicted[known], minlength=classes * classes)
    return counts.reshape(classes, classes)


def intersection_over_union(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Intersection over union: pixels where a class is given and predicted, over pixels where it is either.

    Source: Everingham et al. 2010, "The Pascal Visual Object Classes (VOC) Challenge", section 4.3.

    Args:
        confusion: As from `map_confusion`.

    Returns:
        float64 `(classes,)`; NaN for classes that are neither given nor predicted.
    """
    both = np.diag(confusion).astype(np.float64)
    either = confusion.sum(0) + confusion.sum(1) - both
    return np.where(either > 0, both / np.maximum(either, 1), np.nan)
