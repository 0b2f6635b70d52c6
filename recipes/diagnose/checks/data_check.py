"""Check labels and inputs of the data before training."""

from dataclasses import dataclass
from typing import Any

import keras

from recipes.diagnose.checks.output_task import heads_of, inner_widths, task_of
from recipes.diagnose.checks.sample import MOST_BYTES, built, read_sample
from recipes.diagnose.checks.verdict import Check
from recipes.diagnose.rules.data_facts import describe_data, overlap
from recipes.diagnose.rules.data_rules import judge_data


@dataclass(frozen=True, kw_only=True)
class DataCheck(Check):
    """Outcome of `data_check`.

    Attributes:
        facts: "train" and, if validation data is given, "validation" and "overlap" -> dict of counts, ranges and
            moments of the data that was read.
    """

    facts: dict


def data_check(
    model: keras.Model,
    train: Any,
    validation: Any = None,
    *,
    examples: int = 4096,
    seconds: float = 2.0,
) -> DataCheck:
    """Check labels, inputs, the order of the examples, and the overlap of training and validation data.

    It looks for:

    - labels that the loss does not expect: outside of the model's classes or of [0, 1], not whole, several per row;
    - labels that are all equal, or more or fewer than the inputs (as after an augmentation that mixes class numbers);
    - classes that only validation has, and unbalanced classes;
    - NaN, images of a single color, and images that are all the same;
    - data sorted by class;
    - identical examples in both data sets, and inputs that are scaled differently in them;
    - targets far from 0 and 1, or out of the range of the last activation.

    Args:
        model: A compiled `keras.Model`. Its loss and outputs tell which labels are right; it is not run.
        train: `tf.data.Dataset` or arrays, as in `initial_loss`. Reading does not change its order.
        validation: Validation data of the same kinds, or None.
        examples: Largest number of examples to read from each data set, >= 1. Of their inputs, the first 64 MB are
            checked.
        seconds: Reading time per data set, in seconds.

    Returns:
        A `DataCheck`.

    Raises:
        ValueError: when the model is not compiled or the data is empty.
    """
    task, heads = task_of(model), heads_of(model)
    batches = -(-examples // 64)
    options = {"batch_size": 64, "batches": batches, "seconds": seconds, "most_bytes": MOST_BYTES}
    sample = read_sample(train, model, **options)
    built(model, sample)
    facts = {"train": describe_data(sample, task, heads)}
    if validation is not None:
        held_out = read_sample(validation, model, name="validation", **options)
        facts |= {"validation": describe_data(held_out, task, heads), "overlap": overlap(sample, held_out)}
    data = facts["train"]
    numbers = f", inputs {data['min']:.4g} to {data['max']:.4g}" if "min" in data else ""
    classes = f", {len(data['class_counts'])} classes" if "class_counts" in data else ""
    known = {"data": facts, "task": vars(task) | {"widths": inner_widths(model)}}
    if len(heads) > 1:
        known["heads"] = [vars(head) | {"task": vars(head.task)} for head in heads]
    return DataCheck(
        name="data_check",
        result=f"{data['examples']} examples read{classes}{numbers}{_unchecked(task, heads, data)}",
        findings=judge_data(known),
        facts=facts,
    )


def _unchecked(task, heads, data):
    """Words on labels that could not be compared with the loss, so that no one takes them for checked."""
    if "labels_shape" not in data:
        return ", no labels"
    unknown = [head for head in heads if head.task.kind == "unknown"] if len(heads) > 1 else []
    if unknown and len(unknown) < len(heads):
        return f", labels of {', '.join(repr(head.name) for head in unknown)} not checked: their loss is not known here"
    if (heads and len(heads) > 1 and not unknown) or task.kind != "unknown":
        return ""
    if task.own_step:
        return ", labels not checked: the training step is your own"
    if task.loss is None:
        return ", labels not checked: which loss they are for is not known"
    return f", labels not checked: the loss {task.loss} is not known here"
