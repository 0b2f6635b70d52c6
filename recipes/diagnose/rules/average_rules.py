"""Rules about the moving averages of batch normalization, which validation works with."""

import numpy as np

from recipes.diagnose.finding import Finding
from recipes.diagnose.rules.curve_rules import Curves

_STAYS = 0.75  # share of their starting values that averages have at the end of a run, if they did not settle at all
_UNKNOWN = 0.99  # the momentum of keras.layers.BatchNormalization, for a model that could not be looked at


def started_with(facts: dict, record: object, steps: int | None) -> float:
    """How much of the slowest moving averages that training changes is still what they started with.

    Args:
        facts: What is known about model and data, or an empty dict.
        record: What the probes saw, or None.
        steps: Training steps so far, or None.

    Returns:
        A share in [0, 1]: the momentum to the power of the steps; 0 without batch normalization or known steps.
    """
    if steps is None and record is not None and len(record):
        steps = int(record.step[-1]) + 1
    momenta = [_UNKNOWN]
    if facts:
        # Of a pretrained network too: fine-tuned on other images, its averages have as far to go.
        momenta = [
            one["momentum"] for one in facts["layers"] if one["momentum"] is not None and one["trainable"]
        ]
    return max(momenta) ** steps if momenta and steps else 0.0


def judge_averages(curves: Curves, record: object, facts: dict) -> list[Finding]:
    """Moving averages that had too few steps to settle, seen in the validation loss.

    While the run goes on, only averages that cannot settle before its planned end are told.

    Args:
        curves: The curves of the run.
        record: What the probes saw, or None.
        facts: What is known about model and data, or an empty dict.

    Returns:
        A list with one `Finding`, or an empty list.
    """
    layers = (facts or {}).get("layers", ())
    # The averages of a pretrained network settled before this run.
    momenta = [layer for layer in layers if layer["momentum"] is not None and not layer.get("settled")]
    if not momenta or curves.validation is None or record is None or not len(record):
        return []
    known = (facts or {}).get("steps")
    steps = known or int(record.step[-1]) + 1  # up to the last probe
    worst = max(momenta, key=lambda layer: layer["momentum"])
    left = worst["momentum"] ** steps
    if curves.under_way and worst["momentum"] ** (steps / curves.epochs * curves.planned) < _STAYS:
        return []
    far = curves.validation[-1] - curves.loss[-1] > 0.5 * abs(curves.loss[-1])
    gap = far and curves.loss[-1] < curves.first - 0.2 * abs(curves.first)
    broken = not np.isfinite(curves.validation[-1])
    if left < 0.3 or not (gap or broken or (left > 0.9 and (worst["momentum"] > 0.999 or not curves.held))):
        return []
    remedy = "Take smaller batches or more epochs, for more steps"
    if worst["momentum"] > 0.9:
        remedy = "Use keras.layers.BatchNormalization(momentum=0.9)"
    return [
        Finding(
            "batch_norm_statistics",
            "info" if 0 < curves.validation[-1] < 0.1 * curves.first else "warning",
            worst["name"],
            curves.last,
            f"After {'' if known else 'at least '}{steps} steps at momentum {worst['momentum']:g} the averages of "
            f"{worst['name']} are still {left:.0%} their starting values; the loss is {curves.loss[-1]:.4g} in "
            f"training and {curves.validation[-1]:.4g} in validation, which works with those averages.",
            f"{remedy}, or call recipes.ensemble.refresh_batch_norm(model, train).",
        )
    ]
