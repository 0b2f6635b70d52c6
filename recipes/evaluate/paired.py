"""paired_comparison: whether one of two classifiers is better, tested on the same examples."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from recipes.common.models import output_activation
from recipes.common.types import Data
from recipes.evaluate.classifier import as_probabilities, is_several, predict_labeled

_DRAWS = 10_000


@dataclass(frozen=True)
class PairedComparison:
    """Two classifiers on the same examples.

    Attributes:
        count: Number of examples.
        accuracies: Accuracy of the first and of the second, in [0, 1].
        only_first: Examples that only the first got right.
        only_second: Examples that only the second got right.
        p_value: p-value of McNemar's exact test: the probability of a split of these examples at least as uneven, if
            both were equally good.
        interval: 95 % interval of the second's accuracy minus the first's, by the bootstrap over examples.
    """

    count: int
    accuracies: tuple[float, float]
    only_first: int
    only_second: int
    p_value: float
    interval: tuple[float, float]

    @property
    def difference(self) -> float:
        """The second's accuracy minus the first's."""
        return self.accuracies[1] - self.accuracies[0]

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"second minus first: {self.difference:+.2%} (95 % {low:+.2%} to {high:+.2%}) on {self.count} examples; "
            f"only the first right {self.only_first}, only the second {self.only_second}, McNemar's p = "
            f"{self.p_value:.2g}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**vars(self), "difference": self.difference}


def mcnemar(first: Any, second: Any, *, seed: int = 0) -> PairedComparison:
    """Compare two classifiers by which examples each got right.

    The exact test asks whether the examples that only one got right are split evenly between both: a binomial test with
    probability one half.
    Sources: McNemar 1947, https://doi.org/10.1007/BF02295996; Dietterich 1998, section 3.1,
    https://doi.org/10.1162/089976698300017197. The bootstrap draws examples with replacement (Efron 1979); for the
    difference that is a multinomial draw, so 10,000 of them cost as much as one.

    Args:
        first: Whether the first was right, bool `(n,)`.
        second: Whether the second was right, bool `(n,)`, on the same examples.
        seed: Integer that fixes the bootstrap.

    Returns:
        A `PairedComparison`.

    Raises:
        ValueError: for other shapes, or no examples.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    count = len(first) if first.ndim == 1 else 0
    if not count or first.shape != second.shape:
        raise ValueError(
            "evaluate.mcnemar expects two rows of booleans of the same length, at least 1. Received shapes "
            f"{first.shape} and {second.shape}. Compare predictions of the same examples in the same order."
        )
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    apart = only_first + only_second
    p_value = float(stats.binomtest(only_first, apart, 0.5).pvalue) if apart else 1.0
    shares = np.array([only_first, only_second, count - apart]) / count
    drawn = np.random.default_rng(seed).multinomial(count, shares, _DRAWS)
    low, high = np.quantile((drawn[:, 1] - drawn[:, 0]) / count, [0.025, 0.975])
    accuracies = float(first.mean()), float(second.mean())
    return PairedComparison(count, accuracies, only_first, only_second, p_value, (float(low), float(high)))


def paired_comparison(
    first: Any, second: Any, test: Data, *, batch_size: int = 64, seed: int = 0
) -> PairedComparison:
    """Compare two classifiers on the same labeled examples: `mcnemar` of their predictions.

    Args:
        first: A `keras.Model` or a `recipes.Run`, as for `evaluate.classifier`.
        second: Another model or run, of the same classes.
        test: Labeled examples that neither was trained on, as for `evaluate.classifier`.
        batch_size: Images per batch, >= 1.
        seed: Integer that fixes the bootstrap.

    Returns:
        A `PairedComparison`.

    Raises:
        ValueError: when labels do not fit, or the data set comes in another order at the second reading.
    """
    return compared_on((first, second), (test, test), batch_size=batch_size, seed=seed)


def compared_on(models: Any, tests: Any, *, batch_size: int = 64, seed: int = 0) -> PairedComparison:
    """`paired_comparison` of two classifiers that take the same examples in two shapes.

    Args:
        models: Two, as for `paired_comparison`.
        tests: The examples as each takes them, in the same order.
        batch_size: Images per batch, >= 1.
        seed: Integer that fixes the bootstrap.
    """
    right, seen = [], []
    for model, test in zip(models, tests, strict=True):
        model = getattr(model, "model", model)
        outputs, labels, _ = predict_labeled(model, test, batch_size, "evaluate.paired_comparison")
        seen.append(labels)
        right.append(_right(outputs, labels, output_activation(model)))
    if not np.array_equal(*seen):
        raise ValueError(
            "evaluate.paired_comparison expects test to come in the same order every time. Received another order at "
            "the second reading. Leave shuffle out, or type reshuffle_each_iteration=False."
        )
    return mcnemar(*right, seed=seed)


def _right(outputs, labels, activation):
    several = is_several(labels)
    probabilities = as_probabilities(outputs, activation, several)
    if several:
        return ((probabilities >= 0.5) == (labels == 1)).all(axis=1)
    if labels.ndim == 2:
        labels = labels[:, 0] if labels.shape[1] == 1 else labels.argmax(axis=1)
    if not np.isfinite(probabilities).all():
        raise ValueError(
            "evaluate.paired_comparison expects finite outputs. Received NaN or infinity. The model has diverged: see "
            "recipes.diagnose."
        )
    return probabilities.argmax(axis=1) == labels
