"""Rules about the data, before the first step."""

import math

import numpy as np

from recipes.diagnose.finding import Finding
from recipes.diagnose.rules.label_rules import judge_labels, judge_targets, unseen_classes
from recipes.diagnose.rules.remedies import look

_FEWEST_NUMBERS = 8  # numbers in an example; with fewer, its mean says little
_SORTED = 0.98  # correlation of one target with the next
_UNITS = 30  # ratio of spreads that means another unit: degrees for radians, centimeters for meters


def judge_data(facts: dict) -> list[Finding]:
    """Findings in the facts that `describe` collected about training and validation data.

    Args:
        facts: dict, as from `recipes.diagnose.rules.run_facts.describe`; without "data" nothing is found.

    Returns:
        A list of `Finding`, not yet arranged.
    """
    if "data" not in facts:
        return []
    findings = []
    heads = [(head["task"], f" (output {head['name']!r})") for head in facts.get("heads", ())]
    for name, data in facts["data"].items():
        if name == "overlap":
            continue
        findings += _values(name, data)
        if not heads:
            findings += judge_labels(name, name, data, facts["task"])
        for (task, which), labels in zip(heads, data.get("heads") or (), strict=False):
            if labels:
                findings += judge_labels(name, name + which, labels, task)
    train = facts["data"]["train"]
    findings += _order(train)
    findings += _answer_given(train)
    findings += judge_targets(train, facts["task"])
    if "validation" in facts["data"]:
        validation = facts["data"]["validation"]
        findings += _leak(facts["data"]["overlap"], train)
        findings += _mismatch(train, validation)
        unseen = unseen_classes(train, validation)
        if unseen:  # it says more than that all validation labels are the same
            findings = [
                f for f in findings if f.code != "labels_constant" or "of validation" not in f.evidence
            ]
        findings += unseen
        for number, (_, which) in enumerate(heads):
            parts = [data.get("heads") for data in (train, validation)]
            if all(parts) and all(part[number] for part in parts):
                findings += unseen_classes(parts[0][number], parts[1][number], which)
    return findings


