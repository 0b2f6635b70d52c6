"""A learning rate that is gone while most of the run is still to come, as the probes read it."""

from typing import Any

import numpy as np

from recipes.diagnose.finding import Finding
from recipes.diagnose.rules.curve_rules import Curves, slope
from recipes.diagnose.rules.words import share

GONE = 1e-3  # of the largest rate: steps that much shorter change nothing that one would see
_EARLY = 0.3  # of all steps
_FEWEST_EPOCHS = 3  # with the rate gone, to see that nothing comes any more


def judge_schedule(record: Any, curves: Curves) -> list[Finding]:
    """A schedule that has spent itself: often one of epochs that is counted in steps.

    The history tells rates only where a callback sets them, and one an epoch; the probes read what each step used.

    Args:
        record: A `recipes.probe.Record`, or None.
        curves: Of the same run, with the steps so far and the epochs planned.
    """
    if record is None or not len(record) or not curves.steps or not curves.epochs:
        return []
    known = np.isfinite(record.learning_rate)
    rates, steps, epochs = record.learning_rate[known], record.step[known], record.epoch[known]
    if len(rates) < 5 or rates.max() <= 0 or not np.isfinite(curves.loss).all():
        return []
    used = np.flatnonzero(rates >= GONE * rates.max())
    if used[-1] + 1 >= len(rates):
        return []
    gone = used[-1] + 1
    total = curves.steps / curves.epochs * max(curves.planned or 0, curves.epochs)
    after = curves.loss[int(epochs[gone]) :]
    still = abs(slope(after)) * len(after) < 0.05 * abs(float(np.median(after)))
    if steps[gone] > _EARLY * total or len(after) < _FEWEST_EPOCHS or not still:
        return []
    return [
        Finding(
            "decayed_too_early",
            "info" if curves.strong else "warning",
            None,
            int(epochs[gone]) + 1,
            f"By step {int(steps[gone])} of {total:.0f} the learning rate is {rates[gone]:.2g}, "
            f"{share(float(rates[gone] / rates.max()))} of the {rates.max():.2g} it had, and it does not come back. "
            f"The training loss stands at {after[-1]:.4g} since: the rest of the run changes nothing.",
            "Count the schedule in steps, decay_steps=epochs * steps_per_epoch, or use "
            "recipes.callbacks.WarmupDecay(decay='cosine'), which ends with the run.",
        )
    ]
