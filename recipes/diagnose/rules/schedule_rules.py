"""A learning rate that is almost 0 while most of the run is still to come."""

from typing import Any

import numpy as np

from recipes.diagnose.finding import Finding
from recipes.diagnose.rules.curve_rules import Curves, slope
from recipes.diagnose.rules.remedies import lower_rate, usual_rate
from recipes.diagnose.rules.words import share, times

GONE = 1e-3  # of the largest rate; steps that much shorter change nothing visible
_EARLY = 0.3  # of all steps
_FAR = 100  # times the usual rate
_FEWEST_EPOCHS = 3  # epochs without progress after the rate is gone


def judge_schedule(record: Any, curves: Curves, facts: dict | None = None) -> list[Finding]:
    """A schedule that ends too early, often because its length is in epochs but it counts steps.

    The history holds learning rates only where a callback sets them, one per epoch. The rate of each step comes from
    the planned schedule, or else from the probes.

    Args:
        record: A `recipes.probe.Record`, or None.
        curves: The curves of the same run, with the steps so far and the number of planned epochs.
        facts: dict whose "optimizer" may hold "planned_rates", which are used in place of the record.

    Returns:
        A list with one `Finding`, or an empty list.
    """
    if not curves.steps or not curves.epochs:
        return []
    rates, steps, epochs = _rates_by_step(record, curves, facts)
    if len(rates) < 5 or rates.max() <= 0 or not np.isfinite(curves.loss).all():
        return []
    used = np.flatnonzero(rates >= GONE * rates.max())
    if used[-1] + 1 >= len(rates):
        return []
    gone = used[-1] + 1
    total = curves.steps / curves.epochs * max(curves.planned or 0, curves.epochs)
    step = _step_when_gone(rates, steps, gone)
    before = _steps_before(curves)
    epoch = int(epochs[gone]) if step == steps[gone] else int(step * curves.epochs / curves.steps)
    after = curves.loss[epoch:]
    still = abs(slope(after)) * len(after) < 0.05 * abs(float(np.median(after)))
    if step > _EARLY * total or len(after) < _FEWEST_EPOCHS or not still:
        return []
    return [
        Finding(
            "decayed_too_early",
            "info" if curves.strong else "warning",
            None,
            curves.number(epoch),
            f"By step {step + before} of {total + before:.0f} the learning rate was less than {share(GONE)} of the "
            f"{rates.max():.2g} it had; at step {int(steps[-1]) + before} it is {rates[-1]:.2g}. "
            f"The training loss stands at {after[-1]:.4g} since: the rest of the run changes nothing.",
            "Count the schedule in steps, decay_steps=epochs * steps_per_epoch, or use "
            "recipes.callbacks.WarmupDecay(decay='cosine'), which ends with the run.",
        )
    ]


