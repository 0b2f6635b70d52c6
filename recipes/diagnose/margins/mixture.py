"""How probable it is that each label is wrong: a mixture of labels that follow the predictions, and of errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SLOPES = np.geomspace(0.3, 8, 14)
_ROUNDS = 25


@dataclass(frozen=True)
class LabelMixture:
    """Model of how labels arise: with probability 1 - `share` from the predicted probabilities, otherwise by an error.

    The predictions are uncertain themselves. Of twenty labels that a calibrated network gives a probability of 5 %, one
    is right on average, and its small probability is no sign of an error. Only contradictions beyond that count as
    errors.

    Attributes:
        slope: Factor of the logarithms of the predicted probabilities, > 0; above 1 where the network is less confident
            than it is accurate.
        share: Share of wrong labels, in [0, 0.5].
        rates: float64 `(classes, classes)`: entry i, j is the share of the wrongly labelled examples of class i that
            have label j.
    """

    slope: float
    share: float
    rates: NDArray[np.float64]

    def log_odds(
        self,
        probabilities: NDArray[np.floating],
        labels: NDArray[np.integer],
        margins: NDArray[np.floating] | None = None,
    ) -> NDArray[np.float64]:
        """Logarithm of the odds `(n,)` that a label is wrong.

        Args:
            probabilities: Mean predicted probabilities `(n, classes)`.
            labels: Given class numbers `(n,)`.
            margins: Mean margins `(n,)`, as for `fit_label_mixture`.
        """
        own, chances = _split(_answers(probabilities, labels, margins), labels, self.slope)
        wrong = np.einsum("nc,cn->n", chances, self.rates[:, labels])
        share = min(max(self.share, 1e-9), 0.5)
        return np.log(np.maximum(wrong, 1e-300) / np.maximum(own, 1e-300)) + np.log(share / (1 - share))

    def true_classes(
        self, probabilities: NDArray[np.floating], labels: NDArray[np.integer]
    ) -> NDArray[np.int64]:
        """The most probable true classes `(n,)` if the labels are wrong; arguments as for `log_odds`."""
        logs = self.slope * _answers(probabilities, labels, None) + np.log(
            np.maximum(self.rates[:, labels].T, 1e-12)
        )
        logs[np.arange(len(labels)), labels] = -np.inf
        return logs.argmax(1)


def fit_label_mixture(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    margins: NDArray[np.floating] | None = None,
    *,
    prior: float = 20.0,
    least_share: float = 1e-6,
) -> LabelMixture:
    """Fit the mixture by maximum likelihood.

    For each slope on a grid, share and rates are fitted by expectation maximization (Dempster et al. 1977), with a
    confusion matrix of the labels, as Dawid and Skene (1979) use one per observer. A prior draws the rates towards
    equal ones.

    Args:
        probabilities: Mean predicted probabilities `(n, classes)` over the training.
        labels: Given class numbers `(n,)`.
        margins: Mean margins `(n,)` in logits, or None. If given, the margin of an example is the mean of this one and
            of the margin between the mean probabilities. The first keeps more of the early, uncertain predictions; the
            second varies less where the second most probable class changes. None takes the second alone.
        prior: Weight of the prior for equal rates, as a number of wrongly labelled examples per class.
        least_share: Lower limit of the share of wrong labels, in [0, 0.5].

    Returns:
        The `LabelMixture` with the largest likelihood.
    """
    classes = probabilities.shape[1]
    logs = _answers(probabilities, labels, margins)
    even = (1 - np.eye(classes)) / max(classes - 1, 1)
    fits = (_fit(logs, labels, even, slope, prior, least_share) for slope in _SLOPES)
    best = max(fits, key=lambda fit: fit[0])
    return LabelMixture(*best[1:])


def chance_of_wrong(log_odds: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities `(n,)` in [0, 1] from logarithms of odds `(n,)`."""
    return 1 / (1 + np.exp(-np.clip(log_odds, -700, 700)))


def _answers(probabilities, labels, margins):
    """Logarithms of the probabilities `(n, classes)`; that of the given class is moved halfway towards `margins`."""
    logs = np.log(np.maximum(np.asarray(probabilities, np.float64), 1e-7))
    if margins is not None:
        rows = np.arange(len(labels))
        own = logs[rows, labels]
        logs[rows, labels] = -np.inf
        between = own - logs.max(1)
        logs[rows, labels] = own + (np.asarray(margins, np.float64) - between) / 2
    return logs


def _split(logs, labels, slope):
    """Probabilities, sharpened by the slope, of the given class `(n,)` and of all classes `(n, classes)`."""
    chances = np.exp(slope * (logs - logs.max(1, keepdims=True)))
    chances /= chances.sum(1, keepdims=True)
    return chances[np.arange(len(labels)), labels], chances


def _fit(logs, labels, even, slope, prior, least_share):
    """`(log-likelihood, slope, share, rates)` of the best share and rates for one slope."""
    own, chances = _split(logs, labels, slope)
    share, rates = 0.1, even
    order = np.argsort(labels, kind="stable")
    given, begins = np.unique(labels[order], return_index=True)
    for _ in range(_ROUNDS):
        joint = chances * rates[:, labels].T  # that an example of class c was given its label by mistake
        wrong = joint.sum(1)
        blame = share * wrong / np.maximum((1 - share) * own + share * wrong, 1e-300)
        share = min(max(float(blame.mean()), least_share), 0.5)
        counts = np.zeros_like(even)
        parts = joint * (blame / np.maximum(wrong, 1e-300))[:, None]
        counts[:, given] = np.add.reduceat(parts[order], begins, axis=0).T
        counts = counts * (even > 0) + prior * even
        rates = counts / np.maximum(counts.sum(1, keepdims=True), 1e-300)
    wrong = np.einsum("nc,cn->n", chances, rates[:, labels])
    likelihood = np.log(np.maximum((1 - share) * own + share * wrong, 1e-300)).sum()
    return float(likelihood), float(slope), share, rates
