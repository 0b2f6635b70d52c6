"""What the curves show about a loss that is computed in a custom training step."""

import numpy as np

from recipes.diagnose.finding import Finding
from recipes.diagnose.rules.curve_rules import Curves, slope
from recipes.diagnose.rules.remedies import kind_of_targets

_NEAR = 0.06  # share of the variance of the targets
_FEWEST_STEPS = 100


def stretched(facts: dict, curves: Curves) -> list[Finding]:
    """Targets `(n,)` beside outputs `(n, 1)`, in a run whose loss stays at the variance of the targets.

    The difference of the two is broadcast to n x n numbers, for which the best answer is the mean of the targets.
    Keras' own losses bring both to one shape; a difference that is written out does not.

    Args:
        facts: dict, as from `recipes.diagnose.rules.run_facts.describe`.
        curves: The curves of the run.

    Returns:
        A list with one `Finding`, or an empty list.
    """
    data, task = (facts or {}).get("data", {}).get("train", {}), (facts or {}).get("task", {})
    outputs = (facts or {}).get("outputs") or []
    shapes = data.get("labels_shape") == [] and len(outputs) == 1 and outputs[0]["shape"] == [1]
    if not shapes or task.get("kind") != "unknown" or kind_of_targets(data) != "quantities":
        return []
    loss, variance = curves.loss, data.get("target_variance", 0.0)
    if curves.epochs < 3 or (curves.steps or _FEWEST_STEPS) < _FEWEST_STEPS or not np.isfinite(loss).all():
        return []
    last = float(np.median(loss[curves.tail]))
    still = abs(slope(loss[curves.epochs // 3 :])) * curves.epochs < _NEAR * max(abs(last), 1e-12)
    if not (variance > 0 and still and abs(last - variance) < _NEAR * variance):
        return []
    return [
        Finding(
            "label_count",
            "warning",
            None,
            None,
            f"The model gives (n, 1) numbers for a batch, its targets are (n,), and the loss stands at {last:.4g}, the "
            f"variance of the targets ({variance:.4g}): y - model(x) of these shapes is a table of n times n "
            "differences, of which only the mean of the targets can be met.",
            "Give both one shape: y = y[:, None] in the training step, or keras.ops.squeeze(model(x), -1).",
        )
    ]
