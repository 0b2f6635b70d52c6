"""Rules about the gap between training and validation loss: different preprocessing, or overfitting."""

import numpy as np

from recipes.diagnose.finding import Finding
from recipes.diagnose.rules.curve_rules import Curves, slope

_UNSETTLED = 0.3  # share of their starting values that averages of batch normalization still have
_FEW_STEPS = 100  # in which weights move faster than averages of them follow, at any momentum


def judge_gap(curves: Curves) -> list[Finding]:
    """A validation loss that does not follow the training loss, or that rises again while the training loss falls.

    Args:
        curves: The curves of the run.

    Returns:
        A list with one `Finding`, or an empty list.
    """
    loss, validation = curves.loss, curves.validation
    if validation is None or curves.epochs < 3:
        return []
    if not np.isfinite(validation).all():
        epoch = int(np.argmax(~np.isfinite(validation)))
        return _found(
            "train_validation_mismatch",
            "warning",
            curves.number(epoch),
            f"The validation loss is {validation[epoch]} while the training loss is {loss[epoch]:.4g}.",
            "Check the validation data for NaN, and the averages of batch normalization.",
        )
    if curves.under_way and _too_early(curves):
        return []
    best = int(np.argmin(validation))
    started, positive = curves.first, min(loss.min(), validation.min()) > 0
    apart = (
        positive
        and loss[-1] < 0.5 * started
        and validation.min() > 0.8 * started
        and validation.min() > 3 * loss[best:].min()
    )
    if apart and not (curves.validated_well or (curves.under_way and _follows(curves))):
        return _found(
            "train_validation_mismatch",
            "warning",
            None,
            f"The training loss falls from {started:.4g} to {loss[-1]:.4g}, the validation loss is never under "
            f"{validation.min():.4g} (epoch {curves.number(best)}){_in_answers(curves)}: what is learned from the "
            "training examples hardly helps with those of validation.",
            "Check that both are preprocessed alike and labeled alike, and that batch normalization has "
            "good averages (momentum=0.9 for short runs).",
        )
    last = float(np.median(validation[curves.tail]))
    # Relative to the gain of validation at its best, which works for losses below zero too.
    gained = max(
        float(max(validation[0], curves.first if positive else validation[0])) - validation[best], 1e-12
    )
    rise = last / max(validation[best], 1e-12) if positive else 1 + (last - validation[best]) / gained
    after = curves.epochs - 1 - best
    if (
        curves.epochs >= 5
        and after >= 3
        and rise > 1.15
        and slope(validation[best:]) > 0
        and loss[-1] < loss[best] - 0.1 * abs(loss[best])
        and loss[-1] < validation[-1]  # what is worse on the training examples does not know them by heart
    ):
        return _found(
            "overfitting",
            _how_serious(curves, best, rise),
            curves.number(best + 1),
            f"The validation loss rises from {validation[best]:.4g} (epoch {curves.number(best)}) to "
            f"{validation[-1]:.4g} while the training loss falls from {loss[best]:.4g} to {loss[-1]:.4g}: what it "
            "learns since then holds for its training examples alone.",
            "Stop at the best epoch (early_stopping=5), augment, add weight decay or dropout, or get more "
            "data.",
        )
    return []


def _too_early(curves):
    """Whether validation works with averages that may not be there yet, as after few steps at a high rate."""
    return curves.started_with > _UNSETTLED or (curves.steps is not None and curves.steps < _FEW_STEPS)


def _follows(curves):
    """Whether validation still gets better, or has answered clearly more than guessing does."""
    accuracy, chance = curves.validation_accuracy, curves.chance
    if accuracy is not None and chance is not None and chance < 0.95:
        lucky = max(2 * curves.score_error(chance), 0.05 * (1 - chance))
        if accuracy.max() > chance + lucky:
            return True
    now, before = curves.validation[-1], curves.validation[:-1].min()
    return bool(now < before or now < 0.7 * curves.validation[-2])


def _in_answers(curves):
    """The accuracy of the last epoch, which the log shows beside the loss; "" where none is known."""
    if curves.accuracy is None or curves.validation_accuracy is None:
        return ""
    return (
        f"; in epoch {curves.last}, {curves.accuracy[-1]:.0%} of the answers are right in training and "
        f"{curves.validation_accuracy[-1]:.0%} in validation"
    )


def _how_serious(curves, best, rise):
    """The severity of overfitting: "warning" where validation really gets worse, "info" where it may not."""
    score, validation = curves.score, curves.validation
    last = float(np.median(validation[curves.tail]))
    # A validation loss that jumps by as much from epoch to epoch shows no trend.
    noise = float(np.median(np.abs(np.diff(validation, 2)))) / 2
    if last - float(validation[best]) < 4 * noise:
        return "info"
    if score is not None:
        smooth = np.convolve(score, np.ones(3) / 3, "valid") if len(score) >= 3 else score
        now = float(score[-3:].mean())
        if now > smooth[: max(best, 1)].max() + 0.005:
            return "info"
        # The best of several epochs is partly luck, and the score may recover while the run goes on.
        errors = 2 if curves.planned is None or curves.over else 3
        fallen = smooth.max() - now > max(0.02, errors * curves.score_error(now))
        poor = curves.validated_well is False and _by_heart(curves)
        return "warning" if rise > 1.25 and (fallen or poor or not curves.held) else "info"
    if curves.validated_well:
        return "info"
    # Judged by the loss alone: even the best of the last epochs lost a tenth of what validation had gained.
    last = float(validation[best + 1 :][-max(5, curves.epochs // 4) :].min())
    known = [value for value in (curves.held_out.initial, curves.initial, curves.first) if value is not None]
    start = max([float(validation[0]), *known[:1]])
    lost = (last - validation[best]) / max(start - validation[best], 1e-12)
    return "warning" if rise > 1.25 and lost > 0.1 else "info"


def _by_heart(curves):
    """Whether training accuracy is nearly perfect, and validation accuracy far behind."""
    if curves.accuracy is None or curves.validation_accuracy is None:
        return False
    trained, held_out = curves.accuracy[curves.tail].mean(), curves.validation_accuracy[curves.tail].mean()
    return bool(trained > 0.95 and trained - held_out > 0.2)


def _found(code, severity, epoch, evidence, remedy):
    return [Finding(code, severity, None, epoch, evidence, remedy)]
