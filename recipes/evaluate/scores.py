"""Scores of predictions that were made already, on plain arrays."""

import math

import numpy as np

_FEWEST, _CORRECTED = 20, 50  # examples in a bin, and in one whose variance is subtracted
_NORMAL_95 = 1.959963984540054  # the two-sided 95 % quantile of the normal distribution


def wilson_interval(right: float, count: float) -> tuple[float, float]:
    """The 95 % interval of a share.

    Source: Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953; unlike the normal approximation it stays in [0,
    1].

    Args:
        right: Number of right ones among `count`, 0 to `count`.
        count: Number of examples, > 0.
    """
    share, square = right / count, _NORMAL_95**2 / count
    middle = (share + square / 2) / (1 + square)
    half = _NORMAL_95 / (1 + square) * math.sqrt(share * (1 - share) / count + square / (4 * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def confusion_matrix(
    labels: np.ndarray, predicted: np.ndarray, weights: np.ndarray, classes: int
) -> np.ndarray:
    """Sums of weights, float64 `(classes, classes)`: rows are true, columns predicted classes."""
    cells = np.bincount(labels * classes + predicted, weights, classes**2)
    return cells.reshape(classes, classes)


def area_under_roc(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> float:
    """The probability that a positive scores above a negative, ties counted half; NaN unless both kinds occur.

    Source: Hanley & McNeil 1982, https://doi.org/10.1148/radiology.143.1.7063747

    Args:
        scores: `(n,)`.
        positive: bool `(n,)`.
        weights: `(n,)`, >= 0.
    """
    order = np.argsort(scores)
    ordered = scores[order]
    positives = np.where(positive, weights, 0)[order]
    negatives = np.where(positive, 0, weights)[order]
    ends = np.flatnonzero(np.concatenate([ordered[1:] != ordered[:-1], [True]]))
    up_to = np.cumsum(positives)[ends], np.cumsum(negatives)[ends]
    in_tie = (np.diff(part, prepend=0) for part in up_to)
    positives, negatives = in_tie
    below = up_to[1] - negatives
    total = up_to[0][-1] * up_to[1][-1]
    return float((positives * (below + negatives / 2)).sum() / total) if total > 0 else math.nan


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> tuple[float, np.ndarray]:
    """Expected calibration error over bins of equal numbers of examples, corrected for its bias.

    `sum of n_b / n * |accuracy_b - confidence_b|`. The square of the gap is too large by the variance of a bin's
    accuracy, which is subtracted before the root is taken. In bins of fewer than 50 examples that would take nearly
    everything away, also where a network is far too sure, so there it is not done: of few examples the error is rather
    too large. Each bin has 20 examples or more.
    Source: Naeini et al. 2015, section 3, https://ojs.aaai.org/index.php/AAAI/article/view/9602; bins and correction:
    Kumar et al. 2019, section 5, https://arxiv.org/abs/1909.10155, and Roelofs et al. 2022, section 3,
    https://arxiv.org/abs/2012.08668

    Args:
        confidence: Probability of the predicted class, `(n,)`.
        right: Whether that is the true one, bool `(n,)`.
        bins: Largest number of bins, >= 1; fewer than 20 examples a bin take fewer bins.

    Returns:
        `(error, diagram)`: a number in [0, 1], and float64 `(bins, 3)`: mean confidence, accuracy, examples.
    """
    order = np.argsort(confidence, kind="stable")
    ordered, rights = confidence[order].astype("float64"), right[order].astype("float64")
    # Among equal confidences no order is right: each counts as the mean of all.
    begins = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    sizes = np.diff(begins, append=len(ordered))
    rights = np.repeat(np.add.reduceat(rights, begins) / sizes, sizes)
    edges = (
        np.linspace(0, len(ordered), min(bins, max(1, len(ordered) // _FEWEST)) + 1).round().astype(int)[:-1]
    )
    counts = np.diff(edges, append=len(ordered))
    return error_of_bins(np.add.reduceat(ordered, edges), np.add.reduceat(rights, edges), counts)


def error_of_bins(sums: np.ndarray, rights: np.ndarray, counts: np.ndarray) -> tuple[float, np.ndarray]:
    """The calibration error of bins, and its diagram, as `calibration_error` returns them.

    Args:
        sums: Sum of the confidences in each bin.
        rights: Right predictions in each bin; need not be whole where equal confidences lie in two bins.
        counts: Examples in each bin.
    """
    kept = counts > 0
    sums, rights, counts = sums[kept], rights[kept], counts[kept]
    confidence, accuracy = sums / counts, rights / counts
    variance = np.where(counts < _CORRECTED, 0, accuracy * (1 - accuracy) / np.maximum(counts - 1, 1))
    square = np.maximum((confidence - accuracy) ** 2 - variance, 0)
    error = float((counts * np.sqrt(square)).sum() / counts.sum())
    return error, np.stack([confidence, accuracy, counts], 1)


def coverage_curve(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Accuracy on the most confident share of the examples, float64 `(n, 2)`: coverage in (0, 1], accuracy.

    Source: Geifman & El-Yaniv 2017, section 2, https://arxiv.org/abs/1705.08500
    """
    order = np.argsort(-confidence, kind="stable")
    count = np.arange(1, len(order) + 1)
    return np.stack([count / len(order), np.cumsum(right[order]) / count], 1)
