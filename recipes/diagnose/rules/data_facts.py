"""Facts about a data set, as plain values for the rules."""

import math
from typing import Any

import keras
import numpy as np

from recipes.diagnose.checks.output_task import Head, Task, labels_of
from recipes.diagnose.checks.sample import Sample
from recipes.diagnose.rules.answer_in_inputs import answer_in_inputs
from recipes.diagnose.rules.input_facts import (
    SOME,
    column_facts,
    first_rows,
    number_facts,
    several_inputs,
)
from recipes.diagnose.rules.label_association import (
    association,
    association_by_place,
    belongs,
    column_association,
    neighbor_agreement,
    of_all_inputs,
    order_of,
    words_agreement,
)
from recipes.diagnose.rules.label_forms import by_position, class_numbers, flattened

_MOST_CLASSES = 100  # classes that are counted at each position of an example
_MOST_RANKED = 4096  # targets from which the quartiles are computed
_MOST_VALUES = 12  # distinct label values; where there are more, they are not listed


def describe_data(sample: Sample, task: Task, heads: list[Head] | None = None) -> dict:
    """Collect the facts about one `Sample`.

    Args:
        sample: The batches that were read.
        task: What the model's output and loss mean.
        heads: All outputs with their losses. If there are several, the facts about their labels are under "heads".

    Returns:
        dict of plain values. Facts that cannot be known of a data set are missing from it.
    """
    kept = [keras.tree.flatten(batch[0])[0] for batch in sample.batches]
    hashes = sample.hashes_read
    numbers = kept if np.issubdtype(kept[0].dtype, np.number) or kept[0].dtype == bool else None
    facts = {
        "examples": len(hashes),
        "whole": sample.whole,
        "ordered": sample.ordered,
        "batch": sample.batch,
        "input_shape": list(kept[0].shape[1:]),
        "input_dtype": str(kept[0].dtype),
        "labels_finite": True,
        "label_counts_match": True,
    }
    if numbers is not None:
        facts |= {**number_facts(numbers), "different_examples": len(np.unique(hashes))}
        facts |= column_facts(numbers)
    facts |= several_inputs([batch[0] for batch in sample.batches])
    if not sample.labeled:
        return facts
    facts["label_counts_match"] = all(
        len(label) == len(keras.tree.flatten(x)[0])
        for x, y, _ in sample.batches
        for label in keras.tree.flatten(y)
    )
    labels = sample.labels_read
    facts |= label_facts(labels, task, facts["label_counts_match"])
    if task.kind != "unknown" and facts["label_counts_match"] and len(heads or ()) < 2:
        facts["answer_in_inputs"] = answer_in_inputs(sample, task.classification)
    whole = "class_counts" in facts and not facts.get("label_positions")
    if task.classification and whole and numbers is not None:
        numbered = class_numbers(flattened(labels), task)
        if len(facts["class_counts"]) > 1:
            some = first_rows(of_all_inputs(sample, numbers), SOME)
            facts["column_association"] = column_association(some, numbered[: len(some)])
            words = _words_agreement(sample, numbered[: len(some)])
            found = neighbor_agreement(some, numbered[: len(some)])
            facts |= max(found, words, key=lambda one: one.get("neighbor_agreement", 0.0))
    elif facts.get("label_positions") and numbers is not None and facts["label_counts_match"]:
        facts |= association_by_place(labels, facts["label_positions"], task, of_all_inputs(sample, numbers))
    elif numbers is not None and facts["label_counts_match"] and not (heads and len(heads) > 1):
        facts |= association(labels, of_all_inputs(sample, numbers))
    if sample.ordered and "target_std" in facts and facts["label_counts_match"]:
        facts |= order_of(labels)
    if heads and len(heads) > 1:
        facts["heads"] = [_head_facts(sample, head, number) for number, head in enumerate(heads)]
        if numbers is not None and facts["label_counts_match"]:
            for number, (head, known) in enumerate(zip(heads, facts["heads"], strict=True)):
                known |= belongs(sample, head, number, numbers) if known else {}
    return facts


