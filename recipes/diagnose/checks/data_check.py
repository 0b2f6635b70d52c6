"""Look at the data before the model does."""

from dataclasses import dataclass

from recipes.diagnose.checks.model_copy import built
from recipes.diagnose.checks.output_task import task_of
from recipes.diagnose.checks.sample import MOST_BYTES, read_sample
from recipes.diagnose.checks.verdict import Check
from recipes.diagnose.rules.data_rules import judge_data
from recipes.diagnose.rules.run_facts import describe_data, overlap


@dataclass(frozen=True, kw_only=True)
class DataCheck(Check):
    """Outcome of `data_check`.

    Attributes:
        facts: dict with "train" and, if given, "validation" and "overlap": counts, ranges, moments of what was read.
    """

    facts: dict


def data_check(model, train, validation=None, *, examples=4096, seconds=2.0):
    """Check labels, inputs, their order, and what both data sets share.

    Looks for: labels out of the model's range, all alike, or in another number than the inputs (an augmentation that
    mixes class numbers); unbalanced classes; NaN; images that are one color, or all the same; data sorted by
    class; examples that are byte for byte in both data sets; inputs scaled differently in the two; targets
    far from 0 and 1, or out of the reach of the last activation.

    Args:
        model: A compiled `keras.Model`: its loss and outputs say what labels should be. Not run.
        train: `tf.data.Dataset` or arrays, as in `initial_loss`. Neither is moved on.
        validation: The same for validation data, or None.
        examples: Most examples to read of each. Their pixels are looked at in the first 64 MB of them.
        seconds: Time for each.

    Returns:
        A `DataCheck`.
    """
    task = task_of(model)
    batches = -(-examples // 64)
    options = {"batch_size": 64, "batches": batches, "seconds": seconds, "most_bytes": MOST_BYTES}
    sample = read_sample(train, model, **options)
    built(model, sample)
    facts = {"train": describe_data(sample, task)}
    if validation is not None:
        held_out = read_sample(validation, model, name="validation", **options)
        facts |= {"validation": describe_data(held_out, task), "overlap": overlap(sample, held_out)}
    data = facts["train"]
    numbers = f", inputs {data['min']:.4g} to {data['max']:.4g}" if "min" in data else ""
    classes = f", {len(data['class_counts'])} classes" if "class_counts" in data else ""
    return DataCheck(
        name="data_check",
        result=f"{data['examples']} examples read{classes}{numbers}",
        findings=judge_data({"data": facts, "task": vars(task)}),
        facts=facts,
    )
