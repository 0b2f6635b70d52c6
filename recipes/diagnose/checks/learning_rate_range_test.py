"""learning_rate_range_test: train a few steps with rising learning rates, from far too low to far too high."""

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from recipes.common.validation import is_number, is_whole
from recipes.diagnose.checks.model_copy import NoLossError, Trial, why_not_tried
from recipes.diagnose.checks.output_task import task_of
from recipes.diagnose.checks.sample import built, read_sample
from recipes.diagnose.checks.verdict import Check
from recipes.diagnose.finding import Finding
from recipes.diagnose.rules.words import typed

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class RangeTest(Check):
    """Outcome of `learning_rate_range_test`.

    Attributes:
        rates: float32 `(steps,)`, the learning rate of each step.
        losses: float32 `(steps,)`, loss of the batch of each step, corrected for the difficulty of the batch.
        smoothed: float32 `(steps,)`, `losses` smoothed by an exponential moving average.
        steepest: Rate at which the smoothed loss falls fastest per decade, or None where it falls at no rate.
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
        """The lower of `steepest` and `below_minimum`, > 0; None where the loss fell at no rate."""
        return None if self.steepest is None else min(self.steepest, self.below_minimum)

    @property
    def works(self) -> tuple[float, float] | None:
        """`(lowest, highest)` rate between which the loss falls; None where it falls at no rate.

        The lowest is where a tenth of the whole fall is reached, or `suggestion`, if that is lower; the highest is
        where the smoothed loss is smallest, beyond which it rises.
        """
        return _range_of(self.rates, self.smoothed, self.suggestion)

    @property
    def agree(self) -> bool:
        """Whether `steepest` and `below_minimum` lie within a factor of 10; False where there are none."""
        return self.steepest is not None and 0.1 <= self.steepest / self.below_minimum <= 10

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
    """Raise the learning rate at every step, and find where the loss falls fastest and where it rises.

    Source: Smith 2017, "Cyclical learning rates for training neural networks", section 3.3,
    https://arxiv.org/abs/1506.01186. Unlike in the paper, the rate grows by a constant factor, so that seven decades
    fit into 100 steps.

    The same few batches are used again and again. The first round has rates too low to change the model, and shows how
    difficult each batch is; later losses are corrected for this. Each loss is that of the batch of its step, not a
    running mean; the losses are then smoothed by an exponential moving average. The test stops once the loss has risen
    far.

    Args:
        model: A compiled `keras.Model`. Weights and optimizer are not changed: they are restored bit for bit.
        data: `tf.data.Dataset` or arrays, as in `initial_loss`.
        lowest: Learning rate of the first step, > 0.
        highest: Learning rate of the last step, above `lowest`.
        steps: Number of training steps, 10 to a million.
        batches: Number of different batches that are used in turn.
        batch_size: Examples per batch; the batches of a batched data set are cut or joined to this size.
        smoothing: Weight of the past in the exponential moving average, in [0, 1).
        seconds: The test stops after this time, in seconds; findings are then about the rates that were tried.
        trial: A `recipes.diagnose.checks.model_copy.Trial` in use, whose compiled step is shared; None makes a new one.

    Returns:
        A `RangeTest`; `.plot()` draws it. It has a "rate_too_high" finding when the optimizer's own rate is more than
        ten times the rate with the smallest loss and the loss rises there. It has a "rate_too_low" finding when the own
        rate is less than a thousandth of the suggestion.

    Raises:
        ValueError: when the model is not compiled, the data is empty, or rates, `steps` or `smoothing` are out of
            range.
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
    """A result without losses, with the reason why there are none."""
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
    """The losses minus the difficulty of their batch, which is its deviation from the mean loss of the first round."""
    losses = np.asarray(losses)
    if len(losses) <= count:
        return losses
    difficulty = losses[:count] - np.mean(losses[:count])
    return losses - np.resize(difficulty, len(losses))


def _far_up(losses, first):
    """Whether the loss has risen by three times its first value, or by three standard deviations of the first round."""
    size = max(abs(np.mean(first)), np.std(first), 1e-6)
    return np.mean(losses[-3:]) - np.mean(first) > 3 * size


def smooth(values: np.ndarray | list[float], weight: float) -> np.ndarray:
    """Exponential moving average with bias correction (Kingma & Ba 2015, section 3).

    Args:
        values: Numbers `(n,)`.
        weight: Weight of the earlier values, in [0, 1).

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
    test = RangeTest(
        name="learning_rate_range_test",
        result="",
        findings=findings,
        rates=rates.astype("float32"),
        losses=losses.astype("float32"),
        smoothed=smoothed.astype("float32"),
        steepest=steepest,
        below_minimum=below,
    )
    return replace(test, result=_told(test, own_rate))


def _told(test, own):
    """The rates that work, where the optimizer's own lies among them, and which one to take."""
    first, last = test.rates[[0, -1]]
    if last < own and np.isfinite(test.smoothed).all() and (test.works is None or test.works[1] >= last):
        return (
            f"the time was up at a rate of {last:.2g}, below yours of {own:.2g}: no rate can be recommended"
        )
    if test.works is None:
        return (
            f"the loss falls clearly at no rate from {first:.1g} to {last:.1g} in {len(test.rates)} steps: no rate can "
            f"be recommended; yours is {own:.2g}"
        )
    low, high = test.works
    take = f"learning_rate={typed(test.suggestion)}"
    if test.findings:  # its remedy names the rate to take
        advice = "far above that" if own > high else "far below that"
    elif own > high:
        advice = (
            f"a little above that, fine with the warm-up of recipes.train; should the loss jump, try {take}"
        )
    elif own < low:
        advice = f"below that, so it learns slowly; {take} is faster"
    else:
        advice = "within that: keep it"
    doubt = "" if test.agree else f" (no clear best among them: it falls fastest at {test.steepest:.2g})"
    tried = ", the highest that was tried" if high >= last else ""
    return f"the loss falls at rates from {low:.2g} to {high:.2g}{tried}; yours is {own:.2g}, {advice}{doubt}"


def _range_of(rates, smoothed, suggestion):
    if suggestion is None:
        return None
    lowest = int(np.nanargmin(smoothed))
    start = float(np.median(smoothed[: len(rates) // 4]))
    above = np.flatnonzero(smoothed[:lowest] > start - 0.1 * (start - smoothed[lowest]))
    begins = float(rates[int(above[-1]) + 1 if len(above) else 0])
    return min(begins, suggestion), float(rates[lowest])


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
    """Whether the loss is higher than at the start, at about the rate `own` or already at a lower rate."""
    good = np.isfinite(smoothed)
    start = np.median(smoothed[: max(1, len(rates) // 4)])
    near = good & (rates > own / 3) & (rates < 3 * own)
    if near.any():
        return bool(np.median(smoothed[near]) > start)
    gone = not good.all() or smoothed[-1] > start  # the test stopped at a lower rate, as the loss had risen
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
            f"Try learning_rate={typed(suggestion)}, with warm-up for more.",
        )
    if own < suggestion / 1000:
        return found(
            "rate_too_low",
            "warning",
            f"In a short trial the loss falls fastest at a rate of {steepest:.2g}; the optimizer's is {own:.2g}, "
            "at which it hardly moves.",
            f"Try learning_rate={typed(suggestion)}.",
        )
    return []
