"""How likely each label is wrong, told from margins: a mixture of right labels in doubt and of wrong labels."""

import numpy as np
from numpy.typing import NDArray

_SLOPES = np.geomspace(0.7, 8, 40)
_ROUNDS = 60
_BINS = 2048


def chance_of_wrong(margins: NDArray[np.floating]) -> NDArray[np.float64]:
    """The chance that a label is wrong, by the mean margin of its example, `(n,)` in [0, 1]; 0 from a margin of 0 on.

    Two classes are at issue for each example, the given one and its best rival, at a distance of |margin|. A right
    label is the less probable of the two with the chance 1 / (1 + exp(s |margin|)), which is what a calibrated model
    means by its margin when s = 1: classes that are much alike have many such examples, and that is no error. A wrong
    label has the sign of its margin turned round. So the signs are a mixture of a logistic curve and of its mirror
    image, whose share and slope s have the largest likelihood (expectation maximization, Dempster et al. 1977, for
    each slope of a row). Asked is more than "negative": more than doubt explains.

    Args:
        margins: Mean margins `(n,)`, in logits; NaN has no chance.
    """
    margins = np.asarray(margins, np.float64)
    known = np.isfinite(margins)
    chances = np.zeros(len(margins))
    if not (margins[known] < 0).any():
        return chances
    distance, wrong, counts = _binned(margins[known])
    best = max((_fit(distance, wrong, counts, slope) for slope in _SLOPES), key=lambda fit: fit[0])
    _, slope, share = best
    negative = known & (margins < 0)
    chances[negative] = _posterior(_doubt(-margins[negative], slope), share)
    return chances


def _binned(margins):
    """`(distance, negative, count)` of groups of like margins: a million examples are as quick as a thousand."""
    if len(margins) <= _BINS:
        return np.abs(margins), margins < 0, np.ones(len(margins))
    edges = np.quantile(margins, np.linspace(0, 1, _BINS + 1))
    place = np.clip(np.searchsorted(edges, margins, side="right") - 1, 0, _BINS - 1) * 2 + (margins < 0)
    counts = np.bincount(place, minlength=2 * _BINS)
    sums = np.bincount(place, np.abs(margins), minlength=2 * _BINS)
    held = counts > 0
    return sums[held] / counts[held], np.arange(2 * _BINS)[held] % 2 == 1, counts[held].astype(float)


def _doubt(distance, slope):
    """The chance that a right label has a negative margin."""
    return 1 / (1 + np.exp(np.minimum(slope * distance, 50)))


def _posterior(doubt, share):
    """The chance of a wrong label where the margin is negative."""
    return share * (1 - doubt) / ((1 - share) * doubt + share * (1 - doubt))


def _fit(distance, wrong, counts, slope):
    """`(log-likelihood, slope, share)` of the best share of wrong labels for one slope."""
    doubt, share = _doubt(distance, slope), 0.05
    for _ in range(_ROUNDS):
        turned = share * doubt / ((1 - share) * (1 - doubt) + share * doubt)
        parts = np.where(wrong, _posterior(doubt, share), turned)
        share = min(max(float(parts @ counts / counts.sum()), 1e-6), 0.5)
    negative = (1 - share) * doubt + share * (1 - doubt)
    return float(np.log(np.where(wrong, negative, 1 - negative)) @ counts), slope, share
