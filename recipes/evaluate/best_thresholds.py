"""thresholds: the probability above which each class should be predicted."""

from typing import Any

import numpy as np

from recipes.common.models import output_activation
from recipes.common.types import Data, FloatArray
from recipes.evaluate.classifier import as_probabilities, check_labels, is_several, predict_labeled


def thresholds(model: Any, validation: Data, *, batch_size: int = 64) -> FloatArray:
    """The threshold of each class that gives it the highest F1 on held-out examples.

    For several labels per example, and for rare classes, one half is seldom best. A class is predicted where its
    probability reaches its threshold. Of classes that exclude one another, the one whose probability exceeds its
    threshold by the largest factor is predicted.
    Source: Lipton et al. 2014, https://arxiv.org/abs/1402.1892 (the best threshold is half the best F1 for calibrated
    probabilities; here it is searched).

    Args:
        model: As for `evaluate.classifier`: a trained `keras.Model` or a `recipes.Run`.
        validation: Labeled examples that it was not trained on; not the test set.
        batch_size: Images per batch, >= 1.

    Returns:
        float32 `(classes,)` in (0, 1), for `evaluate.classifier(..., thresholds=)` and `Run.predict(thresholds=)`. A
        class without examples keeps one half.

    Raises:
        ValueError: when labels do not fit the model's output.
    """
    model = getattr(model, "model", model)
    outputs, labels, weights = predict_labeled(model, validation, batch_size, "evaluate.thresholds")
    probabilities = as_probabilities(outputs, output_activation(model), is_several(labels))
    return thresholds_from_probabilities(labels, probabilities, weights)


def thresholds_from_probabilities(labels: Any, probabilities: Any, weights: Any = None) -> FloatArray:
    """As `thresholds`, for predictions that were made already.

    Args:
        labels: Class numbers `(n,)`, one-hot rows, or rows of 0 and 1.
        probabilities: `(n, classes)`.
        weights: Weight of each example, `(n,)`, >= 0; None counts each once.

    Returns:
        float32 `(classes,)` in (0, 1), as `thresholds`.

    Raises:
        ValueError: when labels do not fit the probabilities.
    """
    probabilities, labels = np.asarray(probabilities, "float64"), np.asarray(labels)
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    classes = probabilities.shape[1]
    rows = check_labels(labels, classes)
    rows = rows if rows.dtype == bool else rows[:, None] == np.arange(classes)
    weights = np.ones(len(rows)) if weights is None else np.asarray(weights, "float64")
    return np.array([best_f1(probabilities[:, c], rows[:, c], weights) for c in range(classes)], "float32")


def best_f1(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> float:
    """The threshold with the highest `2 tp / (2 tp + fp + fn)`, halfway to the next lower score.

    Args:
        scores: `(n,)` in [0, 1].
        positive: bool `(n,)`.
        weights: `(n,)`, >= 0.
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    hits = np.cumsum(np.where(positive, weights, 0)[order])
    said = np.cumsum(weights[order])
    if not len(hits) or not hits[-1] > 0:
        return 0.5
    ends = np.flatnonzero(np.concatenate([ordered[1:] != ordered[:-1], [True]]))
    best = ends[np.argmax(2 * hits[ends] / (said[ends] + hits[-1]))]
    below = ordered[best + 1] if best + 1 < len(ordered) else 0.0
    return float(np.clip((ordered[best] + below) / 2, 1e-6, 1 - 1e-6))
