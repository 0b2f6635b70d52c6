"""Recall of a trained model: how many examples of each class, or how many positive labels, it finds."""

from typing import Any

import keras
import numpy as np

from recipes.diagnose.checks.output_task import Task, task_of
from recipes.diagnose.checks.sample import MOST_BYTES, read_sample


def class_recall(model: keras.Model, *parts: Any) -> dict[str, dict[str, int]]:
    """Count the examples of each class, and how many of them the model classifies correctly.

    Args:
        model: A compiled, built classifier with one output; any other model gives an empty dictionary.
        *parts: Data sets or arrays `(x, y)`, of which up to 16 batches each are looked at; None is skipped.

    Returns:
        dict from the class number, as a string, to `{"examples": n, "right": n}`.
    """
    task, found = task_of(model), {}
    single = task.kind == "categorical" or (task.kind == "binary" and task.outputs == 1)
    single = single or (task.kind == "unknown" and task.activation == "softmax")
    if not single:
        return {}
    for part in parts:
        if part is None:
            continue
        sample = read_sample(part, model, batch_size=128, batches=16, seconds=1.0, most_bytes=MOST_BYTES)
        for inputs, labels, _ in sample.batches:
            answers = model(keras.tree.map_structure(keras.ops.convert_to_tensor, inputs), training=False)
            given, wanted = _classes(
                task, keras.ops.convert_to_numpy(answers), np.asarray(keras.tree.flatten(labels)[0])
            )
            if given is None or given.shape != wanted.shape:
                return {}
            for number in np.unique(wanted[wanted != task.ignore_class]):
                one = found.setdefault(str(int(number)), {"examples": 0, "right": 0})
                of_it = wanted == number
                one["examples"] += int(of_it.sum())
                one["right"] += int((given[of_it] == number).sum())
    return found


def positives(model: keras.Model, *parts: Any) -> dict[str, float]:
    """Compare the probabilities of a multi-label model where the label is 1 with those where it is 0.

    Args:
        model: A compiled, built model with one output of several sigmoids; any other model gives an empty dictionary.
        *parts: Data sets or arrays `(x, y)`, of which up to 16 batches each are looked at; None is skipped.

    Returns:
        dict with "asked", the number of labels that are 1; "found", how many of them get a probability above 0.5;
        "share", the share of labels that are 1, in [0, 1]; "yes" and "no", the mean probability where the label is 1
        and where it is 0. Empty where all labels are equal or a probability is not finite.
    """
    task, given, wanted = task_of(model), [], []
    if task.kind != "binary" or (task.outputs or 1) < 2:
        return {}
    for part in parts:
        if part is None:
            continue
        sample = read_sample(part, model, batch_size=128, batches=16, seconds=1.0, most_bytes=MOST_BYTES)
        for inputs, labels, _ in sample.batches:
            answers = model(keras.tree.map_structure(keras.ops.convert_to_tensor, inputs), training=False)
            answers = keras.ops.sigmoid(answers) if task.from_logits else answers
            given.append(np.asarray(keras.ops.convert_to_numpy(answers), "float64").reshape(-1))
            wanted.append(np.asarray(keras.tree.flatten(labels)[0]).reshape(-1) > 0.5)
    if not given or any(len(answer) != len(label) for answer, label in zip(given, wanted, strict=True)):
        return {}
    answers, ones = np.concatenate(given), np.concatenate(wanted)
    if not ones.any() or ones.all() or not np.isfinite(answers).all():
        return {}
    return {
        "asked": int(ones.sum()),
        "found": int((answers[ones] > 0.5).sum()),
        "share": float(ones.mean()),
        "yes": float(answers[ones].mean()),
        "no": float(answers[~ones].mean()),
    }


def _classes(task: Task, answers: np.ndarray, labels: np.ndarray) -> tuple[Any, Any]:
    if task.kind == "binary":
        edge = 0.0 if task.from_logits else 0.5
        return (answers.reshape(-1) > edge).astype("int64"), np.round(labels.reshape(-1)).astype("int64")
    if answers.ndim != 2:
        return None, None
    rows = labels.ndim == 2 and labels.shape[1] == answers.shape[1] > 1
    wanted = labels.argmax(-1) if rows else labels.reshape(-1).astype("int64")
    return answers.argmax(-1), wanted
