"""overfit_small_sample: a model that cannot overfit a few minibatches cannot learn more."""

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

_FEWEST_STEPS = 30  # with fewer, it is not clear whether a loss falls
_SAID = {"crept": "not yet learned", "stuck": "not learned", "unknown": "have nothing to learn"}


@dataclass(frozen=True, kw_only=True)
class OverfitSmallSample(Check):
    """Outcome of `overfit_small_sample`.

    Attributes:
        losses: float32 `(steps,)`, loss of the batch of each step.
        accuracies: float32 `(steps,)`, in [0, 1], or None for a regression, a custom loss or a custom training step.
        outcome: "learned", "crept" (too slow), "stuck" or "exploded"; "unknown" for a training step that returns no
            loss, and for a loss that is 0 from the start.
        seconds_per_step: Wall-clock time in seconds per step.
    """

    losses: np.ndarray
    accuracies: np.ndarray | None
    outcome: str
    seconds_per_step: float

    @property
    def came_down(self) -> bool:
        """Whether the loss fell at the rate that was used: until the batches were learned, or by more than half."""
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

    It uses a copy of the model's own optimizer at a constant learning rate, and leaves out penalties, weight decay and
    dropout. The batches are learned when the accuracy is 100 % on all of them or, for a regression, when the loss is
    below a hundredth of the first one.

    Source: the lecture notes of Stanford's CS231n, "Neural Networks Part 3", section "Before learning: sanity checks
    Tips/Tricks", https://cs231n.github.io/neural-networks-3/#sanitycheck

    Args:
        model: A compiled `keras.Model`. It is not changed: its variables are restored bit for bit.
        data: `tf.data.Dataset` or arrays, as in `initial_loss`.
        batches: Number of minibatches to learn, >= 1.
        batch_size: Examples per minibatch, >= 1.
        steps: Largest number of training steps, 1 to a million.
        learning_rate: Learning rate, > 0; None takes the optimizer's own, or the largest of its schedule.
        seconds: Training stops after this time in seconds, but not before 30 steps (for less than 0.5 s: one step).
        trial: A `recipes.diagnose.checks.model_copy.Trial` in use, whose compiled step is shared; None makes a new one.

    Returns:
        An `OverfitSmallSample`. Its outcome is "learned", or "stuck" where the loss is about as large as at the start.
        It is "exploded" where the loss has risen or is not finite, and "crept" where the loss falls, but too slowly for
        the given steps or time.

    Raises:
        ValueError: when the model is not compiled, the data is empty, or `steps` or `learning_rate` is out of range.
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
    """A result without losses, with the reason why there are none."""
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
    # One round at rate 0 gives the loss of each batch before training, and compiles the step.
    # The first batch is run twice, so that the time of compiling is known for a single batch too.
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
        outcome = "crept"  # the time was too short to learn anything
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
    """Least number of steps, whatever time they take, unless `seconds` is very short: fewer show nothing."""
    return _FEWEST_STEPS if seconds >= 0.5 else 1


def _finished(losses, accuracies, count, first):
    if not np.isfinite(losses[-1]):
        return "exploded"
    if len(losses) < count + 1:
        return None
    if accuracies[0] is not None:
        return "learned" if min(accuracies[-count:]) >= 1 else None
    # If the first loss is zero or negative, a hundredth of it is no goal.
    return "learned" if first > 0 and 0 <= np.mean(losses[-count:]) < 0.01 * first else None


def _unfinished(losses, count, first):
    if abs(first) < 1e-12:
        return "unknown"  # nothing to learn, and no share of 0 to compare with
    rounds = max(1, len(losses) // 5 // count)
    last = np.mean(losses[-rounds * count :])
    size = max(abs(first), 1e-12)
    if last > first + 0.5 * size:
        return "exploded"
    return "stuck" if last > first - 0.05 * size else "crept"


def _accuracy(task, labels, outputs):
    """Accuracy in [0, 1], or None where it is not defined, as for a regression."""
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
    """As `_accuracy`, for predictions at every time step or pixel."""
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
    # A first loss far above that of guessing may fall to it without anything being learned.
    right = 1.0 if accuracies is None else float(np.mean(accuracies[-5:]))
    if outcome == "crept" and right < 0.5:
        return found(
            "info",
            f"The loss of a few batches {numbers}, but only {right:.0%} of the answers are right.",
            f"See to the first loss, then try learning_rate={rate / 10:.2g}.",
        )
    return []
