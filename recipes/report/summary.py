"""The first lines of a report: how good the run is, what is wrong with it, what to do next, and its numbers."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from recipes.common.shell_words import in_shell_lines
from recipes.diagnose.images.near_duplicates import WITH_FILES
from recipes.evaluate.scores import wilson_interval
from recipes.report.example_images import Predictions

_NUMBERS = ("val_accuracy", "accuracy", "val_iou", "iou", "val_loss", "loss")


class Leaks(NamedTuple):
    """Validation examples that are in the training data too.

    Attributes:
        copies: How many.
        examples: How many validation examples were looked at.
        said: Each pair in words, by its files; empty where these are not known.
    """

    copies: int
    examples: int
    said: tuple[str, ...] = ()


_PRETRAINED = "a pretrained network (recipes.models.transfer)"
_NAMED = 3  # pairs in the summary
_LEAKED = 0.01  # of the validation examples: more than this moves a validation accuracy


def verdict(
    run: Any,
    seen: Predictions | None = None,
    names: Any = None,
    leaks: Leaks | tuple[int, int] | None = None,
    doubted: int = 0,
    looked: bool = True,
) -> dict[str, str]:
    """`{"kind": "ok", "info", "warning" or "error", "text": a sentence or two}`: the worst that was found.

    The model's answers on held-out data, `seen`, are compared with always answering the most frequent class there.
    `leaks` is `(copies, examples)`: how many validation examples are in the training data too, and how many there are.
    `doubted` is the number of training labels that are probably wrong. `looked` is whether there were held-out data.
    """
    counts = {
        severity: sum(f.severity == severity for f in run.findings) for severity in ("error", "warning")
    }
    if counts["error"]:
        return {"kind": "error", "text": f"This run cannot work as it is: {run.findings[0].title}."}
    if counts["warning"]:
        return {"kind": "warning", "text": f"This run could do better: {run.findings[0].title}."}
    if leaking(leaks):
        return {"kind": "warning", "text": f"{_leak_words(leaks)}: the validation scores are too good."}
    if (guess := no_better_than(seen)) is not None:
        name = _name(guess, names)
        (most, count), right = _most(seen), _right(seen)
        # The 95 % interval of Wilson includes every share that is so near to the one seen.
        text = (
            f"On held-out examples the model is not surely better than always answering {name}: {right:,} of {count:,} "
            f"are right, always answering {name} would get {most:,}, and the 95 % interval includes that."
            if right > most
            else f"The model does no better on held-out examples than always answering {name}."
        )
        return {"kind": "warning", "text": text}
    skipped = before_training(run).get("skipped", ())
    if skipped:
        # A check that did not run has not passed.
        names = ", ".join(skipped)
        text = f"Nothing wrong was found by the checks that ran. Not checked, for lack of time: {names}."
        return {"kind": "warning", "text": text + _doubts(doubted)}
    if (guess := may_be_guessing(seen)) is not None:
        low, high = wilson_interval(_right(seen), len(seen.labels))
        text = (
            "No error and no warning, but these are too few held-out examples to say that the model is better than "
            f"always answering {_name(guess, names)}: {_right(seen):,} of {len(seen.labels):,} are right, "
            f"and the 95 % interval of {low:.1%} to {high:.1%} includes the {_most(seen)[0]:,} that it would get."
        )
        return {"kind": "info", "text": text + _doubts(doubted)}
    if current := _current(run):
        more = f", and {len(current) - 1} more below" if len(current) > 1 else ""
        text = f"No error and no warning. A remark: {current[0].title}{more}."
        return {"kind": "info", "text": text + _doubts(doubted)}
    if run.record is None:
        return {
            "kind": "ok",
            "text": "No findings. Nothing looked inside the training steps." + _doubts(doubted),
        }
    if doubted:
        return {"kind": "ok", "text": "Nothing wrong was found in the training." + _doubts(doubted)}
    if not looked and "val_loss" in (run.history or {}):
        text = "Nothing wrong was found in the training. No held-out examples were looked at for this page."
        return {"kind": "ok", "text": text}
    return {"kind": "ok", "text": "Nothing wrong was found."}


def _doubts(doubted):
    if not doubted:
        return ""
    labels = "1 label" if doubted == 1 else f"{doubted:,} labels"
    return f" The network contradicts {labels}: look at the section Labels in doubt."


def how_good(run: Any, seen: Predictions | None = None) -> str:
    """One sentence on how well the run ended, or nothing where it logged no loss.

    It gives the number of right answers where that of the validation examples is known, from the settings or as that of
    `seen`: 53.3 % of 15 examples says little.
    """
    history = run.history or {}
    epochs = len(history.get("loss", ()))
    if not epochs:
        return ""
    after = f"after {epochs} epoch{'s' if epochs > 1 else ''}"
    for name, said in (
        ("val_accuracy", "{:.1%} of the validation examples are answered right"),
        ("val_iou", "Predicted and given masks of the validation images overlap by {:.1%} (mean IoU)"),
        ("accuracy", "Nothing was validated: {:.1%} of the training examples are answered right"),
    ):
        values = np.asarray(history.get(name, ()), "float64")
        if values.size and math.isfinite(values[-1]):
            best = np.nanmax(values)
            was = f", {best:.1%} in the best epoch" if best - values[-1] >= 0.005 else ""
            held_out = validation_examples(run)
            if (
                held_out is None
                and seen is not None
                and abs(_right(seen) / len(seen.labels) - values[-1]) < 1e-5
            ):
                held_out = len(seen.labels)
            right, count = round(values[-1] * (held_out or 0)), ""
            if name == "val_accuracy" and held_out and abs(right / held_out - values[-1]) < 1e-5:
                low, high = wilson_interval(right, held_out)
                count = f" ({right:,} of {held_out:,}), 95 % interval {low:.1%} to {high:.1%},"
            return f"{said.format(values[-1])}{count} {after}{was}."
    name = "val_loss" if "val_loss" in history else "loss"
    first, last = float(history[name][0]), float(history[name][-1])
    return f"The {words(name)} is {last:.4g} {after}; after the first it was {first:.4g}."


def no_better_than(seen: Predictions | None) -> int | None:
    """The most frequent class where always answering it does as well, to within a standard error; None otherwise."""
    if seen is None or not len(seen.labels):
        return None
    counts = np.bincount(seen.labels)
    share, right = counts.max() / counts.sum(), np.mean(seen.labels == seen.predicted)
    if share == 1 or right > share + math.sqrt(share * (1 - share) / counts.sum()):
        return None
    return int(counts.argmax())


def may_be_guessing(seen: Predictions | None) -> int | None:
    """The most frequent class where the 95 % interval includes the accuracy of always answering it; None otherwise."""
    if seen is None or not len(seen.labels):
        return None
    most, count = _most(seen)
    low, _ = wilson_interval(_right(seen), count)
    return int(np.bincount(seen.labels).argmax()) if most < count and low <= most / count else None


def _name(number, names):
    return names[number] if names is not None and number < len(names) else number


def _most(seen):
    counts = np.bincount(seen.labels)
    return int(counts.max()), int(counts.sum())


def _right(seen):
    return int((seen.labels == seen.predicted).sum())


def leaking(leaks: Leaks | tuple[int, int] | None) -> bool:
    """Whether so many validation examples are in the training data that the scores on them tell less."""
    return leaks is not None and leaks[0] > _LEAKED * leaks[1]


def _leak_words(leaks):
    are = (
        "is nearly a copy of a training example"
        if leaks[0] == 1
        else "are nearly copies of training examples"
    )
    return f"{leaks[0]:,} of the {leaks[1]:,} validation examples {are}"


def _current(run):
    """The findings that were not withdrawn."""
    return [finding for finding in run.findings if not finding.withdrawn]


def what_to_do(
    run: Any, seen: Predictions | None = None, leaks: Leaks | tuple[int, int] | None = None
) -> str:
    """What to do, in a sentence or two: the remedy of the worst finding that still holds, or how to go on.

    A run that was begun in a shell is told in the words of the shell.
    """
    said = _what_to_do(run, seen, leaks)
    return in_shell_lines(said) if in_shell(run) else said


def in_shell(run: Any) -> bool:
    """Whether a run was begun by `recipes train` in a shell."""
    return bool((run.settings or {}).get("command"))


def _what_to_do(run, seen, leaks):
    current = _current(run)
    if current and current[0].severity != "info":
        return current[0].remedy
    if leaking(leaks):
        if said := getattr(leaks, "said", ()):
            more = f" (and {len(said) - _NAMED} more)" if len(said) > _NAMED else ""
            if leaks[0] > leaks[1] / 2:
                return "Give labeled examples that it was not trained on."
            return f"{'; '.join(said[:_NAMED])}{more}. What to do: {WITH_FILES}."
        return "Keep such copies on one side: recipes.diagnose.near_duplicates(train, validation) lists them."
    if no_better_than(seen) is not None:
        return f"Train longer, give it more examples, or begin with {_PRETRAINED}."
    if before_training(run).get("skipped"):
        return "Run the checks that were skipped, then evaluate on examples that were neither trained nor validated on."
    unsure = may_be_guessing(seen) is not None
    if current and not unsure:
        return current[0].remedy
    settings = run.settings or {}
    shell = in_shell(run) and settings.get("run_dir")
    more = "more " if unsure else ""
    how = (
        f"{shlex.join(['recipes', 'evaluate', str(settings['run_dir'])])} FOLDER"
        if shell
        else "run.evaluate(test)"
    )
    or_else = (
        f" A{_PRETRAINED[1:]} needs fewer examples to train on." if unsure and _from_scratch(run) else ""
    )
    return f"Evaluate it on {more}examples that were neither trained nor validated on, with {how}.{or_else}"


def _from_scratch(run):
    return run.model is not None and run.model.name != "transfer" and run.model.input_shape[-1] == 3


def check_command(settings: Mapping[str, Any] | None, seconds: int) -> str | None:
    """What runs all checks of a run's data in a shell, read as it was; None where the data has no name or folder.

    Args:
        settings: Of the run.
        seconds: For all checks together.
    """
    settings = settings or {}
    if not settings.get("data"):
        return None
    words = ["recipes", "check", str(settings["data"]), "--seconds", str(seconds)]
    sides = set((settings.get("image_shape") or ())[:2])
    if len(sides) == 1 and (settings.get("train_data") or {}).get("kind") == "files":
        words += ["--image-size", str(*sides)]
    if settings.get("fit", "crop") != "crop":
        words += ["--fit", settings["fit"]]
    return shlex.join(words)


def before_training(run: Any) -> dict[str, Any]:
    """What was looked at before training: names of skipped checks, remedies that were tried."""
    return (run.settings or {}).get("before_training") or {}


def numbers(
    run: Any, seen: Predictions | None, leaks: Leaks | tuple[int, int] | None = None
) -> list[tuple[str, str, str]]:
    """`(name, value, remark)` for each of the boxes below the verdict."""
    history, rows = run.history or {}, []
    for name in _NUMBERS:
        values = np.asarray(history.get(name, ()), "float64")
        if values.size:
            share = "accuracy" in name or "iou" in name
            best = np.nanmax(values) if share and np.isfinite(values).any() else None
            shown = f"{values[-1]:.2%}" if share else f"{values[-1]:.4g}"
            rows.append((words(name), shown, f"best {best:.2%}" if best is not None else ""))
    if "loss" in history:
        rows.append(("epochs", str(len(history["loss"])), ""))
    if run.model is not None:
        rows.append(("parameters", f"{run.model.count_params():,}", ""))
    if seen is not None:
        remark = f"{leaks[0]:,} of them in training" if leaks and leaks[0] else "not trained on"
        rows.append(("held-out examples", f"{len(seen.labels):,}", remark))
    return rows


def validation_examples(run: Any) -> int | None:
    """How many validation examples a run had, according to its settings; None where they do not say."""
    described = (run.settings or {}).get("validation_data") or {}
    if described.get("kind") == "files":
        return described.get("count")
    if described.get("kind") == "arrays":
        return described["shapes"][0][0]
    batched = "shape=()" not in str(described.get("elements"))  # labels of single examples are numbers
    count = described.get("cardinality", -1)
    return None if batched or count <= 0 else count


def words(name: str) -> str:
    """The name of a logged value in words: "validation loss", "training accuracy"."""
    if name in ("learning_rate", "lr"):
        return "learning rate"
    kind, rest = ("validation", name.removeprefix("val_")) if name.startswith("val_") else ("training", name)
    return f"{kind} {rest.replace('_', ' ')}"