def _values(name, data):
    if not data.get("finite", True):
        return [
            _found(
                "nan_input",
                "error",
                f"{data['not_finite_examples']} of the first {data['examples']} inputs of {name} hold NaN "
                "or infinity; one of them in a batch makes every weight NaN.",
                f"{_drop(data)}; or look for a division by zero in the preprocessing.",
            )
        ]
    holed = next((one for one in data.get("inputs", ()) if one["not_finite"]), None)
    if holed is not None:
        return [
            _found(
                "nan_input",
                "error",
                f"{holed['not_finite']} of the first {data['examples']} inputs of {name} hold NaN or infinity in input "
                f"{holed['name']}; one of them in a batch makes every weight NaN.",
                "Leave these examples out of all inputs and of the labels, or fill cells: numpy.nan_to_num(part).",
            )
        ]
    if not data["labels_finite"]:
        return [
            _found(
                "nan_input",
                "error",
                f"The labels of {name} hold NaN or infinity; one of them in a batch makes every weight NaN.",
                "Drop those examples: keep = numpy.isfinite(y); x, y = x[keep], y[keep].",
            )
        ]
    examples = data["examples"]
    if (
        "different_examples" in data
        and examples >= 8
        and data["different_examples"] <= max(1, examples // 100)
    ):
        return [
            _found(
                "constant_inputs",
                "error",
                f"The {examples} examples of {name} that were read have only {data['different_examples']} different "
                "inputs: there is nothing to tell labels apart by.",
                f"Look at one batch, {look(data)}: the loading or the scaling loses what is in them.",
            )
        ]
    constant = data.get("constant_examples", 0)
    if constant > 0.9 * examples:
        return [
            _found(
                "constant_inputs",
                "error",
                f"{constant} of {examples} inputs of {name} hold one number everywhere: there is nothing to tell "
                "labels apart by.",
                f"Look at one batch, {look(data)}: integers divided by 255 as integers give zero.",
            )
        ]
    if constant > 0.01 * examples:
        return [
            _found(
                "constant_inputs",
                "info",
                f"{constant} of {examples} inputs of {name} hold one number everywhere.",
                "Look at a few of them; if they are blank images or empty rows, remove them from the data set.",
            )
        ]
    return []


def _drop(data):
    """The remedy that leaves out examples with NaN or infinity."""
    if data["ordered"]:
        return "Drop them: dataset.filter(lambda x, y: tf.reduce_all(tf.math.is_finite(x)))"
    return "Drop them: keep = numpy.isfinite(x.reshape(len(x), -1)).all(axis=1); x, y = x[keep], y[keep]"


def _order(data):
    if data.get("target_next", 0.0) > _SORTED:
        return [
            _found(
                "missing_shuffle",
                "info",  # so are windows of a time series, which may be learned in order
                f"The target of each training example is nearly that of the one before (correlation "
                f"{data['target_next']:.3f}): the data comes sorted by its target, and each step unlearns the others.",
                "Shuffle before batching: dataset.shuffle(number_of_examples).batch(...).",
            )
        ]
    if not data["ordered"] or "same_next" not in data or len(data.get("class_counts", ())) < 2:
        return []
    count, chance = data["examples"], data["same_by_chance"]
    error = math.sqrt(max(chance * (1 - chance), 1e-6) / count)
    if data["same_next"] > chance + max(6 * error, 0.5 * (1 - chance)):
        return [
            _found(
                "missing_shuffle",
                "warning",
                f"{data['same_next']:.0%} of neighboring training examples share a label; {chance:.0%} "
                "would by chance. "
                "The data comes sorted, so each step unlearns the classes of the steps before.",
                "Shuffle before batching: dataset.shuffle(number_of_examples).batch(...).",
            )
        ]
    return []


def _answer_given(train):
    where = train.get("answer_in_inputs")
    if where is None:
        return []
    return [
        _found(
            "data_leak",
            "warning",
            f"The inputs hold the answer: in each of the training examples that were read {where}. The model need only "
            "copy it, and has nothing to copy where the answer is not known yet.",
            "Leave it out of the inputs; shift sequences by a step, so that an answer comes after what is seen.",
        )
    ]


def _leak(overlap, train):
    share = overlap["same"] / max(overlap["examples"], 1)
    few_kinds = train.get("different_examples", overlap["examples"]) < 0.5 * train["examples"]
    if overlap["same"] < 3 or share < 0.005 or few_kinds:
        return []
    # If training examples repeat one another as often, the cause is few distinct inputs, not the split.
    repeats = 1 - train.get("different_examples", train["examples"]) / train["examples"]
    usual = 2 * repeats + 3 * math.sqrt(max(repeats * (1 - repeats), 0) / overlap["examples"])
    # Token ids and other category numbers often repeat; measured numbers and pictures do not.
    numbers = "int" in train.get("input_dtype", "") and len(train.get("input_shape", ())) <= 1
    by_itself = (share < 0.1 or numbers) and repeats > 0 and share <= usual
    return [
        _found(
            "data_leak",
            "warning" if share >= 0.02 and not by_itself else "info",
            f"{overlap['same']} of {overlap['examples']} validation examples are among the training examples, byte "
            f"for byte ({share:.0%}), so validation shows what was memorized, and looks too good.",
            "Remove duplicates before splitting: _, kept = numpy.unique(x, axis=0, return_index=True); x, y = x[kept], "
            "y[kept].",
        )
    ]


def _mismatch(train, validation):
    if not all("std" in data and data["std"] > 0 for data in (train, validation)):
        return []
    shift = abs(train["mean"] - validation["mean"]) / train["std"]
    ratio = validation["std"] / train["std"]
    if shift < 1 and 1 / 3 < ratio < 3:
        return _other_unit(train, validation) or _other_input(train, validation)
    several = math.prod(train.get("input_shape", ())) >= _FEWEST_NUMBERS
    wanders = several and train.get("level_share", 0.0) > 0.7 and shift < 3 and 1 / 3 < ratio < 3
    return [
        _found(
            "train_validation_mismatch",
            "info" if wanders else "warning",  # later values of a time series may well be higher
            f"Training inputs have mean {train['mean']:.3g} and standard deviation {train['std']:.3g}, validation "
            f"inputs {validation['mean']:.3g} and {validation['std']:.3g}: what is learned on one scale is asked for "
            "on another.",
            "Preprocess both the same way; best inside the model, with keras.layers.Rescaling or "
            "Normalization.",
        )
    ]


def _other_input(train, validation):
    """One of several inputs that has another scale in validation than in training."""
    parts = [{one["name"]: one for one in data.get("inputs", ())} for data in (train, validation)]
    for name, here in parts[0].items():
        there = parts[1].get(name)
        if there is None or here["whole"] or not (here["std"] > 0 and there["std"] > 0):
            continue
        shift, ratio = abs(here["mean"] - there["mean"]) / here["std"], there["std"] / here["std"]
        if shift < 3 and 1 / 10 < ratio < 10:
            continue
        return [
            _found(
                "train_validation_mismatch",
                "warning",
                f"Input {name} has mean {here['mean']:.3g} and standard deviation {here['std']:.3g} in training, "
                f"{there['mean']:.3g} and {there['std']:.3g} in validation: what is learned on one scale is asked for "
                "on another.",
                "Preprocess both the same way; best inside the model, with keras.layers.Rescaling or Normalization.",
            )
        ]
    return []


def _other_unit(train, validation):
    """A column of a table that has another unit or offset in validation, which the mean of all columns hides."""
    if not all("column_median" in data for data in (train, validation)):
        return []
    middles, spreads = (
        [np.asarray(data[name]) for data in (train, validation)]
        for name in ("column_median", "column_spread")
    )
    if len(middles[0]) != len(middles[1]):
        return []
    least, most = np.minimum(*spreads), np.maximum(*spreads)
    # The quartiles say nothing about a column that is one number most of the time.
    off = (least > 0) & ((most > _UNITS * least) | (np.abs(middles[0] - middles[1]) > 20 * most))
    if not off.any():
        return []
    number = int(np.argmax(off))
    told = [
        f"{middles[part][number]:.3g} (its quartiles {spreads[part][number]:.3g} apart)" for part in (0, 1)
    ]
    more = f", and {off.sum() - 1} more" if off.sum() > 1 else ""
    return [
        _found(
            "train_validation_mismatch",
            "warning",
            f"Column {number} of the inputs (counted from 0){more} has a median of {told[0]} in training and "
            f"{told[1]} in validation: it comes in another unit, or is scaled otherwise.",
            "Preprocess both the same way; best inside the model, with keras.layers.Rescaling or Normalization.",
        )
    ]


def _found(code, severity, evidence, remedy):
    return Finding(code, severity, None, 0, evidence, remedy)
