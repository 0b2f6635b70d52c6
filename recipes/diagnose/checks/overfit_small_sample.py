"""Overfit a few minibatches: a model that cannot do that cannot learn more."""

import time
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from recipes.common.validation import is_number, is_whole
from recipes.diagnose.checks.model_copy import NoLossError, Trial, why_not_tried
from recipes.diagnose.checks.output_task import task_of
from recipes.diagnose.checks.sample import built, read_sample
from recipes.diagnose.checks.verdict import Check
from recipes.diagnose.finding import Finding

_FEWEST_STEPS = 30  # that show whether a loss falls
_SAID = {"crept": "not yet learned", "stuck": "not learned", "unknown": "have nothing to learn"}


@dataclass(frozen=True, kw_only=True)
class OverfitSmallSample(Check):
    """Outcome of `overfit_small_sample`.

    Attributes:
        losses: float32 `(steps,)`, loss of each step's own batch.
        accuracies: float32 `(steps,)`, in [0, 1], or None for a regression or a loss of the reader's own.
        outcome: "learned", "crept", "stuck", "exploded", or "unknown" for a training step that tells no loss, and for a
            loss that is 0 from the start.
        seconds_per_step: Wall-clock time of a step.
    """

    losses: np.ndarray
    accuracies: np.ndarray | None
    outcome: str
    seconds_per_step: float

    @property
    def came_down(self) -> bool:
        """Whether the loss fell at the rate that was used: to nothing, or by half of its size and more."""
        if self.outcome == "learned":
            return True
        known = self.losses[np.isfinite(self.losses)]
        if self.outcome != "crept" or len(known) < _FEWEST_STEPS:
            return False
        few = max(1, len(known) // 10)
        first, last = float(np.mean(known[:few])), float(np.mean(known[-few:]))
        return first - last > 0.5 * max(abs(first), 1e-12)


def overfit_small_sample(
    model: keras.Model,
    data: Any,
    *,
    batches: int = 2,
    batch_size: int = 16,
    steps: int = 300,
    learning_rate: float | None = None,
    seconds: float = 30.0,
    trial: Trial | None = None,
) -> OverfitSmallSample:
    """Train on a few minibatches, without regularization, until they are overfitted.

    Uses a copy of the model's own optimizer at a constant rate, and leaves out penalties, weight decay and
    dropout. Learned means an accuracy of 100 % over all the batches, for a regression a loss below a
    hundredth of the first. Source: the lecture notes of Stanford's CS231n, "Neural Networks Part 3", section "Before
    learning: sanity checks Tips/Tricks", https://cs231n.github.io/neural-networks-3/#sanitycheck

    Args:
        model: A compiled `keras.Model`. Left as it was, bit for bit.
        data: `tf.data.Dataset` or arrays, as in `initial_loss`.
        batches: Minibatches to learn.
        batch_size: Examples each.
        steps: Most training steps.
        learning_rate: None takes the optimizer's own; the largest one of a schedule.
        seconds: Time to stop after.
        trial: A `recipes.diagnose.trial.Trial` in use, to share its trace; None makes one.

    Returns:
        An `OverfitSmallSample`. "stuck": the loss is about where it began; "exploded": it went up or is not
        finite; "crept": it falls, but did not get there in the steps or the time given.
    """
    rate = 1.0 if learning_rate is None else learning_rate
    if not is_whole(steps) or not 1 <= steps <= 10**6 or not is_number(rate) or rate <= 0:
        raise ValueError(
            "overfit_small_sample expects steps to be a whole number from 1 to a million, and learning_rate above 0. "
            f"Received steps={steps!r} and learning_rate={learning_rate!r}. Leave them out for the defaults."
        )
    task = task_of(model)
    sample = read_sample(data, model, batch_size=batch_size, batches=batches, name="data")
    built(model, sample)
    if why_not_tried(model):
        return _not_tried(why_not_tried(model))
    try:
        if trial is not None:
            trial.rewind()
            return _learn(trial, sample, task, steps, learning_rate, seconds)
        with Trial(model, regularized=False) as trial:
            return _learn(trial, sample, task, steps, learning_rate, seconds)
    except NoLossError as error:
        return _not_tried(str(error))


def _not_tried(why):
    """A check that says why it says nothing."""
    return OverfitSmallSample(
        name="overfit_small_sample",
        result=f"not tried: {why}",
        findings=[],
        losses=np.zeros(0, "float32"),
        accuracies=None,
        outcome="unknown",
        seconds_per_step=0.0,
    )


def _learn(trial, sample, task, steps, learning_rate, seconds):
    losses, accuracies, count = [], [], len(sample.batches)
    outcome = None
    # A round at rate 0: what each batch costs before anything is learned, and the compilation.
    # Twice the first, so that a sample of one batch shows what compiling took as well.
    trial.step(sample.batches[0], 0.0)
    trial.rewind()
    first = float(np.mean([trial.step(batch, 0.0)[0] for batch in sample.batches]))
    trial.rewind()
    start = time.monotonic()
    for step in range(steps):
        batch = sample.batches[step % count]
        loss, outputs = trial.step(batch, learning_rate)
        losses.append(loss)
        accuracies.append(_accuracy(task, batch[1], outputs))
        outcome = _finished(losses, accuracies, count, first)
        if outcome or (time.monotonic() - start > seconds and step + 1 >= _least(seconds)):
            break
    losses = np.asarray(losses, "float32")
    accuracies = None if accuracies[0] is None else np.asarray(accuracies, "float32")
    outcome = outcome or _unfinished(losses, count, first)
    if outcome == "stuck" and len(losses) < min(steps, _FEWEST_STEPS):
        outcome = "crept"  # the time was over before anything could be learned
    last = float(np.mean(losses[-count:]))
    reached = f", accuracy {np.mean(accuracies[-count:]):.0%}" if accuracies is not None else ""
    examples = sum(len(batch[1]) for batch in sample.batches if hasattr(batch[1], "__len__"))
    return OverfitSmallSample(
        name="overfit_small_sample",
        result=f"{examples} examples {_SAID.get(outcome, outcome)}: loss {first:.4g} -> {last:.3g}{reached} "
        f"in {len(losses)} steps",
        findings=_judge(
            outcome,
            losses,
            accuracies,
            first,
            last,
            trial.learning_rate if learning_rate is None else learning_rate,
        ),
        losses=losses,
        accuracies=accuracies,
        outcome=outcome,
        seconds_per_step=(time.monotonic() - start) / len(losses),
    )


def _least(seconds):
    """Steps that are taken however long they are, where there is any time to speak of: fewer show nothing."""
    return _FEWEST_STEPS if seconds >= 0.5 else 1


def _finished(losses, accuracies, count, first):
    if not np.isfinite(losses[-1]):
        return "exploded"
    if len(losses) < count + 1:
        return None
    if accuracies[0] is not None:
        return "learned" if min(accuracies[-count:]) >= 1 else None
    # Of a loss that lies at or below zero a hundredth says nothing.
    return "learned" if first > 0 and 0 <= np.mean(losses[-count:]) < 0.01 * first else None


def _unfinished(losses, count, first):
    if abs(first) < 1e-12:
        return "unknown"  # nothing to learn: a share of it says nothing
    rounds = max(1, len(losses) // 5 // count)
    last = np.mean(losses[-rounds * count :])
    size = max(abs(first), 1e-12)
    if last > first + 0.5 * size:
        return "exploded"
    return "stuck" if last > first - 0.05 * size else "crept"


def _accuracy(task, labels, outputs):
    """Share of right answers in [0, 1], or None where there are none to count."""
    if outputs is None or not task.classification or not isinstance(outputs, np.ndarray):
        return None
    if isinstance(labels, dict) or (isinstance(labels, (list, tuple)) and len(labels) != 1):
        return None
    labels = np.asarray(keras.tree.flatten(labels)[0])
    several = labels.ndim > 1 and labels.shape[-1] > 1
    if outputs.ndim > 2 or (several and labels.ndim > 2):
        return _accuracy_of_positions(task, labels, outputs)
    if outputs.ndim == 2 and outputs.shape[1] > 1 and task.kind != "binary":
        wanted = labels.argmax(-1) if labels.ndim == 2 and labels.shape[1] > 1 else labels.reshape(-1)
        return float(np.mean(outputs.argmax(-1) == wanted))
    if outputs.size != labels.size:
        return None
    threshold = 0.0 if task.from_logits or task.kind == "margins" else 0.5
    return float(
        np.mean((outputs > threshold).reshape(labels.shape) == (labels > (0 if labels.min() < 0 else 0.5)))
    )


def _accuracy_of_positions(task, labels, outputs):
    """As `_accuracy`, of answers at every step or pixel."""
    if task.kind == "categorical" and outputs.shape[-1] > 1:
        dense = labels.shape == outputs.shape
        wanted = labels.argmax(-1) if dense else labels.reshape(outputs.shape[:-1])
        return float(np.mean(outputs.argmax(-1) == wanted))
    if outputs.shape != labels.shape:
        return None
    return float(np.mean((outputs > (0.0 if task.from_logits else 0.5)) == (labels > 0.5)))


def _judge(outcome, losses, accuracies, first, last, rate):
    if not np.isfinite(first):
        return [
            Finding(
                "nan_source",
                "error",
                None,
                0,
                f"The loss of a few batches is {first} before any step: no learning rate mends that.",
                "Look for NaN in the data, and for log, sqrt and divisions in the model and its loss; "
                "recipes.diagnose.activation_statistics(model, data) names the layer.",
            )
        ]
    numbers = f"went from {first:.4g} to {last:.4g} in {len(losses)} steps at rate {rate:.3g}"

    def found(severity, evidence, remedy):
        return [Finding("overfit_small_sample", severity, None, 0, evidence, remedy)]

    if outcome == "stuck":
        return found(
            "error",
            f"The loss of a few batches {numbers}: a model that cannot overfit them cannot learn more.",
            "Check labels, loss and last activation against each other; then try a rate 10 and 100 times higher, "
            "and recipes.diagnose.activation_statistics for gradients that vanish.",
        )
    if outcome == "exploded":
        return found(
            "error",
            f"The loss of a few batches {numbers}: each step makes them worse.",
            f"Try learning_rate={rate / 10:.2g} and less.",
        )
    slow = last > first - 0.5 * abs(first)
    if outcome == "crept" and slow and len(losses) < _FEWEST_STEPS:
        return found(
            "info",
            f"The loss of a few batches {numbers}, which are too few to judge.",
            "Give the check more steps and seconds.",
        )
    if outcome == "crept" and slow:
        return found(
            "info",
            f"The loss of a few batches {numbers}: it falls, but slowly.",
            f"Try learning_rate={rate * 10:.2g}, or give the check more steps and seconds.",
        )
    # A first loss far above chance falls to chance without anything learned.
    right = 1.0 if accuracies is None else float(np.mean(accuracies[-5:]))
    if outcome == "crept" and right < 0.5:
        return found(
            "info",
            f"The loss of a few batches {numbers}, but only {right:.0%} of the answers are right.",
            f"See to the first loss, then try learning_rate={rate / 10:.2g}.",
        )
    return []
