"""Try every learning rate once, from far too low to far too high."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from recipes.common.validation import is_number, is_whole
from recipes.diagnose.checks.model_copy import NoLossError, Trial, why_not_tried
from recipes.diagnose.checks.output_task import task_of
from recipes.diagnose.checks.sample import built, read_sample
from recipes.diagnose.checks.verdict import Check
from recipes.diagnose.finding import Finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class RangeTest(Check):
    """Outcome of `learning_rate_range_test`.

    Attributes:
        rates: float32 `(steps,)`, the learning rate of each step.
        losses: float32 `(steps,)`, loss of each step's own batch, its difficulty taken out.
        smoothed: float32 `(steps,)`, the same, smoothed.
        steepest: Rate at which the smoothed loss falls fastest per decade, or None when it never falls.
        below_minimum: A tenth of the rate with the smallest smoothed loss, or None.
        suggestion: The smaller of the two, a rate to start from, or None.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    steepest: float | None
    below_minimum: float | None

    @property
    def suggestion(self) -> float | None:
        """The lower of both suggestions, > 0; None where no rate let the loss fall."""
        return None if self.steepest is None else min(self.steepest, self.below_minimum)

    def plot(self) -> "Figure":
        """Draw loss against rate with both suggestions, as a `matplotlib.figure.Figure`."""
        from recipes import plot  # noqa: PLC0415 - brings matplotlib

        return plot.learning_rate_range_test(self)


def learning_rate_range_test(
    model: keras.Model,
    data: Any,
    *,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 100,
    batches: int = 8,
    batch_size: int = 64,
    smoothing: float = 0.7,
    seconds: float = 60.0,
    trial: Trial | None = None,
) -> RangeTest:
    """Raise the rate at every step, and see where the loss falls fastest and where it goes up.

    Source: Smith 2017, "Cyclical learning rates for training neural networks", section 3.3,
    https://arxiv.org/abs/1506.01186. Unlike the paper the rate grows by a constant factor, so that seven decades
    fit in 100 steps. A few batches are gone through again and again: each one's own difficulty, known from the first
    round at rates too low to matter, is taken out. The loss is that of each step's own batch, not a running mean,
    and smoothed by an exponential mean. Stops once it has gone far up.

    Args:
        model: A compiled `keras.Model`. Weights and optimizer are left as they were, bit for bit.
        data: `tf.data.Dataset` or arrays, as in `initial_loss`.
        lowest: First learning rate.
        highest: Last learning rate.
        steps: Training steps.
        batches: Different batches among them.
        batch_size: Examples a batch; a batched data set's batches are cut to it.
        smoothing: Weight of the past in the exponential mean, in [0, 1).
        seconds: Time to stop after; the findings then speak of the rates that were tried.
        trial: A `recipes.diagnose.trial.Trial` in use, to share its trace; None makes one.

    Returns:
        A `RangeTest`; `.plot()` draws it. A finding when the optimizer's own rate is 10 times over the minimum
        or 1000 times below the suggestion.

    Raises:
        ValueError: when the range or the number of steps makes no sense.
    """
    known = all(is_number(value) for value in (lowest, highest, smoothing, seconds)) and is_whole(steps)
    if not known or not 0 < lowest < highest or not 10 <= steps <= 10**6 or not 0 <= smoothing < 1:
        raise ValueError(
            "learning_rate_range_test expects 0 < lowest < highest, 10 to a million steps and smoothing in [0, 1). "
            f"Received lowest={lowest}, highest={highest}, steps={steps}, smoothing={smoothing}. The defaults suit "
            "most models."
        )
    task_of(model)
    sample = read_sample(data, model, batch_size=batch_size, batches=batches, seconds=min(2.0, seconds))
    built(model, sample)
    rates = np.geomspace(lowest, highest, steps)
    if why_not_tried(model):
        return _not_tried(why_not_tried(model))
    try:
        if trial is not None:
            trial.rewind()
            losses = _climb(trial, sample, rates, seconds)
            return _result(rates, losses, smoothing, trial.learning_rate)
        with Trial(model) as trial:
            losses = _climb(trial, sample, rates, seconds)
            return _result(rates, losses, smoothing, trial.learning_rate)
    except NoLossError as error:
        return _not_tried(str(error))


def _not_tried(why):
    """A check that says why it says nothing."""
    nothing = np.zeros(0, "float32")
    return RangeTest(
        name="learning_rate_range_test",
        result=f"not tried: {why}",
        findings=[],
        rates=nothing,
        losses=nothing,
        smoothed=nothing,
        steepest=None,
        below_minimum=None,
    )


