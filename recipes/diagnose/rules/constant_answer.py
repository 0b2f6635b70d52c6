"""Search for the best constant prediction under a custom loss."""

import contextlib
import functools
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from recipes.common.gradients import value_and_gradient
from recipes.diagnose.checks.model_copy import untouched
from recipes.diagnose.checks.output_task import Head, labels_of, passes_on
from recipes.diagnose.checks.sample import Sample
from recipes.diagnose.rules.output_rules import WITH_KERNEL

_MOST_OUTPUTS = 64  # units of the last layer: the search finds one number for each
_MOST_NUMBERS = 1 << 16
_STEPS = 60
# The search covers last layers with these activations, so that it tries only answers that the layer can give.
_ACTIVATIONS = ("linear", "softmax", "sigmoid", "tanh", "softplus", "exponential", "relu")


def searched_constant(
    model: keras.Model, sample: Sample, head: Head, output: np.ndarray, held_out: Sample | None = None
) -> dict[str, float]:
    """Mean loss of the best constant prediction under any loss that judges each example by itself.

    The prediction is one number for each unit of the last layer, passed through its activation. The search starts from
    0 or from the mean of the labels, whichever has the lower loss, and takes 60 steps that follow the sign of the
    gradient. Each number has its own step length, which grows by a factor of 1.5 while that sign stays the same, and
    halves when it changes. Source: Riedmiller and Braun 1993, "A direct adaptive method for faster backpropagation
    learning" (Rprop), section III, https://doi.org/10.1109/ICNN.1993.298623. The factors in the paper are 1.2 and 0.5.

    Args:
        model: A compiled `keras.Model` with one output. It is left unchanged.
        sample: Batches of the training data; up to 512 examples of them are used.
        head: The output, with its loss and the layers that end it.
        output: The model's output for one batch, `(batch, ..., units)`.
        held_out: Batches of the validation data, for the loss of the same prediction there; or None.

    Returns:
        dict with "baseline" and, with `held_out`, "baseline_validation", both without penalties. Empty where the range
        of the last layer is not known, where the search does not settle, or where the loss of an example depends on its
        batch.
    """
    last = next((entry for entry in head.chain if not passes_on(entry)), None)
    if last is None or last["layer_class"] not in WITH_KERNEL or last["activation"] not in _ACTIVATIONS:
        return {}
    labels = labels_of(head, sample.batches[0][1], 0)
    units = output.shape[-1] if output.ndim > 1 else 0
    if (
        not isinstance(labels, np.ndarray)
        or labels.dtype.kind not in "biuf"
        or not 0 < units <= _MOST_OUTPUTS
    ):
        return {}
    rows = max(32, min(512, _MOST_NUMBERS // max(1, math.prod(output.shape[1:]))))
    activation = keras.activations.get(last["activation"])

    def cost(data: Any, answer: Any, part: slice = slice(None)) -> Any:
        x, y = keras.tree.map_structure(lambda leaf: leaf[part], data)
        answer = ops.convert_to_tensor(answer, "float32")
        guess = ops.broadcast_to(activation(answer[None])[0], (len(y), *output.shape[1:]))
        return model.compute_loss(x=x, y=ops.convert_to_tensor(y), y_pred=guess)

    data = _first(sample, rows)
    with untouched(model):
        penalty = float(sum(float(keras.ops.sum(loss)) for loss in model.losses))
        starts, size = _starts(data[1], units, last["activation"]), _size(data[1], last["activation"])
        found = _search(functools.partial(cost, data), starts, size)
        if found is None:
            return {}
        answer, loss = found
        fourth, count = -(-len(data[1]) // 4), len(data[1])
        parts = [slice(start, min(start + fourth, count)) for start in range(0, count, fourth)]
        alone = [float(cost(data, answer, part)) for part in parts]
        together = float(np.average(alone, weights=[part.stop - part.start for part in parts]))
        if abs(together - loss) > 1e-3 * max(abs(loss), 1e-3):
            return {}
        known = {"baseline": loss - penalty}
        if held_out is not None and held_out.labeled:
            with contextlib.suppress(Exception):  # validation labels may have another form
                known["baseline_validation"] = float(cost(_first(held_out, rows), answer)) - penalty
    return known


def _first(sample: Sample, rows: int) -> tuple[Any, np.ndarray]:
    """Inputs and labels of the first `rows` examples, as arrays."""
    taken, count = [], 0
    for batch in sample.batches:
        taken.append((batch[0], keras.tree.flatten(batch[1])[0]))
        count += len(taken[-1][1])
        if count >= rows:
            break
    joined = keras.tree.map_structure(lambda *leaves: np.concatenate(leaves)[:rows], *taken)
    return joined[0], joined[1].astype("float32") if joined[1].dtype.kind == "f" else joined[1]


def _starts(labels: np.ndarray, units: int, activation: str) -> list[np.ndarray]:
    """Starting points: 0 and, where the last layer is linear, the mean of the labels in all units or in one."""
    starts = [np.zeros(units)]
    flat = labels.reshape(-1, labels.shape[-1]) if labels.ndim > 1 else labels.reshape(-1, 1)
    if activation != "linear" or flat.shape[1] not in (1, units):
        return starts
    mean = np.broadcast_to(flat.mean(axis=0), (units,)).astype("float64")
    starts.append(mean)
    if units <= 6 and flat.shape[1] == 1:
        starts += [np.where(np.arange(units) == unit, mean, 0.0) for unit in range(units)]
    return starts


def _size(labels: np.ndarray, activation: str) -> float:
    """Length of the first step: a tenth of the labels' standard deviation, or 0.1 if the activation is not linear."""
    spread = float(np.std(labels)) if activation == "linear" else 1.0
    return 0.1 * spread if spread > 0 else 0.1


def _search(
    cost: Callable[[Any], Any], starts: list[np.ndarray], size: float
) -> tuple[np.ndarray, float] | None:
    """The prediction with the lowest loss, and that loss, from the best start; None if the search does not settle."""
    tried = [(float(cost(start)), number) for number, start in enumerate(starts)]
    tried = [one for one in tried if math.isfinite(one[0])]
    if not tried:
        return None
    answer = starts[min(tried)[1]].astype("float64")
    length, before, costs, answers = np.full_like(answer, size), np.zeros_like(answer), [], []
    for _ in range(_STEPS):
        loss, gradient = value_and_gradient(cost, answer)
        if not np.isfinite(gradient).all() or not math.isfinite(loss):
            return None
        costs.append(loss)
        answers.append(answer)
        # The numbers of one prediction may differ in scale, as a mean and the logarithm of a standard deviation do.
        turned = np.sign(gradient) * before
        length *= np.where(turned > 0, 1.5, np.where(turned < 0, 0.5, 1.0))
        before = np.where(turned < 0, 0.0, np.sign(gradient))
        answer = answer - length * np.sign(gradient)
    best = int(np.argmin(costs))
    late = min(costs[: -_STEPS // 4]) - costs[best]
    if late > 0.1 * (costs[0] - costs[best]) + 1e-3 * abs(costs[best]):
        return None
    return answers[best], costs[best]
