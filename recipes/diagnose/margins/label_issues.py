"""label_issues: examples that are probably mislabelled, or that belong to no one class, from a training itself."""

import csv
import io
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from recipes.common.models import output_activation, rebuild
from recipes.diagnose.margins.example_history import ExampleHistory

_EPOCHS = 10


@dataclass(frozen=True)
class LabelIssue:
    """One example whose label is in doubt.

    Attributes:
        number: Place in the data.
        kind: "mislabelled", or "ambiguous" where no other class is sure either.
        given: Its class number.
        suggested: The class that the model gave it over the training.
        margin: Mean margin of the given class, in logits; below 0 another was preferred.
        reason: In words.
    """

    number: int
    kind: str
    given: int
    suggested: int
    margin: float
    reason: str


@dataclass(frozen=True)
class LabelIssues:
    """What `label_issues` found.

    Attributes:
        issues: list of `LabelIssue`, mislabelled ones first, the worst first.
        scores: float32 `(n,)`, how doubtful each label is: higher is worse; NaN where an example was never scored.
        noise: float64 `(classes, classes)`: of the examples that are given class i, the estimated share that is j.
        times: How often each example was scored, int32 `(n,)`.
    """

    issues: list[LabelIssue]
    scores: NDArray[np.float32]
    noise: NDArray[np.float64]
    times: NDArray[np.int32]

    @property
    def mislabelled(self) -> NDArray[np.int64]:
        """Numbers of the examples that are probably mislabelled, worst first."""
        return np.array([issue.number for issue in self.issues if issue.kind == "mislabelled"], np.int64)

    def table(self, count: int = 10, class_names: Any = None) -> str:
        """What was found in a line, and the worst examples, a line each."""
        wrong = len(self.mislabelled)
        lines = [
            f"{len(self.scores)} examples, each scored {np.median(self.times):g} times: {wrong} probably mislabelled, "
            f"{len(self.issues) - wrong} ambiguous"
        ]
        name = (lambda n: str(class_names[n])) if class_names is not None else str
        lines += [
            f"  {one.number}: given {name(one.given)}, suggested {name(one.suggested)} ({one.kind}; {one.reason})"
            for one in self.issues[:count]
        ]
        return "\n".join(lines)

    def to_csv(self, path: Any = None) -> str:
        """A row an issue, with the columns of `LabelIssue`; written to a file if one is given."""
        names = list(LabelIssue.__dataclass_fields__)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([getattr(issue, name) for name in names] for issue in self.issues)
        if path is not None:
            with open(path, "w", encoding="utf-8", newline="") as file:
                file.write(text.getvalue())
        return text.getvalue()

    def __str__(self) -> str:
        return self.table()


def label_issues(
    source: Any, data: Any = None, *, epochs: int = _EPOCHS, batch_size: int = 128
) -> LabelIssues:
    """Find examples whose labels are probably wrong.

    A network learns what most examples of a class share before it learns single wrong labels by heart. So the margin
    of a wrong label stays below 0 for most of a training (AUM: Pleiss et al. 2020, "Identifying Mislabeled Data using
    the Area Under the Margin Ranking", section 3). An example is called mislabelled where its mean margin falls to the
    lower of two groups (a mixture of two Gaussians, fitted to the margins), is below 0, and another class
    is as probable as it is for examples that carry it (confident learning: Northcutt et al. 2021, section 3.1); else,
    with a margin below 0, or forgotten twice or more with one near it, it is ambiguous.

    Args:
        source: A `callbacks.ExampleMargins` that watched a training, whose data it has; or a compiled `keras.Model` for
            single labels: a copy of it, with new weights, is then trained for this alone, and the model is left as it
            is.
        data: Arrays `(x, y)` for a model: class numbers `(n,)` or one-hot rows.
        epochs: Of the copy, >= 2.
        batch_size: Of the copy.

    Returns:
        `LabelIssues`.

    Raises:
        ValueError: for a callback that has scored nothing, a model that is not compiled or has another output than one
            row of classes, or labels that are no classes.

    Example:
        >>> margins = callbacks.ExampleMargins((x, y))
        >>> model.fit(x, y, epochs=30, callbacks=[margins])
        >>> print(diagnose.label_issues(margins))
    """
    history = getattr(source, "history_of_examples", None)
    if not isinstance(history, ExampleHistory):
        if not isinstance(source, keras.Model) or data is None:
            raise ValueError(
                "diagnose.label_issues expects a callbacks.ExampleMargins that has watched a training, or a model and "
                f"its data (x, y). Received {type(source).__name__} and {type(data).__name__}. Write "
                "label_issues(model, (x, y))."
            )
        history = _trained_copy(source, data, epochs, batch_size)
    if not history.times.any():
        raise ValueError(
            "diagnose.label_issues expects examples that were scored. Received a callback that has seen no epoch "
            "to its end. Train for an epoch or more."
        )
    return judge_labels(history)


