"""initial_loss: compare a model's loss before training with the loss of uninformed outputs."""

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from recipes.common.patching import replaced
from recipes.common.traversal import layers_of
from recipes.diagnose.checks.model_copy import dropping_layers, untouched
from recipes.diagnose.checks.output_task import task_of
from recipes.diagnose.checks.sample import built, read_sample
from recipes.diagnose.checks.seen_layers import short
from recipes.diagnose.checks.verdict import Check
from recipes.diagnose.finding import Finding
from recipes.diagnose.rules.data_facts import describe_inputs
from recipes.diagnose.rules.remedies import scaling


@dataclass(frozen=True, kw_only=True)
class InitialLoss(Check):
    """Outcome of `initial_loss`.

    Attributes:
        loss: Mean loss over the data, without regularization penalties; NaN where it could not be computed.
        expected: Loss of outputs that hold no information, or None where that is not known.
        penalty: What the regularization penalties add to the loss, with the present weights.
    """

    loss: float
    expected: float | None
    penalty: float


def initial_loss(
    model: keras.Model, data: Any, *, batch_size: int = 128, seconds: float = 1.0
) -> InitialLoss:
    """Compare the loss before training with that of a model that guesses.

    The expected loss is the model's own loss function (with label smoothing and weights) at outputs that hold no
    information. These are equal probabilities for a softmax, 1/2 for a sigmoid, 0 for logits and margins, and the mean
    of the targets for a regression. So the expected loss is ln C for C classes, ln 2 for a binary classification, and
    the variance of the targets for the squared error. For the multi-class hinge loss summed over classes it is C - 1.
    Regularization penalties are shown apart.

    Source: the lecture notes of Stanford's CS231n, "Neural Networks Part 3", section "Before learning: sanity
    checks Tips/Tricks", https://cs231n.github.io/neural-networks-3/#sanitycheck

    Args:
        model: A compiled `keras.Model`. It is not changed: its variables are restored bit for bit.
        data: `tf.data.Dataset` of `(inputs, labels)` or `(inputs, labels, weights)`, or arrays `(x, y)`.
        batch_size: Examples per batch, where the data is not batched.
        seconds: Time for reading data, in seconds; four batches at most and one at least are used.

    Returns:
        An `InitialLoss`. In a classification, its finding is a "warning" where the loss is more than five times the
        expected one, and "info" where it is more than 1.5 times or less than half. A loss below half means that the
        model was trained before, or that the inputs contain the labels. In a regression, the finding is "info" above
        1.5 times. A loss that is NaN or infinite is an "error".

    Raises:
        ValueError: when the model is not compiled or the data is empty.
    """
    task = task_of(model)
    sample = read_sample(data, model, batch_size=batch_size, batches=4, seconds=seconds)
    built(model, sample)
    if task.own_step and task.kind == "unknown":
        return _not_known("the training step is your own, and computes its loss itself")
    losses, neutral, sizes, penalty = [], [], [], 0.0
    center = np.mean(sample.labels, axis=0) if task.kind == "values" else None
    # In training mode, as the moving averages of a new batch normalization are not yet known; without dropout.
    with untouched(model), replaced([(layer, "rate", 0.0) for layer in dropping_layers(model)]):
        for inputs, labels, weights in sample.batches:
            inputs = keras.tree.map_structure(ops.convert_to_tensor, inputs)
            outputs = model(inputs, training=True)
            try:
                total = float(model.compute_loss(x=inputs, y=labels, y_pred=outputs, sample_weight=weights))
            except Exception as error:  # with labels that a loss does not expect, it may raise anything
                return _not_known(f"the loss cannot be computed ({short(error)})")
            penalty = float(sum(float(loss) for loss in model.losses))
            losses.append(total - penalty)
            sizes.append(len(keras.tree.flatten(inputs)[0]))
            flat = _neutral(task, outputs, center)
            if flat is not None:
                total = float(model.compute_loss(x=inputs, y=labels, y_pred=flat, sample_weight=weights))
                neutral.append(total - penalty)
    loss = float(np.average(losses, weights=sizes))
    expected = float(np.average(neutral, weights=sizes)) if neutral else None
    return InitialLoss(
        name="initial_loss",
        result=_result(loss, expected, penalty, task),
        findings=_judge(loss, expected, task, sample, scale=_scaling(model, sample)),
        loss=loss,
        expected=expected,
        penalty=penalty,
    )


