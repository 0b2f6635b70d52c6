"""Facts about a model and its data, as plain values for the rules."""

import contextlib
import math
from typing import Any

import keras
import numpy as np

from recipes.common.optimizers import groups, innermost, is_scheduled, schedule_of, switched
from recipes.common.traversal import named_operations
from recipes.diagnose.checks.activation_statistics import Observation, few_examples, observe
from recipes.diagnose.checks.model_copy import optimizers_of, untouched, usual_rate
from recipes.diagnose.checks.output_task import Task, heads_of, inner_widths, labels_of, task_of
from recipes.diagnose.checks.sample import MOST_BYTES, Sample, read_sample
from recipes.diagnose.checks.seen_layers import short
from recipes.diagnose.rules.batch_facts import batch_facts
from recipes.diagnose.rules.constant_answer import searched_constant
from recipes.diagnose.rules.data_facts import describe_data, overlap
from recipes.diagnose.rules.input_facts import filled_within
from recipes.diagnose.rules.layer_facts import describe_layers

_MOST_NUMBERS = 4_000_000
_LAST_STEP, _SCHEDULE_STEPS = 1e6, 25  # of a schedule: 12 points for each factor of 1,000


def describe(model: keras.Model, train: Any = None, validation: Any = None, *, seconds: float = 2.0) -> dict:
    """Collect what the rules need to know, in values that JSON can hold.

    Where a part cannot be known, because of a custom loss or of labels that do not fit it, this part is left out, and
    "unknown" says why. The other parts stay.

    Args:
        model: A compiled, built `keras.Model`. It is left unchanged.
        train: Training data: a `tf.data.Dataset`, arrays or a `recipes.diagnose.checks.sample.Sample`. Without it, only
            the model is described.
        validation: Validation data in the same form, or None.
        seconds: Time limit for reading each data set, in seconds.

    Returns:
        dict with "task", "heads" (of a model with several outputs), "optimizer", "layers", "output_layers" and
        "unknown". With `train`, also "data", "statistics" (of one batch, as `activation_statistics` measures them),
        "outputs" (facts about the model's outputs for that batch) and "baseline" (the loss of the best constant
        prediction). With `validation`, also "baseline_validation" (the loss of the same prediction there).
    """
    facts = describe_model(model)
    if train is None:
        return facts
    options = {"batch_size": 64, "batches": 64, "seconds": seconds, "most_bytes": MOST_BYTES}
    sample = read_sample(train, model, **options)
    held_out = None
    if validation is not None:
        held_out = read_sample(validation, model, name="validation", **options)
    facts["data"] = describe_samples(model, sample, held_out)
    if facts["data"]["train"]["label_counts_match"]:
        try:
            facts |= describe_observation(
                model, sample, observe(model, few_examples(model, sample.batches[0])), facts, held_out
            )
        except Exception as error:  # the rules that need no batch must still run
            facts["unknown"]["batch"] = f"the model cannot be run on a batch: {short(error)}"
    return facts


def describe_model(model: keras.Model) -> dict:
    """What `describe` collects about the model alone: task, loss, outputs, layers and optimizer.

    Args:
        model: A built `keras.Model`.

    Returns:
        dict of plain values.
    """
    task, heads = task_of(model), heads_of(model)
    facts = {
        "task": vars(task),
        "optimizer": describe_optimizer(model),
        "layers": describe_layers(model),
        "trainable": len(model.trainable_variables) if model.built else None,
        "switched": {name: [v.path for v in found] for name, found in switched(model).items()},
        "output_layers": heads[0].chain if len(heads) == 1 else [],
        "unknown": {},
    }
    if task.own_step and task.kind == "unknown":
        facts["task"] = vars(task) | {"widths": inner_widths(model)}
    if len(heads) > 1:
        facts["heads"] = [vars(head) | {"task": vars(head.task)} for head in heads]
    if task.kind == "unknown" and len(heads) < 2:
        facts["unknown"]["labels"] = (
            "the training step is your own"
            if task.own_step
            else "no loss was compiled"
            if task.loss is None
            else f"the loss {task.loss} is not one that the checks know"
        )
    return facts


def describe_samples(model: keras.Model, train: Sample, validation: Sample | None) -> dict:
    """What `describe` collects about the data.

    Args:
        model: A built `keras.Model`.
        train: Batches of the training data.
        validation: Batches of the validation data, or None.

    Returns:
        `{"train"}`, and with validation data also "validation" and "overlap".
    """
    task, heads = task_of(model), heads_of(model)
    data = {"train": describe_data(train, task, heads)}
    if validation is not None:
        data |= {"validation": describe_data(validation, task, heads), "overlap": overlap(train, validation)}
    return data