def _trained_copy(model, data, epochs, batch_size):
    x, y = np.asarray(data[0]), np.asarray(data[1])
    numbers = y.argmax(-1) if y.ndim == 2 and y.shape[1] > 1 else y.reshape(-1)
    outputs = getattr(model, "outputs", None)
    if not model.compiled or not outputs or len(outputs) != 1 or len(outputs[0].shape) != 2 or epochs < 2:
        raise ValueError(
            "diagnose.label_issues expects a compiled model with one row of classes for an output, and epochs >= 2. "
            f"Received {model.name!r} and epochs={epochs}. Compile it with a cross-entropy."
        )
    copy = rebuild(model)
    optimizer = type(model.optimizer).from_config(model.optimizer.get_config())
    copy.compile(optimizer=optimizer, loss=model.loss)
    history = ExampleHistory(numbers, max(2, outputs[0].shape[-1]))
    for _ in range(epochs):
        copy.fit(x, y, batch_size=batch_size, epochs=1, verbose=0)
        history.add(np.arange(len(x)), probabilities_of(copy, copy.predict(x, batch_size=256, verbose=0)))
    return history


def probabilities_of(model: keras.Model, outputs: NDArray[np.floating]) -> NDArray[np.float32]:
    """Probabilities `(n, classes)` of a classifier's outputs; one unit becomes two classes."""
    outputs = np.asarray(outputs, np.float32)
    logits = output_activation(model) == "linear" or outputs.min() < 0 or outputs.max() > 1.001
    if outputs.shape[1] == 1:
        second = 1 / (1 + np.exp(-outputs)) if logits else outputs
        return np.concatenate([1 - second, second], 1)
    if logits:
        outputs = np.exp(outputs - outputs.max(1, keepdims=True))
    return outputs / np.maximum(outputs.sum(1, keepdims=True), 1e-12)


def judge_labels(history: ExampleHistory) -> LabelIssues:
    """The issues of examples that were scored in the course of a training."""
    margins, mean, given = history.margins, history.probabilities, history.labels
    known = np.isfinite(margins)
    rows = np.arange(len(given))
    others = mean.copy()
    others[rows, given] = -1
    suggested = others.argmax(1)
    # Confident learning's thresholds: how sure of a class the model is where it is given.
    sure = np.array(
        [
            mean[known & (given == c), c].mean() if (known & (given == c)).any() else 1.0
            for c in range(history.classes)
        ]
    )
    confident = others[rows, suggested] >= np.minimum(sure[suggested], 0.9)
    wrong = known & (margins < min(0.0, _valley(margins[known]))) & confident
    doubt = (
        known & ~wrong & ((margins < 0) | ((history.forgotten >= 2) & (margins < np.nanmedian(margins) / 4)))
    )
    issues = [
        LabelIssue(
            int(row),
            "mislabelled" if wrong[row] else "ambiguous",
            int(given[row]),
            int(suggested[row]),
            float(margins[row]),
            _reason(history, row, suggested[row], mean),
        )
        for row in sorted(np.flatnonzero(wrong | doubt), key=lambda r: (not wrong[r], margins[r]))
    ]
    counts = np.zeros((history.classes, history.classes))
    np.add.at(counts, (given[known], np.where(wrong, suggested, given)[known]), 1)
    noise = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return LabelIssues(issues, (-margins).astype(np.float32), noise, history.times.copy())


def _reason(history, row, suggested, mean):
    words = f"{mean[row, suggested]:.0%} sure of it over {history.times[row]} looks"
    if history.forgotten[row]:
        words += f", forgotten {history.forgotten[row]} times"
    return words


def _valley(margins):
    """The margin below which an example rather belongs to the lower of two groups; -inf where there is one group."""
    values = np.sort(margins.astype(np.float64))
    low, high = np.quantile(values, [0.02, 0.6])
    means, widths = np.array([low, high]), np.full(2, max(values.std() / 2, 1e-3))
    shares = np.array([0.05, 0.95])
    for _ in range(60):
        scaled = (values[:, None] - means) / widths
        densities = shares / widths * np.exp(-0.5 * np.square(scaled)) + 1e-300
        parts = densities / densities.sum(1, keepdims=True)
        total = parts.sum(0) + 1e-9
        shares, means = total / len(values), (parts * values[:, None]).sum(0) / total
        spread = (parts * np.square(values[:, None] - means)).sum(0) / total
        widths = np.sqrt(np.maximum(spread, 1e-6))
    if means[0] > means[1] or not np.isfinite(means).all():
        return 0.0
    lower = values[(parts[:, 0] > 0.5) & (values < means[1])]
    return float(lower[-1]) if len(lower) else -np.inf