def describe_inputs(sample: Sample) -> dict:
    """Facts about the inputs alone: shape and dtype of an example and, for numbers, range, mean and spread.

    Args:
        sample: The batches that were read.

    Returns:
        dict of plain values.
    """
    kept = [keras.tree.flatten(batch[0])[0] for batch in sample.batches]
    facts = {"input_shape": list(kept[0].shape[1:]), "input_dtype": str(kept[0].dtype)}
    known = np.issubdtype(kept[0].dtype, np.number) or kept[0].dtype == bool
    return facts | number_facts(kept) if known else facts


def _head_facts(sample, head, number):
    parts = [labels_of(head, batch[1], number) for batch in sample.batches]
    if any(not isinstance(part, np.ndarray) for part in parts):
        return None
    return {
        "examples": sum(map(len, parts)),
        "whole": sample.whole and not sample.further,
        "ordered": sample.ordered,
        "label_counts_match": True,
        **label_facts(np.concatenate(parts), head.task, True),
    }


def label_facts(labels: np.ndarray, task: Task, counts_match: bool = True) -> dict:
    """Facts about the labels of one output: shape, dtype, and class counts or the range of quantities.

    Args:
        labels: `(n,)` or `(n, ...)`.
        task: What the output is for.
        counts_match: Whether there are as many labels as inputs.

    Returns:
        dict of plain values. Facts that cannot be known are missing from it.
    """
    facts = {"labels_shape": list(labels.shape[1:]), "labels_dtype": str(labels.dtype)}
    positions = by_position(labels, task)
    rows = flattened(labels if positions is None else positions)
    places = len(rows) // max(1, len(labels))
    if task.ignore_class is not None and rows.ndim == 1 and (rows != task.ignore_class).any():
        rows = rows[rows != task.ignore_class]
    numeric = np.issubdtype(labels.dtype, np.number) or labels.dtype == bool
    facts["labels_finite"] = bool(np.isfinite(rows).all()) if numeric else True
    if not numeric or not facts["labels_finite"] or not rows.size:
        return facts
    whole = labels.dtype.kind in "biu" or bool(np.all(rows == np.round(rows)))
    facts["label_zeros"] = float(np.mean(np.abs(rows.astype("float64")) < 1e-6))
    facts |= {"label_low": float(rows.min()), "label_high": float(rows.max()), "label_whole": whole}
    values = np.unique(rows[: 1 << 20])
    facts["label_values"] = values.astype("float64").tolist() if len(values) <= _MOST_VALUES else None
    facts["label_kinds"] = len(values)
    # A map of class numbers, one per position, has no class axis.
    if labels.ndim > 1 and labels.shape[-1] > 1 and not (positions is not None and positions.ndim == 1):
        facts["rows"] = _row_facts(labels.reshape(-1, labels.shape[-1]))
    if positions is not None and counts_match:
        # Facts about consecutive labels are left out: neighboring positions of one picture are alike.
        known = _class_facts(rows, task)
        facts |= {name: known[name] for name in ("label_min", "label_max", "class_counts") if name in known}
        facts["label_positions"] = places
        chance = _chance_by_place(rows, len(labels), task) if task.ignore_class is None else None
        if chance is not None:
            facts["place_chance"] = chance
    elif task.classification and counts_match:
        facts |= _class_facts(rows, task)
    else:
        facts |= _target_facts(rows)
        if counts_match and guessed_classes(task, facts):
            facts |= _class_facts(rows, task)
    return facts


def guessed_classes(task: Task, facts: dict) -> bool:
    """Whether the labels under a custom loss look like class numbers for a softmax output.

    Args:
        task: What the output is for.
        facts: Facts about its labels.
    """
    one = math.prod(facts.get("labels_shape") or [1]) == 1 and len(task.output_shape or ()) == 1
    if task.kind != "unknown" or task.activation != "softmax" or not one or not facts.get("label_whole"):
        return False
    low, high = facts["label_low"], facts["label_high"]
    return bool(low >= 0 and 1 < (task.outputs or 0) > high and facts["label_kinds"] > 1)


