"""label_issues: examples that are probably mislabelled, or that belong to no one class, from a training itself."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from recipes.common.types import Data
from recipes.diagnose.margins.example_history import ExampleHistory
from recipes.diagnose.margins.mixture import chance_of_wrong, fit_label_mixture
from recipes.diagnose.margins.trained_copy import history_of_copy

ENOUGH_LOOKS = 3  # at one example, before its label is called wrong
_LEARNED, _NEARLY_ALL = 0.4, 0.9  # kappa, or share that is answered as labelled, from which on answers tell
_SURE = 0.75  # the chance from which on it is
_MOST = 2**17  # probabilities that are looked at together
_SUPPOSED = 0.03  # share of wrong labels, at least, for an order of all


@dataclass(frozen=True)
class LabelIssue:
    """One example whose label is in doubt.

    Attributes:
        number: Place in the data.
        kind: "mislabelled", or "ambiguous" where that is less sure than three to one.
        given: Its class number.
        suggested: The class that it probably has, by the answers over the training and by which classes are exchanged.
        margin: Mean margin of the given class, in logits; below 0 another was preferred.
        chance: That the label is wrong, in [0, 1].
        reason: In words.
    """

    number: int
    kind: str
    given: int
    suggested: int
    margin: float
    chance: float
    reason: str


@dataclass(frozen=True)
class LabelIssues:
    """What `label_issues` found.

    Attributes:
        issues: list of `LabelIssue`, mislabelled ones first, the worst first.
        scores: float32 `(n,)`, how doubtful each label is, as logarithms of odds: higher is worse; NaN where an example
            was never scored.
        noise: float64 `(classes, classes)`: of the examples that are given class i, the estimated share that is j.
        times: How often each example was scored, int32 `(n,)`.
        class_names: Names of the classes, or None.
        agreement: Cohen's kappa of labels and answers over the training (Cohen 1960, "A coefficient of agreement for
            nominal scales"): 1 where all are answered as labelled, 0 where no more are than by chance.
        learned: Whether the answers tell anything of the labels: a kappa of 0.4 ("moderate", Landis and Koch 1977), or
            nine of ten answered as labelled. If not, no label is called wrong.
    """

    issues: list[LabelIssue]
    scores: NDArray[np.float32]
    noise: NDArray[np.float64]
    times: NDArray[np.int32]
    class_names: tuple[str, ...] | None = None
    agreement: float = float("nan")
    learned: bool = True

    @property
    def mislabelled(self) -> NDArray[np.int64]:
        """Numbers of the examples that are probably mislabelled, worst first: what `recipes.train(drop=...)` drops."""
        return np.array([issue.number for issue in self.issues if issue.kind == "mislabelled"], np.int64)

    @property
    def suggestions(self) -> dict[int, int]:
        """`{number: suggested class}` of those: what `recipes.train(relabel=...)` sets."""
        return {issue.number: issue.suggested for issue in self.issues if issue.kind == "mislabelled"}

    def worst(self, count: int) -> NDArray[np.int64]:
        """Numbers of the `count` examples with the most doubtful labels, whatever they are called, worst first."""
        known = np.flatnonzero(np.isfinite(self.scores))
        return known[np.argsort(-self.scores[known], kind="stable")[:count]]

    def name_of(self, number: int) -> str:
        """The name of a class, its number where it has none."""
        named = self.class_names is not None and number < len(self.class_names)
        return str(self.class_names[number]) if named else str(number)

    def table(self, count: int = 10, files: Sequence[str] | None = None) -> str:
        """What was found in a line, and the worst examples, a line each.

        Args:
            count: Most examples to show.
            files: Their files by number, such as `info.files["train"]`; None shows numbers.
        """
        _check_files(files, len(self.scores))
        wrong = len(self.mislabelled)
        lines = [
            f"{len(self.scores)} examples, each scored {np.median(self.times):g} times: {wrong} probably mislabelled, "
            f"{len(self.issues) - wrong} ambiguous"
        ]
        lines += [
            f"  {one.number if files is None else files[one.number]}: given {self.name_of(one.given)}, suggested "
            f"{self.name_of(one.suggested)} ({one.kind}; {one.reason})"
            for one in self.issues[:count]
        ]
        few = int(np.sum(self.times < ENOUGH_LOOKS))
        if few:
            lines.append(
                f"  {few} were scored less than {ENOUGH_LOOKS} times, too seldom to call a label wrong: train longer"
                ", or give ExampleMargins a larger budget"
            )
        if not self.learned:
            lines.append(
                f"  Answers agree with the labels little more than by chance (Cohen's kappa {self.agreement:.2f}): the "
                "network has not learned enough to call a label wrong. That none is named says nothing"
            )
        rates = self.noise * (1 - np.eye(len(self.noise)))
        for place in np.argsort(-rates, axis=None)[:3]:
            given, other = divmod(int(place), len(rates))
            if rates[given, other] >= 0.01:
                lines.append(
                    f"  of those given {self.name_of(given)}, {rates[given, other]:.0%} seem to be "
                    f"{self.name_of(other)}"
                )
        return "\n".join(lines)

    def to_csv(self, path: Any = None, files: Sequence[str] | None = None) -> str:
        """A row an issue, with the columns of `LabelIssue` and names of classes; written to a file if one is given.

        Args:
            path: File to write, or None.
            files: Files of the examples by number, for a column `file`.
        """
        _check_files(files, len(self.scores))
        names = list(LabelIssue.__dataclass_fields__)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        more = ["given_name", "suggested_name"] * (self.class_names is not None) + ["file"] * (
            files is not None
        )
        writer.writerow([*names, *more])
        for issue in self.issues:
            row = [getattr(issue, name) for name in names]
            if self.class_names is not None:
                row += [self.name_of(issue.given), self.name_of(issue.suggested)]
            writer.writerow([*row, *([files[issue.number]] if files is not None else [])])
        if path is not None:
            with open(path, "w", encoding="utf-8", newline="") as file:
                file.write(text.getvalue())
        return text.getvalue()

    def __str__(self) -> str:
        return self.table()


def _check_files(files, count):
    if files is not None and len(files) != count:
        raise ValueError(
            f"label issues expect the file of every example, by number. Received {len(files)} files for {count} "
            'examples. Give info.files["train"] of the data that was judged.'
        )


def label_issues(
    source: Any,
    data: Data | None = None,
    *,
    epochs: int = 10,
    batch_size: int = 128,
    class_names: Sequence[str] | None = None,
) -> LabelIssues:
    """Find examples whose labels are probably wrong.

    A network learns what most examples of a class share before it memorizes single wrong labels. So the margin
    of a wrong label stays below 0 for most of a training (AUM: Pleiss et al. 2020, "Identifying Mislabeled Data using
    the Area Under the Margin Ranking", section 3). Looks count most while the network neither knows nothing nor has
    everything by heart. An example is called mislabelled where its mean margin is negative and the label is three times
    as probably an error as what the answers' own doubt explains, by a mixture of the two (`fit_label_mixture`), after
    three looks at least; else, with a margin below 0, or forgotten twice or more (Toneva et al. 2019) with one near it,
    it is ambiguous. A network that knows little doubts much, so that it calls nothing an error; nor is a label called
    one whose class is mostly answered otherwise. Rates of noise between classes add up these chances, as confident
    learning adds up confident examples (Northcutt et al. 2021, section 3.1).

    Args:
        source: What `recipes.train` returned, whose steps have gathered the margins, or its folder; a
            `callbacks.ExampleMargins` that watched a training; or a compiled `keras.Model` for single labels: copies of
            it, with new weights, are then trained for this alone, and the model is left as it is. Each of the two
            copies has one class more, to which some examples are given at random: they are wrong for sure, and how
            they are answered says from which margin on a label may be called wrong (Pleiss et al., section 3.2).
        data: For a model: arrays `(x, y)`, class numbers `(n,)` or one-hot rows, or a `tf.data.Dataset` of such
            examples, batched or not, that comes in the same order every time and fits into memory.
        epochs: Of each copy, >= 2.
        batch_size: Of the copies.
        class_names: Names of the classes; None takes those of the run.

    Returns:
        `LabelIssues`. Their numbers are places in the training data; of a run on what `data.load` gives,
        `info.files["train"]` has their files.

    Raises:
        ValueError: for a run without monitors, or whose data set shuffles and batches itself, so that its examples
            have no numbers; a callback that has scored nothing; a model that is not compiled or has another output than
            one row of classes; labels that are no classes; inputs with NaN; a data set that shuffles anew each time.
        TypeError: for a generator, or another kind of data.

    Example:
        >>> run = recipes.train(model, train, validation)
        >>> issues = diagnose.label_issues(run)
        >>> better = recipes.train(fresh_model, train, validation, drop=issues)
    """
    history, names = _history(source, data, epochs, batch_size)
    known = history.times[history.times > 0]
    if not known.size:
        raise ValueError(
            "diagnose.label_issues expects examples that were scored. Received a training that has scored none, or "
            "mixed every image with others. Train for two epochs or more, without MixUp on every image."
        )
    if known.max() < 2 and not isinstance(source, keras.callbacks.Callback):
        raise ValueError(
            "diagnose.label_issues expects a training that saw its examples twice or more. Received one of a single "
            "epoch. Train longer; ten epochs tell a lot."
        )
    return judge_labels(history, class_names if class_names is not None else names)


def _history(source, data, epochs, batch_size):
    """`(history, class names)` of whatever was given."""
    if isinstance(source, (str, os.PathLike)):
        path = Path(source) / "examples.npz"
        if not path.exists():
            raise ValueError(
                f"diagnose.label_issues expects a run with the margins of its examples. Received {source}, without "
                f"examples.npz. {_WITHOUT}"
            )
        from recipes.common.files import read_json  # noqa: PLC0415 - a model is judged without

        settings = read_json(
            Path(source) / "run.json", "the settings of a run", "Put a copy of the file back."
        )
        return ExampleHistory.load(path), settings.get("class_names")
    if isinstance(source, keras.Model) and data is not None:
        return history_of_copy(source, data, epochs, batch_size), None
    for name in ("history_of_examples", "examples"):
        history = getattr(source, name, None)
        if isinstance(history, ExampleHistory):
            return history, getattr(source, "class_names", None)
    if hasattr(source, "examples"):
        notes = [note for note in getattr(source.record, "notes", ()) if "single examples" in note]
        raise ValueError(
            "diagnose.label_issues expects a run with the margins of its examples. Received one without. "
            f"{' '.join([*notes, _WITHOUT])}"
        )
    if hasattr(source, "history_of_examples"):
        raise ValueError(
            "diagnose.label_issues expects examples that were scored. Received a callback that has seen no epoch "
            "to its end. Train for an epoch or more. Write label_issues(model, (x, y)) to have a copy trained."
        )
    raise ValueError(
        "diagnose.label_issues expects a run of recipes.train or its folder, a callbacks.ExampleMargins that has "
        f"watched a training, or a model and its data (x, y). Received {type(source).__name__} and "
        f"{type(data).__name__}. Write label_issues(model, (x, y))."
    )


_WITHOUT = (
    "They are gathered with monitor=True, of single class labels, where train is arrays or un-batched data, or batches "
    "in a fixed order; else put callbacks.ExampleMargins(data) into callbacks, or write label_issues(model, (x, y))."
)


def judge_labels(history: ExampleHistory, class_names: Sequence[str] | None = None) -> LabelIssues:
    """The issues of examples that were scored in the course of a training."""
    margins, given = history.margins, history.labels
    known = np.isfinite(margins) & (given >= 0)
    chance, scores, suggested, certainty = _judged(history, np.flatnonzero(known))
    enough = history.times >= ENOUGH_LOOKS
    wrong = known & (chance > _SURE) & (margins < history.threshold) & enough
    near = np.nanmedian(margins) / 4 if known.any() else 0.0
    doubt = known & ~wrong & ((margins < 0) | ((history.forgotten >= 2) & (margins < near)))
    issues = [
        LabelIssue(
            int(row),
            "mislabelled" if wrong[row] else "ambiguous",
            int(given[row]),
            int(suggested[row]),
            float(margins[row]),
            float(chance[row]),
            _reason(history, row, certainty[row]),
        )
        for row in sorted(np.flatnonzero(wrong | doubt), key=lambda r: (not wrong[r], -scores[r]))
    ]
    counts = np.zeros((history.classes, history.classes))
    np.add.at(counts, (given[known], given[known]), 1 - chance[known])
    np.add.at(counts, (given[known], suggested[known]), chance[known])
    noise = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    names = None if class_names is None else tuple(map(str, class_names))
    agreement, learned = _agreement(history, np.flatnonzero(known))
    return LabelIssues(issues, scores, noise, history.times.copy(), names, agreement, learned)


def _agreement(history, rows):
    """Cohen's kappa of the labels and of what was mostly answered, and whether that is enough to tell of labels."""
    if not len(rows):
        return float("nan"), False
    labels = history.labels[rows]
    answers = np.where(history.margins[rows] > 0, labels, history.rivals[0][rows])
    given, answered = (np.bincount(row, minlength=history.classes) / len(rows) for row in (labels, answers))
    chance, same = float(given @ answered), float((labels == answers).mean())
    kappa = (same - chance) / (1 - chance) if chance < 1 else 0.0
    return kappa, kappa >= _LEARNED or same >= _NEARLY_ALL


def _judged(history, rows):
    """`(chance of a wrong label, score, suggested class, its mean probability)` of all examples.

    The chance is of a mixture that sees mistakes only where doubt does not explain the labels. For the order, and for
    what is suggested, some are supposed: then pairs of classes that are often exchanged count more, in the order most.
    """
    chance = np.zeros(len(history.labels))
    scores = np.full(len(history.labels), np.nan, np.float32)
    suggested, certainty = (one.copy() for one in history.rivals)
    if not len(rows):
        return chance, scores, suggested, certainty
    labels, margins = history.labels[rows], history.telling_margins[rows]
    known = _known_classes(history, rows)[labels]
    most = max(1000, _MOST // history.classes)
    some = np.arange(len(rows))
    if len(rows) > most:
        some = np.random.default_rng(0).choice(len(rows), most, replace=False)
    seen = history.probabilities(rows[some]), labels[some], margins[some]
    sure, supposed = fit_label_mixture(*seen), fit_label_mixture(*seen, least_share=_SUPPOSED)
    ordering = fit_label_mixture(*seen, prior=5.0, least_share=_SUPPOSED)
    for begin in range(0, len(rows), most):
        part = slice(begin, begin + most)
        seen = history.probabilities(rows[part]), labels[part], margins[part]
        chance[rows[part]] = np.where(known[part], chance_of_wrong(sure.log_odds(*seen)), 0)
        scores[rows[part]] = ordering.log_odds(*seen)
        suggested[rows[part]] = supposed.true_classes(*seen[:2])
        certainty[rows[part]] = seen[0][np.arange(len(seen[0])), suggested[rows[part]]]
    return chance, scores, suggested, certainty


def _known_classes(history, rows):
    """Which classes the answers know, `(classes,)`: most of the examples that are given one are answered so.

    Where that is not so, the network has not learned the class, and that it answers another says nothing of a label;
    none is known where all answers together agree with the labels little more than by chance.
    """
    labels, right = history.labels[rows], history.margins[rows] > 0
    counts = np.bincount(labels, minlength=history.classes)
    most = np.bincount(labels, right, minlength=history.classes) > counts / 2
    return most & _agreement(history, rows)[1]


def _reason(history, row, certainty):
    words = f"{certainty:.0%} sure of it over {history.times[row]} looks"
    if history.forgotten[row]:
        times = history.forgotten[row]
        words += f", forgotten {times} time{'' if times == 1 else 's'}"
    return words