def _climb(trial, sample, rates, seconds):
    losses, start, count = [], None, len(sample.batches)
    for step, rate in enumerate(rates):
        loss, _ = trial.step(sample.batches[step % count], rate)
        start = time.monotonic() if start is None else start  # the first step traces
        losses.append(loss)
        if not np.isfinite(loss) or time.monotonic() - start > seconds:
            break
        if step >= 2 * count and _far_up(_alike(losses, count), np.asarray(losses[:count])):
            break
    return _alike(losses, count)


def _alike(losses, count):
    """The losses with each batch's own difficulty, as of the first round, taken out."""
    losses = np.asarray(losses)
    if len(losses) <= count:
        return losses
    difficulty = losses[:count] - np.mean(losses[:count])
    return losses - np.resize(difficulty, len(losses))


def _far_up(losses, first):
    """Whether the loss has gone up by three times its size, or the batches' spread where that is more."""
    size = max(abs(np.mean(first)), np.std(first), 1e-6)
    return np.mean(losses[-3:]) - np.mean(first) > 3 * size


def smooth(values: np.ndarray | list[float], weight: float) -> np.ndarray:
    """Exponential mean with the bias of the beginning taken out (Kingma & Ba 2015, section 3).

    Args:
        values: `(n,)`.
        weight: Of what came before, in [0, 1).

    Returns:
        float64 `(n,)`.
    """
    mean, total, result = 0.0, 0.0, []
    for value in values:
        mean, total = weight * mean + (1 - weight) * value, weight * total + (1 - weight)
        result.append(mean / total)
    return np.asarray(result)


def _result(rates, losses, smoothing, own_rate):
    rates, losses = np.asarray(rates[: len(losses)]), np.asarray(losses, "float64")
    good = np.isfinite(losses)
    cut = len(losses) if good.all() else int(np.argmin(good))
    smoothed = np.full(len(losses), np.nan)
    if cut:
        smoothed[:cut] = smooth(losses[:cut], smoothing)
    steepest, below = _suggest(rates[:cut], smoothed[:cut])
    findings = _judge(steepest, below, own_rate, overshoots=_overshoots(rates, smoothed, own_rate))
    if steepest is None and rates[-1] < own_rate:
        result = f"time was up at rate {rates[-1]:.1g}"
    elif steepest is None:
        result = (
            f"the loss falls clearly at no rate from {rates[0]:.1g} to {rates[-1]:.1g} in {len(rates)} steps: none is "
            "suggested"
        )
    else:
        result = f"falls fastest at {steepest:.2g}, a decade below the minimum is {below:.2g}; yours is {own_rate:.2g}"
    return RangeTest(
        name="learning_rate_range_test",
        result=result,
        findings=findings,
        rates=rates.astype("float32"),
        losses=losses.astype("float32"),
        smoothed=smoothed.astype("float32"),
        steepest=steepest,
        below_minimum=below,
    )


def _suggest(rates, smoothed):
    if len(rates) < 10:
        return None, None
    lowest = int(np.argmin(smoothed))
    start = float(np.median(smoothed[: len(rates) // 4]))
    noise = float(np.std(smoothed[: len(rates) // 4]))
    if not lowest or start - smoothed[lowest] < max(0.02 * abs(start), 5 * noise):
        return None, None
    slope = np.gradient(smoothed[: lowest + 1], np.log10(rates[: lowest + 1]))
    return float(rates[int(np.argmin(slope))]), float(rates[lowest] / 10)


def _overshoots(rates, smoothed, own):
    """Whether the loss at about the rate `own`, or already before it, stands above where it began."""
    good = np.isfinite(smoothed)
    start = np.median(smoothed[: max(1, len(rates) // 4)])
    near = good & (rates > own / 3) & (rates < 3 * own)
    if near.any():
        return bool(np.median(smoothed[near]) > start)
    gone = not good.all() or smoothed[-1] > start  # it had to stop before it got there
    return bool(rates[-1] < own and gone)


def _judge(steepest, below, own, *, overshoots):
    def found(code, severity, evidence, remedy):
        return [Finding(code, severity, None, 0, evidence, remedy)]

    if steepest is None:
        return []
    suggestion = min(steepest, below)
    if own > 100 * below and overshoots:
        return found(
            "rate_too_high",
            "warning",
            f"In a short trial the loss is smallest at a rate of {10 * below:.2g}; the optimizer's is {own:.2g}, "
            "at which steps overshoot.",
            f"Try learning_rate={suggestion:.1g}, with warm-up for more.",
        )
    if own < suggestion / 1000:
        return found(
            "rate_too_low",
            "warning",
            f"In a short trial the loss falls fastest at a rate of {steepest:.2g}; the optimizer's is {own:.2g}, "
            "at which it hardly moves.",
            f"Try learning_rate={suggestion:.1g}.",
        )
    return []