def _rates_by_step(record, curves, facts):
    """The learning rates so far as `(rates, steps, epochs)`, from the planned schedule or else from the probes.

    Steps and epochs are counted from where the curves begin.
    """
    planned = np.array(((facts or {}).get("optimizer") or {}).get("planned_rates") or np.zeros((0, 2)))
    steps = planned[:, 0].astype(int) - _steps_before(curves)
    within = (steps >= 0) & (steps <= curves.steps)
    planned, steps = planned[within], steps[within]
    if len(planned):
        return planned[:, 1], steps, np.minimum(steps * curves.epochs // curves.steps, curves.epochs - 1)
    if record is None or not len(record):
        return np.zeros((3, 0))
    known = np.isfinite(record.learning_rate) & (record.epoch >= curves.earlier)
    steps, epochs = record.step[known] - _steps_before(curves), record.epoch[known] - curves.earlier
    return record.learning_rate[known], steps, epochs


def _steps_before(curves):
    """Steps of the epochs before the curves begin, if they were as long."""
    return curves.earlier * curves.steps // curves.epochs


def _step_when_gone(rates, steps, gone):
    """The step at which the rate was gone: that of the probe which shows it, or an earlier one by interpolation.

    Probes may be far apart. If the rate fell by the same factor per step in the two intervals up to that probe, it is
    assumed to have fallen so within the last interval as well.
    """
    if gone < 2 or rates[gone] <= 0:
        return int(steps[gone])
    logs, at = np.log(rates[gone - 2 : gone + 1]), steps[gone - 2 : gone + 1].astype("float64")
    before, since = -np.diff(logs) / np.diff(at)
    if before <= 0 or not 0.8 < since / before < 1.25:
        return int(steps[gone])
    return int(np.ceil(at[1] + (logs[1] - np.log(GONE * rates.max())) / since))


def spent_while_falling(record: Any, curves: Curves) -> list[Finding]:
    """A rate that was gone in the first half of the run while the loss was still falling, however far it had fallen.

    Args:
        record: What the probes read of the rate, or None; used only where the history holds no rates.
        curves: The curves of the run.

    Returns:
        A list with one `Finding`, or an empty list.
    """
    rates, came = _rates_by_epoch(record, curves), np.append(curves.first, curves.loss)
    if rates is None or curves.epochs < 5 or not np.isfinite(came).all() or came.min() <= 0:
        return []
    planned = max(curves.planned or 0, curves.epochs)
    known = np.flatnonzero(np.isfinite(rates))
    used = known[rates[known] >= GONE * np.nanmax(rates)]
    after = known[known > used[-1]]
    full = int(known[rates[known] >= 0.3 * np.nanmax(rates)][-1])
    if (
        len(after) < 1
        or after[0] > 0.5 * planned
        or curves.epochs - after[0] < max(_FEWEST_EPOCHS, planned // 4)
    ):
        return []
    gone, last = int(after[0]), float(came[-1])
    fell, since = float(came[full] - came[full + 1]), float(came[gone] - last)
    left = last > 0.1 * curves.first and (curves.accuracy is None or curves.accuracy[-1] < 0.97)
    if not (left and fell > 0.05 * last and since < 0.2 * fell and gone > full):
        return []
    backwards = _after_each_fall(curves)
    part = share(float(rates[gone] / np.nanmax(rates)))
    why = (
        " Each time it was cut the validation loss had just fallen: a ReduceLROnPlateau that waits for it to rise."
        if backwards
        else ""
    )
    remedy = (
        "Use keras.callbacks.ReduceLROnPlateau('val_loss', mode='min'), or leave mode out."
        if backwards
        else "Count the schedule in steps, decay_steps=epochs * steps_per_epoch, or use "
        "recipes.callbacks.WarmupDecay(decay='cosine'), which ends with the run."
    )
    return [
        Finding(
            "decayed_too_early",
            "warning",
            None,
            curves.number(gone),
            f"In epoch {curves.number(full)}, the last at a high rate, the loss fell by {fell:.3g}; by epoch "
            f"{curves.number(gone)} of {planned + curves.earlier} the rate was {part} of its largest, and the loss "
            f"has come down by {max(since, 0.0):.2g} since, to {last:.4g}: the rest of the run changes nothing.{why}",
            remedy,
        )
    ]


def _rates_by_epoch(record, curves):
    """The largest rate of each epoch, NaN where it is not known; None where no rate is known at all."""
    if curves.rate is not None and np.isfinite(curves.rate).all() and curves.rate.max() > 0:
        return np.asarray(curves.rate, "float64")
    if record is None or not len(record):
        return None
    rates = np.full(curves.epochs, np.nan)
    for epoch, rate in zip(record.epoch - curves.earlier, record.learning_rate, strict=True):
        if np.isfinite(rate) and 0 <= epoch < curves.epochs:
            rates[int(epoch)] = np.nanmax([rates[int(epoch)], rate])
    return rates if np.isfinite(rates).any() and np.nanmax(rates) > 0 else None


def _after_each_fall(curves):
    """Whether each cut of the rate followed an epoch with the lowest validation loss so far, as it never should."""
    if curves.rate is None or curves.validation is None:
        return False
    cuts = np.flatnonzero(curves.rate[1:] < 0.7 * curves.rate[:-1]) + 1
    best = [curves.validation[cut - 1] < curves.validation[: cut - 1].min() for cut in cuts[:4] if cut > 1]
    return len(best) >= 2 and all(best)


def stopped_early(curves: Curves, planned: int | None) -> list[Finding]:
    """A run that ended while validation improved in every epoch, as by early stopping with the wrong `mode`.

    Args:
        curves: The curves of the run, which is over.
        planned: Number of epochs that the run was planned to have, or None.

    Returns:
        A list with one `Finding`, or an empty list.
    """
    validation = curves.validation
    if planned is None or not 3 <= curves.epochs < planned or validation is None or curves.strong:
        return []
    known = np.isfinite(validation).all() and np.isfinite(curves.loss).all()
    score = curves.score
    falls = known and (np.diff(validation) < 0).all() and curves.loss[-1] < curves.loss[0]
    if not falls or (score is not None and score[-1] < score[0]):
        return []
    return [
        Finding(
            "stopped_too_early",
            "warning",
            None,
            curves.last,
            f"The run ended after epoch {curves.last} of {planned + curves.earlier}, and the validation loss had "
            f"fallen in every one of them, from {validation[0]:.4g} to {validation[-1]:.4g}: it was still getting "
            "better. With restore_best_weights the weights of the epoch that was taken for the best come back.",
            "Look at the callback that ends it: keras.callbacks.EarlyStopping('val_loss', mode='min', patience=5), and "
            "mode='max' for an accuracy.",
        )
    ]


def far_from_usual(optimizer: dict, curves: Curves, record: Any) -> list[Finding]:
    """A rate at least 100 times the usual one of the optimizer, in a run that did not learn most of what there is.

    Args:
        optimizer: Facts about the optimizer.
        curves: The curves of the run.
        record: What the probes saw, for the loss of the first steps; or None.

    Returns:
        A list with one `Finding`, or an empty list.
    """
    usual, rate = usual_rate(optimizer.get("name")), optimizer.get("rate") or 0.0
    if usual is None or rate < _FAR * usual or curves.strong or curves.epochs < 2 or curves.initial is None:
        return []
    seen = np.asarray(record.loss, "float64") if record is not None and len(record) else np.zeros(0)
    highest = max(float(np.max(curves.loss)), float(np.max(seen[np.isfinite(seen)], initial=0.0)))
    if not np.isfinite(highest) or not highest > 1.5 * curves.initial > 0:
        return []
    return [
        Finding(
            "rate_too_high",
            "warning",
            None,
            None,
            f"The learning rate is {rate:.3g}, {times(rate / usual)} times the {usual:g} that is usual with "
            f"{optimizer['name']}. The loss went up to {times(highest / curves.initial)} times the "
            f"{curves.initial:.4g} of always giving the same answer; after {curves.length} it is "
            f"{curves.loss[-1]:.4g}.",
            lower_rate(rate, optimizer),
        )
    ]