def _not_known(why):
    """A result without a loss, with the reason why it is not known."""
    return InitialLoss(
        name="initial_loss",
        result=f"not known: {why}",
        findings=[],
        loss=float("nan"),
        expected=None,
        penalty=0.0,
    )


def _neutral(task, outputs, center):
    """Outputs that hold no information, or None where they are not known."""
    if task.kind == "unknown" or not ops.is_tensor(outputs):
        return None
    if task.kind == "values":
        if math.prod(center.shape) != math.prod(outputs.shape[1:]):
            return None
        center = np.reshape(center, (1, *outputs.shape[1:]))
        return ops.broadcast_to(ops.cast(center, outputs.dtype), ops.shape(outputs))
    if task.kind == "margins" or task.from_logits:
        return ops.zeros_like(outputs)
    share = 1 / outputs.shape[-1] if task.kind == "categorical" else 0.5
    return ops.full_like(outputs, share)


def _result(loss, expected, penalty, task):
    words = {
        "categorical": "log C",
        "binary": "ln 2",
        "margins": "all margins 0",
        "values": "of predicting the mean",
    }
    against = (
        "expected value not known" if expected is None else f"expected {expected:.4g} ({words[task.kind]})"
    )
    more = f", plus {penalty:.3g} of regularization" if penalty else ""
    return f"loss {loss:.4g}, {against}{more}"


def _scaling(model, sample):
    """What to type to scale the inputs; "" where they have a usual scale, or are indices of an embedding."""
    facts = describe_inputs(sample)
    size = math.hypot(facts.get("mean", 0.0), facts.get("std", 0.0))
    looked_up = any(hasattr(layer, "embeddings") for layer in layers_of(model))
    return "" if looked_up or 0.1 < size < 10 else scaling(facts)


def _judge(loss, expected, task, sample, *, scale):
    def found(code, severity, evidence, remedy):
        return [Finding(code, severity, None, 0, evidence, remedy)]

    if not np.isfinite(loss):
        return found(
            "initial_loss",
            "error",
            f"The loss is {loss} before the first step.",
            "Look for NaN in the inputs, a logarithm or division in the model, or weights that overflow.",
        )
    if expected is None or expected <= 0:
        return []
    ratio = loss / expected
    if ratio > 1.5 and task.kind == "values":
        targets = sample.labels.astype("float64")
        # Only "info": most runs find the mean in the end, and a rule about the scale of the targets says more.
        return found(
            "initial_loss",
            "info",
            f"The first loss is {loss:.4g}, {ratio:.3g} times the {expected:.4g} of always answering the mean, "
            f"{targets.mean():.4g}: the first epochs go into finding that mean.",
            "Standardize the targets: train on (y - mean) / std.",
        )
    if ratio > 1.5:
        severity = "warning" if ratio > 5 else "info"  # training may repair a smaller one
        small = "kernel_initializer=keras.initializers.RandomNormal(stddev=0.01)"
        return found(
            "initial_loss",
            severity,
            f"The first loss is {loss:.4g}, {ratio:.3g} times the {expected:.4g} of equal chances for every class: "
            "before it has learned anything the model is sure, and mostly wrong, and the first steps must undo that.",
            f"{scale} If that does not do, start the last layer small: {small}."
            if scale
            else f"Start the last layer small: {small}.",
        )
    if ratio < 0.5 and task.classification:
        return found(
            "initial_loss",
            "info",
            f"The first loss is {loss:.4g}, below the {expected:.4g} of always giving the same answer.",
            "Fine for a model trained before; otherwise look for the labels among the inputs.",
        )
    return []
