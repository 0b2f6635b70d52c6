"""label_issues: find examples that are probably mislabelled or ambiguous, from their margins during training."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from recipes.common.datasets import files_of
from recipes.common.history_table import read_history
from recipes.common.types import Data
from recipes.diagnose.margins.doubtful_labels import ENOUGH_LOOKS, LabelIssue, LabelIssues
from recipes.diagnose.margins.example_history import ExampleHistory
from recipes.diagnose.margins.mixture import chance_of_wrong, fit_label_mixture
from recipes.diagnose.margins.trained_copy import history_of_copy
from recipes.diagnose.rules.curve_rules import ACCURACIES

_LEARNED, _NEARLY_ALL = 0.4, 0.9  # least kappa, or least accuracy, for labels to be judged
_SURE = 0.75  # a label is called wrong where the probability of an error is larger
_MOST = 2**17  # probabilities that are processed together
_SUPPOSED = 0.03  # share of wrong labels that is assumed at least, to rank all examples


def label_issues(
    source: Any,
    data: Data | None = None,
    *,
    epochs: int = 10,
    batch_size: int = 128,
    class_names: Sequence[str] | None = None,
) -> LabelIssues:
    """Find examples whose labels are probably wrong.

    A network learns what most examples of a class share before it memorizes single wrong labels. So the margin of a
    wrong label stays below 0 for most of a training (AUM: Pleiss et al. 2020, "Identifying Mislabeled Data using the
    Area Under the Margin Ranking", section 3).

    An example is called mislabelled where its mean margin is negative, it was scored three times or more, and the odds
    that its label is an error are above three to one. The odds come from a mixture of two explanations of a label: the
    uncertainty of the predictions, or an error (`fit_label_mixture`). Predictions count most there while the network
    has learned something but has not memorized the labels. Other examples are ambiguous where their mean margin is
    below 0, or near 0 if they were forgotten twice or more (Toneva et al. 2019).

    No label is called wrong where the network has learned little, or in a class that is mostly predicted as another.
    Of a run with validation, the result says with how much caution to read it: `LabelIssues.held_out`.
    The noise rates between classes are sums of the probabilities of an error, as confident learning counts confident
    examples (Northcutt et al. 2021, section 3.1).

    Args:
        source: One of: the result of `recipes.train`, which has collected the margins, or the folder of that run; a
            `callbacks.ExampleMargins` that watched a training; a compiled `keras.Model` that predicts one class per
            example. Of a model, two copies with new weights are trained, and the model itself is not changed. Each
            copy has one class more, to which random examples are assigned. Their labels are certainly wrong, and their
            margins give the threshold below which a label may be called wrong (Pleiss et al., section 3.2).
        data: For a model only: arrays `(x, y)` with class numbers `(n,)` or one-hot labels `(n, classes)`, or a
            `tf.data.Dataset` of such examples, batched or not. It has to come in the same order every time, and to fit
            into memory.
        epochs: For a model only: epochs of training for each copy, >= 2.
        batch_size: For a model only: examples per training step.
        class_names: Names of the classes; None takes those of the run.

    Returns:
        `LabelIssues`. Its numbers are positions in the training data, from 0. Where that came from files by
        `data.load`, it names them, also for a run in a folder, as long as the images are where they were.

    Raises:
        ValueError: for a run without monitors, of a single epoch, or on a data set that shuffles and batches itself, so
            that its examples have no numbers. For a callback that has scored nothing, or a `source` of another kind.
            For a model that is not compiled, or whose output is not one row of classes. For labels that are not
            classes, inputs with NaN or infinity, or a data set that shuffles anew each time.
        TypeError: for data of another kind, such as a generator.

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
    return judge_labels(
        history,
        class_names if class_names is not None else names,
        _files_there(history, source, data),
        _held_out_kappa(history, source),
    )


def _held_out_kappa(history, source):
    """Cohen's kappa in the epoch of a run that was best on held-out examples; NaN where nothing says how good it was.

    A history holds only the accuracy, so labels and predictions count as if they had the classes of the training.
    """
    logs = getattr(source, "history", None)
    if isinstance(source, (str, os.PathLike)) and (Path(source) / "history.csv").exists():
        logs = read_history(Path(source) / "history.csv")
    values = (
        next((logs[f"val_{name}"] for name in ACCURACIES if f"val_{name}" in logs), ())
        if isinstance(logs, dict)
        else ()
    )
    values = np.asarray(values, "float64")
    if not np.isfinite(values).any():
        return float("nan")
    labels = history.labels[history.labels >= 0]
    shares = np.bincount(labels, minlength=history.classes) / len(labels)
    return _kappa(float(np.nanmax(values)), float(shares @ shares))


def _files_there(history, source, data):
    """The paths of the examples, or None where they are not known or their folder is not there any more."""
    files = history.files if history.files is not None else getattr(source, "files", ()) or files_of(data)
    # The character-wise prefix, of which the last part may be cut: quick, also for a million files.
    there = len(files) == len(history.labels) and os.path.exists(os.path.dirname(os.path.commonprefix(files)))
    return files if there else None


def _history(source, data, epochs, batch_size):
    """`(history, class names)` of a source of any of the kinds that `label_issues` takes."""
    if isinstance(source, (str, os.PathLike)):
        path = Path(source) / "examples.npz"
        if not path.exists():
            raise ValueError(
                f"diagnose.label_issues expects a run with the margins of its examples. Received {source}, without "
                f"examples.npz. {_WITHOUT}"
            )
        from recipes.common.files import read_json  # noqa: PLC0415 - only a folder needs it

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


def judge_labels(
    history: ExampleHistory,
    class_names: Sequence[str] | None = None,
    files: Sequence[str] | None = None,
    held_out: float = float("nan"),
) -> LabelIssues:
    """Find the label issues in the history of a training, by the rules that `label_issues` describes.

    Args:
        history: The predictions that were added in the course of a training.
        class_names: Names of the classes, or None.
        files: Path of each example, or None.
        held_out: Cohen's kappa of the network on held-out examples; NaN where it is not known.
    """
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
            None if files is None else files[row],
        )
        for row in sorted(np.flatnonzero(wrong | doubt), key=lambda r: (not wrong[r], -scores[r]))
    ]
    counts = np.zeros((history.classes, history.classes))
    np.add.at(counts, (given[known], given[known]), 1 - chance[known])
    np.add.at(counts, (given[known], suggested[known]), chance[known])
    noise = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    names = None if class_names is None else tuple(map(str, class_names))
    agreement, learned = _agreement(history, np.flatnonzero(known))
    return LabelIssues(
        issues, scores, noise, history.times.copy(), names, agreement, learned, files, held_out
    )


