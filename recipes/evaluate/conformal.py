"""conformal: sets of classes that hold the true one as often as promised."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import keras
import numpy as np

from recipes.common.datasets import as_batches
from recipes.common.models import output_activation, predict_batch
from recipes.common.types import Data
from recipes.evaluate.classifier import as_probabilities, check_labels, predict_labeled

Method = Literal["aps", "threshold"]


@dataclass(frozen=True)
class ConformalSets:
    """A rule that turns probabilities into sets of classes.

    Attributes:
        threshold: Largest score of a class in the set; infinite where too few examples were given for the coverage.
        coverage: Share of sets that should hold the true class, in (0, 1).
        method: "aps" or "threshold".
        count: Examples that the threshold comes from.
        class_names: Names of class 0, 1, ...
        seed: Integer that fixes the draws.
        model: The model, for `predict`.
    """

    threshold: float
    coverage: float
    method: Method
    count: int
    class_names: tuple[str, ...]
    seed: int = 0
    model: keras.Model | None = field(default=None, repr=False)

    def sets(self, probabilities: Any, *, seed: int | None = None) -> np.ndarray:
        """Which classes are in the set of each example.

        Args:
            probabilities: `(n, classes)`.
            seed: Integer that fixes the draws; None takes the rule's own.

        Returns:
            bool `(n, classes)`. A set may be empty: otherwise the coverage would be higher than asked for.
        """
        probabilities = np.asarray(probabilities, "float64")
        draws = np.random.default_rng([self.seed if seed is None else seed, 1]).random(len(probabilities))
        return conformal_scores(probabilities, draws, self.method) <= self.threshold

    def predict(self, images: "Data | Any", *, batch_size: int = 64) -> list[tuple[str, ...]]:
        """The names in the set of each image, likeliest first.

        Args:
            images: Images, or images with labels, as for `evaluate.classifier`.
            batch_size: Images per batch, >= 1.
        """
        if self.model is None:
            raise ValueError(
                "ConformalSets.predict expects a rule that was made by evaluate.conformal(model, ...). Received one "
                "without a model. Use .sets(probabilities)."
            )
        activation, outputs = output_activation(self.model), []
        caller = "ConformalSets.predict"
        for batch in as_batches(images, self.model, batch_size=batch_size, caller=caller, name="images"):
            outputs.append(predict_batch(self.model, batch[0]))
        probabilities = as_probabilities(np.concatenate(outputs), activation)
        order = np.argsort(-probabilities, axis=1, kind="stable")
        return [
            tuple(self.class_names[number] for number in numbers if row[number])
            for row, numbers in zip(self.sets(probabilities), order, strict=True)
        ]

    def __str__(self) -> str:
        return f"sets that hold the true class of {self.coverage:.1%}, from {self.count} examples by {self.method}"


def conformal_scores(probabilities: np.ndarray, draws: np.ndarray, method: Method) -> np.ndarray:
    """Nonconformity scores: how badly each class fits each example; a small score is a good fit.

    "aps": the probability of all likelier classes, plus a drawn share of the class' own, `sum_{p_j > p_k} p_j + u p_k`
    (Romano et al. 2020, equation 6 with randomization, https://arxiv.org/abs/2006.02544). "threshold": `1 - p_k`
    (Sadinle et al. 2019, section 2, https://arxiv.org/abs/1609.00451).

    Args:
        probabilities: `(n, classes)`.
        draws: The random number u of each example, `(n,)` in [0, 1).
        method: "aps" or "threshold".

    Returns:
        float64 `(n, classes)`.
    """
    if method == "threshold":
        return 1 - probabilities
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ordered = np.take_along_axis(probabilities, order, 1)
    scores = np.cumsum(ordered, axis=1) - ordered * (1 - draws[:, None])
    found = np.empty_like(scores)
    np.put_along_axis(found, order, scores, 1)
    return found


def conformal(
    model: Any,
    validation: Data,
    coverage: float = 0.9,
    *,
    method: Method = "aps",
    seed: int = 0,
    class_names: Sequence[str] | None = None,
    batch_size: int = 64,
) -> ConformalSets:
    """Find a rule for sets of classes that hold the true class of a share `coverage` of new examples, for any model.

    The promise is about examples like the validation's (exchangeable with them), on average over draws of both: with n
    of them coverage lies between `coverage` and `coverage + 1 / (n + 1)`. For one validation set it varies by about
    `sqrt(coverage (1 - coverage) / n)`.
    Source: split conformal prediction, Papadopoulos et al. 2002; Angelopoulos & Bates 2021, section 1,
    https://arxiv.org/abs/2107.07511

    Args:
        model: As for `evaluate.classifier`: a trained `keras.Model` or a `recipes.Run`.
        validation: Labeled examples that it was not trained on, one class each; not the test set.
        coverage: Share of new examples whose set should hold the true class, in (0, 1). With fewer than about 1 / (1 -
            coverage) examples, every set holds all classes.
        method: "aps": sets that are larger where the model is in doubt. "threshold": the smallest sets on average.
        seed: Integer that fixes the draws of "aps".
        class_names: Names of the classes; a run knows its own.
        batch_size: Images per batch, >= 1.

    Returns:
        A `ConformalSets`, with `.predict(images)` and `.sets(probabilities)`.

    Raises:
        ValueError: for a coverage outside (0, 1), an unknown method, several labels per example, labels that do not
            fit.
    """
    names = class_names if class_names is not None else getattr(model, "class_names", None)
    model = getattr(model, "model", model)
    outputs, labels, _ = predict_labeled(model, validation, batch_size, "evaluate.conformal")
    probabilities = as_probabilities(outputs, output_activation(model))
    return conformal_from_probabilities(
        labels, probabilities, coverage, method=method, seed=seed, class_names=names, model=model
    )


def conformal_from_probabilities(
    labels: Any,
    probabilities: Any,
    coverage: float = 0.9,
    *,
    method: Method = "aps",
    seed: int = 0,
    class_names: Sequence[str] | None = None,
    model: keras.Model | None = None,
) -> ConformalSets:
    """As `conformal`, for predictions that were made already.

    Args:
        labels: Class numbers `(n,)` or one-hot rows.
        probabilities: `(n, classes)`.
        coverage, method, seed, class_names: As in `conformal`.
        model: The model, for `ConformalSets.predict`.

    Returns:
        A `ConformalSets`.

    Raises:
        ValueError: as `conformal`.
    """
    if not 0 < coverage < 1 or method not in ("aps", "threshold"):
        raise ValueError(
            "evaluate.conformal expects coverage in (0, 1) and method 'aps' or 'threshold'. Received "
            f"coverage={coverage!r}, method={method!r}. Write coverage=0.9."
        )
    probabilities = np.asarray(probabilities, "float64")
    labels = np.asarray(labels)
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    labels = check_labels(labels, probabilities.shape[1])
    if labels.dtype == bool:
        if not (labels.sum(axis=1) == 1).all():
            raise ValueError(
                "evaluate.conformal expects one class per example. Received rows that do not sum to 1. For several "
                "labels see evaluate.thresholds."
            )
        labels = labels.argmax(axis=1)
    count = len(labels)
    draws = np.random.default_rng([seed, 0]).random(count)
    scores = conformal_scores(probabilities, draws, method)[np.arange(count), labels]
    rank = int(np.ceil((count + 1) * coverage))
    threshold = float(np.sort(scores)[rank - 1]) if rank <= count else float("inf")
    names = tuple(map(str, range(probabilities.shape[1]) if class_names is None else class_names))
    return ConformalSets(threshold, coverage, method, count, names, seed, model)
