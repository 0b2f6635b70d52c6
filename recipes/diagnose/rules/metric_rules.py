"""What the loss and a metric show together: a loss that falls while the predictions get worse."""

import numpy as np

from recipes.diagnose.finding import Finding
from recipes.diagnose.rules.curve_rules import Curves

_REMEDY = (
    "Look at the sign of your loss: it has to be the smaller the better the answer, as -log_likelihood or -reward. "
    "Check on one batch that loss(y, y) is below loss(y, 1 - y)."
)


def against_metric(curves: Curves) -> list[Finding]:
    """A loss that falls while accuracy is below guessing or an error grows, or a loss that falls ever faster.

    Args:
        curves: The curves of the run.

    Returns:
        A list with one `Finding`, or an empty list.
    """
    if curves.below_zero is False:
        return []  # a Keras loss has the right sign: here, sorted data may have spoiled accuracy
    if curves.epochs < 3 or not curves.falling or curves.above_chance(0.1):
        return []
    return _below_guessing(curves) or _error_grows(curves) or without_floor(curves)


def _below_guessing(curves):
    accuracy = curves.accuracy
    if accuracy is None or not curves.fair_chance or (curves.chance is None and curves.kinds is None):
        return []
    # Class weights may push accuracy below the share of the most frequent class, but not below half of the rarer one's.
    known = curves.chance is not None
    bound = min(curves.chance, 1 - curves.chance) / 2 if known else 0.25 / curves.kinds
    reached = float(accuracy[curves.tail].max())
    fell = accuracy[0] > 0 and accuracy[0] >= 2 * reached  # always 0: it does not fit the outputs
    if not (reached < bound and fell):
        return []
    guess = (
        f"always giving one class is right in {curves.chance:.0%}"
        if known
        else f"there are {curves.kinds} classes"
    )
    return _found(
        f"The training loss falls from {curves.first:.4g} to {curves.loss[-1]:.4g}, and accuracy from "
        f"{accuracy[0]:.1%} to {reached:.1%}, where {guess}: the loss rewards wrong answers.",
        _REMEDY,
    )


def _error_grows(curves):
    for name, values in curves.errors.items():
        last = float(np.median(values[curves.tail]))
        grown = np.isfinite(values).all() and last > 1.5 * values[0] and last > 1.5 * values.min() > 0
        if grown and np.mean(np.diff(values) > 0) >= 0.6:
            return _found(
                f"The training loss falls from {curves.loss[0]:.4g} to {curves.loss[-1]:.4g} while {name} grows from "
                f"{values[0]:.4g} to {values[-1]:.4g}: the loss rewards answers that are further off.",
                _REMEDY,
            )
    return []


def without_floor(curves: Curves) -> list[Finding]:
    """A negative loss that falls further in each third of the run than in the third before.

    Args:
        curves: The curves of the run.

    Returns:
        A list with one `Finding`, or an empty list.
    """
    loss, third = curves.loss, curves.epochs // 3
    if third < 2 or loss[-1] >= 0 or curves.below_zero is False:
        return []
    ends = [loss[0], loss[third], loss[2 * third], loss[-1]]
    falls = -np.diff(ends)
    steady = np.mean(np.diff(loss) < 0) >= 0.9
    far = -loss[-1] > 10 * max(abs(curves.loss[0]), abs(curves.initial or 0), 1.0)
    if not (steady and far and falls[0] > 0 and falls[1] > 1.3 * falls[0] and falls[2] > 1.3 * falls[1]):
        return []
    return _found(
        f"The training loss is {loss[-1]:.4g} and falls faster and faster (by {falls[0]:.3g}, {falls[1]:.3g} and "
        f"{falls[2]:.3g} in the thirds of the run): nothing keeps it from falling for ever.",
        _REMEDY,
    )


def _found(evidence, remedy):
    return [Finding("loss_turned", "error", None, None, evidence, remedy)]