def _agreement(history, rows):
    """Cohen's kappa of labels and mean predictions, and whether it is high enough to judge labels."""
    if not len(rows):
        return float("nan"), False
    labels = history.labels[rows]
    answers = np.where(history.margins[rows] > 0, labels, history.rivals[0][rows])
    given, answered = (np.bincount(row, minlength=history.classes) / len(rows) for row in (labels, answers))
    same = float((labels == answers).mean())
    kappa = _kappa(same, float(given @ answered))
    return kappa, kappa >= _LEARNED or same >= _NEARLY_ALL


def _kappa(same, chance):
    """Cohen's kappa of a share of equal answers, and of the share that would be equal by chance."""
    return (same - chance) / (1 - chance) if chance < 1 else 0.0


def _judged(history, rows):
    """`(probability of a wrong label, score, suggested class, its mean probability)` of all examples.

    The probability is from a mixture that finds errors only where uncertainty does not explain the labels. For the
    scores and the suggested classes, a small share of errors is assumed, so that pairs of classes that are often
    confused count more. They count most for the scores, whose mixture has a weaker prior.
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
    """Which classes the network has learned, bool `(classes,)`: most of their examples are predicted as labelled.

    In a class that it has not learned, a prediction of another class says nothing about the label. No class counts as
    learned where all predictions together agree with the labels little more than by chance.
    """
    labels, right = history.labels[rows], history.margins[rows] > 0
    counts = np.bincount(labels, minlength=history.classes)
    most = np.bincount(labels, right, minlength=history.classes) > counts / 2
    return most & _agreement(history, rows)[1]


def _reason(history, row, certainty):
    words = f"the suggested class got {certainty:.0%} on average over {history.times[row]} looks"
    if history.forgotten[row]:
        times = history.forgotten[row]
        words += f", forgotten {times} time{'' if times == 1 else 's'}"
    return words