def _chance_by_place(rows: np.ndarray, examples: int, task: Task) -> float | None:
    """Accuracy of answering the most frequent class of each position; None where examples are too few."""
    numbered = class_numbers(rows, task)
    if numbered is None or examples < 20 * max(1, int(numbered.max(initial=0)) + 1):
        return None
    places = numbered.reshape(examples, -1)
    counts = np.stack([np.sum(places == value, axis=0) for value in np.unique(numbered)[:_MOST_CLASSES]])
    return float(counts.max(axis=0).mean() / examples)


def overlap(train: Sample, validation: Sample) -> dict:
    """Count the validation examples that occur, byte for byte, among the training examples.

    Args:
        train: Batches of the training data.
        validation: Batches of the validation data.

    Returns:
        `{"examples", "same", "whole"}`: the number of validation examples that were read, how many of them occur in
        training, and whether all the training data was read.
    """
    seen, hashes = set(train.hashes_read.tolist()), validation.hashes_read.tolist()
    return {"examples": len(hashes), "same": sum(value in seen for value in hashes), "whole": train.whole}


def _row_facts(rows: np.ndarray) -> dict[str, Any]:
    """Facts that show whether rows of labels are one-hot, soft, multi-label or none of these."""
    rows = rows[: 1 << 18].astype("float64")
    sums, ones = rows.sum(axis=1), np.isclose(rows, 1).sum(axis=1)
    binary = np.isclose(rows, 1) | np.isclose(rows, 0)
    return {
        "sum_min": float(sums.min()),
        "sum_max": float(sums.max()),
        "share_of_one": float(np.isclose(sums, 1, atol=1e-2).mean()),
        "most_ones": int(ones.max()),
        "binary": bool(binary.all()),
    }


def _target_facts(rows: np.ndarray) -> dict[str, float]:
    targets = rows.astype("float64")
    mean, std = targets.mean(axis=0), targets.std(axis=0)
    facts = {
        "target_mean": float(targets.mean()),
        "target_std": float(std.mean()),
        "target_variance": float(np.square(std).mean()),
        "target_min": float(targets.min()),
        "target_max": float(targets.max()),
        "target_quartiles": [float(value) for value in np.percentile(targets[:_MOST_RANKED], (25, 50, 75))],
    }
    varying = np.atleast_1d(std) > 0
    if varying.any():
        offsets = np.abs(np.atleast_1d(mean)[varying]) / np.atleast_1d(std)[varying]
        facts["target_offset"] = float(offsets.max())
        facts["target_std_min"] = float(np.atleast_1d(std)[varying].min())
        facts["target_std_max"] = float(np.atleast_1d(std).max())
    return facts


def _words_agreement(sample, numbered):
    """As `words_agreement`, where the only input holds token ids; {} for anything else."""
    kept = [keras.tree.flatten(batch[0]) for batch in sample.batches]
    if any(len(one) != 1 or one[0].ndim != 2 or one[0].dtype.kind not in "iu" for one in kept):
        return {}
    ids = np.concatenate([one[0] for one in kept])[: len(numbered)]
    return words_agreement(ids, numbered) if len(ids) == len(numbered) and ids.shape[1] >= 5 else {}


def _class_facts(labels, task):
    numbered = class_numbers(labels, task)
    if numbered is None:
        return {}
    values, counts = np.unique(numbered, return_counts=True)
    shares = counts / counts.sum()
    return {
        "label_min": int(values.min()),
        "label_max": int(values.max()),
        "class_counts": {str(int(value)): int(count) for value, count in zip(values, counts, strict=True)},
        # How often two consecutive examples share a label, and how often they would by chance.
        "same_next": float(np.mean(numbered[1:] == numbered[:-1])) if len(numbered) > 1 else 0.0,
        "same_by_chance": float(np.sum(np.square(shares))),
    }
