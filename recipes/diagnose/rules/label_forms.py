"""The forms of labels: rows, class numbers, and one label for each position of an example."""

import numpy as np

from recipes.diagnose.checks.output_task import Task


def by_position(labels: np.ndarray, task: Task) -> np.ndarray | None:
    """Labels of every pixel or word, one per row, where the model answers for each of them; else None.

    Args:
        labels: `(n, ...)`.
        task: Task of the output, whose shape is `(..., classes)`.
    """
    out = task.output_shape
    if not task.classification or out is None or len(out) < 2 or labels.ndim < len(out):
        return None
    places = zip(out[:-1], labels.shape[1 : len(out)], strict=True)
    if labels.ndim > len(out) + 1 or any(ours not in (None, theirs) for ours, theirs in places):
        return None
    return labels.reshape(-1) if labels.ndim == len(out) else labels.reshape(-1, labels.shape[-1])


def flattened(labels: np.ndarray) -> np.ndarray:
    """Labels `(n, ...)` as rows `(n, numbers)`; labels `(n,)` stay as they are."""
    return labels.reshape(len(labels), -1) if labels.ndim > 1 else labels


def class_numbers(labels: np.ndarray, task: Task) -> np.ndarray | None:
    """One class number per example, int64 `(n,)`, or None where the labels are not classes.

    Args:
        labels: `(n,)` or `(n, numbers)`.
        task: What the output is for.
    """
    if labels.ndim == 1 or labels.shape[1] == 1:
        flat = labels.reshape(-1)
        whole = np.issubdtype(flat.dtype, np.integer) or flat.dtype == bool or np.all(flat == np.round(flat))
        return flat.astype("int64") if whole else None
    sparse = str(task.loss).startswith("sparse")
    return labels.argmax(-1) if task.kind == "categorical" and not sparse else None