def describe_observation(
    model: keras.Model, sample: Sample, seen: Observation, facts: dict, held_out: Sample | None = None
) -> dict:
    """What one batch on its way through the model shows, and the loss of the best constant prediction.

    Args:
        model: A compiled, built `keras.Model`.
        sample: Batches of the training data; the first one was sent through the model.
        seen: What was observed on that batch.
        facts: The facts so far; its "unknown" is extended where the baseline cannot be computed.
        held_out: Batches of the validation data, or None.

    Returns:
        dict to add to the facts.
    """
    found = {"statistics": [vars(layer) for layer in seen.layers]}
    found |= batch_facts(model, sample.batches[0], seen, facts.get("data", {}).get("train", {}))
    found["nan_filled"] = filled_within(
        (few_examples(model, sample.batches[0]) or sample.batches[0])[0], seen.layers
    )
    if seen.silent:
        return found
    try:
        found |= loss_of_knowing_nothing(model, sample, seen, held_out)
    except Exception as error:
        facts["unknown"]["baseline"] = short(error)
    return found


def loss_of_knowing_nothing(
    model: keras.Model, sample: Sample, seen: Observation, held_out: Sample | None = None
) -> dict[str, float]:
    """Loss of the best constant prediction, in training and in validation.

    A constant prediction is the same for every example: the share of each class, or the mean or the median of each
    target. The one with the lowest loss counts. It is computed by the model's own loss, with label smoothing and sample
    weights, but without penalties. For a custom loss, `searched_constant` searches for the prediction.

    Args:
        model: A compiled, built `keras.Model`.
        sample: Batches of the training data.
        seen: What was observed on one batch.
        held_out: Batches of the validation data, or None.

    Returns:
        dict with "baseline" and, with `held_out`, "baseline_validation"; what is not known is left out.
    """
    heads, outputs = heads_of(model), keras.tree.flatten(seen.outputs)
    if len(heads) == 1 and heads[0].task.kind == "unknown" and heads[0].task.loss and len(outputs) == 1:
        plain = not heads[0].task.own_step and sample.labeled and sample.batches[0][2] is None
        return searched_constant(model, sample, heads[0], outputs[0], held_out) if plain else {}
    if len(heads) != len(outputs) or any(head.task.kind == "unknown" for head in heads):
        return {}
    inputs, labels, weights, rows = _as_one_batch(sample, outputs)
    choices = []
    for number, (head, output) in enumerate(zip(heads, outputs, strict=True)):
        part = labels_of(head, labels, number)
        if not isinstance(part, np.ndarray):
            return {}
        choices.append(_constants(head.task, part, output))

    def answers(number, rows):
        flat = [
            np.broadcast_to(few[min(number, len(few) - 1)], (rows, *output.shape[1:])).astype("float32")
            for few, output in zip(choices, outputs, strict=True)
        ]
        return keras.tree.pack_sequence_as(seen.outputs, flat)

    costs = {
        number: _plain_loss(model, inputs, labels, answers(number, rows), weights)
        for number in range(max(map(len, choices)))
    }
    costs = {number: cost for number, cost in costs.items() if math.isfinite(cost)}
    if not costs:
        return {}
    best = min(costs, key=costs.get)
    found = {"baseline": costs[best]}
    if held_out is not None and held_out.labeled:
        with contextlib.suppress(Exception):  # other rules report labels that do not fit the loss
            inputs, labels, weights, rows = _as_one_batch(held_out, outputs)
            there = _plain_loss(model, inputs, labels, answers(best, rows), weights)
            found |= {"baseline_validation": there} if math.isfinite(there) else {}
    return found


def _as_one_batch(sample, outputs):
    """`(inputs, labels, weights, rows)`: inputs of the first batch; labels and weights of as many as memory allows."""
    size = max(1, sum(math.prod(output.shape[1:]) for output in outputs))
    rows, batches = 0, []
    for batch in sample.batches:
        if batches and rows * size > _MOST_NUMBERS:
            break
        batches.append(batch)
        rows += len(keras.tree.flatten(batch[0])[0])
    labels = keras.tree.map_structure(lambda *parts: np.concatenate(parts), *(batch[1] for batch in batches))
    weights = None
    if batches[0][2] is not None:
        weights = keras.tree.map_structure(
            lambda *parts: np.concatenate(parts), *(batch[2] for batch in batches)
        )
    return batches[0][0], labels, weights, rows


