"""Class numbers from labels in the forms that data sets have."""

import numpy as np


def class_numbers(labels: np.ndarray) -> np.ndarray | None:
    """Class numbers `(n,)` of labels or one-hot rows; None for masks, real numbers and several classes per example."""
    if labels.ndim == 2 and labels.shape[1] > 1:
        return labels.argmax(-1) if np.allclose(labels.sum(-1), 1) else None
    labels = labels.reshape(-1) if labels.ndim == 2 else labels
    if labels.ndim != 1 or labels.dtype.kind not in "biuf" or not np.array_equal(labels, np.round(labels)):
        return None
    return labels.astype("int64")