def _plain_loss(model, inputs, labels, answers, weights):
    answers = keras.tree.map_structure(keras.ops.convert_to_tensor, answers)
    with untouched(model):
        total = float(model.compute_loss(x=inputs, y=labels, y_pred=answers, sample_weight=weights))
        return total - float(sum(float(keras.ops.sum(loss)) for loss in model.losses))


def _constants(task: Task, labels: np.ndarray, output: np.ndarray) -> list[np.ndarray]:
    """Candidates for the best constant prediction."""
    width = output.shape[-1] if output.ndim > 1 else 1
    if task.kind == "categorical":
        if task.ignore_class is not None:
            kept = labels[labels != task.ignore_class]
            counts = np.bincount(np.clip(kept.astype("int64"), 0, width - 1), minlength=width)
        elif str(task.loss).startswith("sparse"):
            places = _shares_by_place(labels, output)
            if places is not None:
                return [np.log(places) if task.from_logits else places]
            counts = np.bincount(np.clip(labels.astype("int64").reshape(-1), 0, width - 1), minlength=width)
        else:
            counts = labels.reshape(-1, labels.shape[-1]).sum(axis=0)
        shares = np.maximum(counts / max(counts.sum(), 1e-12), 1e-7)
        return [np.log(shares) if task.from_logits else shares]
    rows = labels.reshape(len(labels), -1).astype("float64")
    rows = (
        rows.reshape(len(labels), *output.shape[1:]) if rows.size == output[:1].size * len(labels) else rows
    )
    if task.kind == "binary":
        share = np.clip(rows.mean(axis=0), 1e-7, 1 - 1e-7)
        return [np.log(share / (1 - share)) if task.from_logits else share]
    if task.kind == "margins":
        return [np.zeros(width), np.ones(width), -np.ones(width)]
    return [rows.mean(axis=0), np.median(rows, axis=0)]


def _shares_by_place(labels, output):
    """Shares of the classes at each position of a sequence, `(length, classes)`; None where examples are too few."""
    width = output.shape[-1]
    if (
        output.ndim != 3
        or labels.reshape(len(labels), -1).shape[1] != output.shape[1]
        or len(labels) < 20 * width
    ):
        return None
    rows = np.clip(labels.astype("int64").reshape(len(labels), -1), 0, width - 1)
    counts = np.stack([np.bincount(column, minlength=width) for column in rows.T])
    return np.maximum(counts / len(labels), 1e-7)


def describe_optimizer(model: keras.Model) -> dict:
    """Name, learning rate, momentum, clipping and weight decay of the optimizer.

    Args:
        model: A `keras.Model`.

    Returns:
        dict of plain values; empty where there are several optimizers, or where the learning rate is not a single
        number.
    """
    if len(optimizers_of(model)) != 1 or len(groups(model.optimizer)) > 1:
        return {}
    optimizer = optimizers_of(model)[0]
    inner = innermost(optimizer)
    try:
        rate = usual_rate(optimizer)
    except (AttributeError, ValueError, TypeError):  # one rate per group, or a custom rate
        return {}
    return {
        "name": type(inner).__name__,
        "rate": rate,
        "scheduled": is_scheduled(optimizer),
        "planned_rates": _planned_rates(optimizer),
        "momentum": _as_float(getattr(inner, "momentum", None)),
        "weight_decay": float(inner.weight_decay or 0),
        **{name: getattr(inner, name) for name in ("clipnorm", "global_clipnorm", "clipvalue")},
    }


def _planned_rates(optimizer):
    """Pairs `[step, rate]` of a schedule of Keras or of this library; else an empty list.

    These schedules can be called without side effects.
    """
    schedule = schedule_of(optimizer)
    if not type(schedule).__module__.startswith(("keras.", "recipes.")) or not callable(schedule):
        return []
    steps = np.unique(np.geomspace(1, _LAST_STEP, _SCHEDULE_STEPS).astype(int)).tolist()
    try:
        return [[step, float(keras.ops.convert_to_numpy(schedule(step)))] for step in steps]
    except Exception:  # a subclass may need more than the step
        return []


def _as_float(value):
    return float(value) if isinstance(value, (int, float)) else 0.0


def idle_averages(model: keras.Model) -> list[str]:
    """Names of normalization layers whose moving averages still have their initial values, mean 0 and variance 1.

    Args:
        model: A built `keras.Model`.
    """
    names = []
    for name, layer in named_operations(model):
        if hasattr(layer, "moving_mean") and hasattr(layer, "moving_variance"):
            mean = keras.ops.convert_to_numpy(layer.moving_mean)
            if not mean.any() and (keras.ops.convert_to_numpy(layer.moving_variance) == 1).all():
                names.append(name)
    return names
