"""Find what is wrong with a training run in its curves."""

import math

import numpy as np

from recipes.diagnose.finding import Finding, arrange
from recipes.diagnose.rules.curve_rules import Curves, slope, values_of
from recipes.diagnose.rules.gap_rules import judge_gap
from recipes.diagnose.rules.metric_rules import against_metric, without_floor
from recipes.diagnose.rules.words import part_of

_ALL_RIGHT = 0.99  # training accuracy that leaves nothing to learn


def read_curves(
    history: object, *, initial: float | None = None, chance: float | None = None
) -> list[Finding]:
    """Say what the curves of loss, accuracy and learning rate show.

    Apart from NaN and impossible values, rules look at trends over several epochs (Theil-Sen slopes, medians), not at
    one point. Most rules need 3, 5 or 6 epochs, and a shorter run is not judged by them. What to look for follows the
    lecture notes of Stanford's CS231n, "Neural Networks Part 3", section "Babysitting the learning process",
    https://cs231n.github.io/neural-networks-3/#baby.

    Args:
        history: dict of lists, one value per epoch, or the `History` that `fit` returns. It must hold "loss", which may
            be negative; "val_loss", an accuracy and "learning_rate" are used if they are there.
        initial: Loss of the best constant prediction (log C for C equally frequent classes), where it is known.
        chance: Accuracy of always answering the most frequent class, in [0, 1], where it is known.

    Returns:
        A list of `Finding`, causes first. Codes: diverged, labels_out_of_range, loss_turned, bouncing, not_learning,
        rate_too_low, still_falling, plateau_then_drop, underfitting, overfitting, train_validation_mismatch,
        decayed_too_early, noisy.

    Raises:
        ValueError: when there is no "loss", or the lists differ in length.
        TypeError: for values that are not numbers.
    """
    return arrange(curve_findings(Curves(values_of(history), initial, chance)))


def curve_findings(curves: Curves) -> list[Finding]:
    """As `read_curves`, but not arranged.

    Args:
        curves: The curves of the run.

    Returns:
        A list of `Finding`.
    """
    broken = [*_diverged(curves), *_impossible(curves)]
    if broken:
        return broken
    if not curves.minimized:
        return without_floor(curves)
    if turned := against_metric(curves):
        return turned
    rules = (_not_learning, _bouncing, _falling, _plateau, judge_gap, _underfitting, _decayed, _noisy)
    return [finding for rule in rules for finding in rule(curves)]


def _found(code, severity, epoch, evidence, remedy):
    return [Finding(code, severity, None, epoch, evidence, remedy)]


def _diverged(curves):
    loss = curves.loss
    broken = np.flatnonzero(~np.isfinite(loss))
    if len(broken):
        epoch = int(broken[0])
        before = f" after {loss[epoch - 1]:.4g} in the epoch before" if epoch else ""
        return _found(
            "diverged",
            "error",
            curves.number(epoch),
            f"The training loss is {loss[epoch]} in epoch {curves.number(epoch)}{before}: from here on every "
            "weight is lost.",
            "Lower the learning rate tenfold, warm it up, or clip gradients (clipnorm=1.0); check inputs "
            "for NaN.",
        )
    if curves.epochs < 2:
        return []
    lowest, tail = float(loss.min()), float(np.median(loss[curves.tail]))
    start = curves.initial if curves.initial is not None else float(loss[0])
    if lowest > 0:
        far = tail > 3 * max(lowest, start)
    else:  # a loss that may be negative: measured by how far it fell, and by its size
        far = tail - lowest > 3 * max(abs(lowest), abs(start), float(loss[0]) - lowest)
    if far and slope(loss) > 0 and loss[-1] > np.median(loss):
        return _found(
            "diverged",
            "error",
            curves.number(np.argmin(loss) + 1),
            f"The training loss rises from {lowest:.4g} (epoch {curves.number(np.argmin(loss))}) to {tail:.4g}: each "
            "step overshoots.",
            "Lower the learning rate tenfold, or warm it up.",
        )
    stuck = curves.epochs >= 3 and not curves.falling and float(loss[-1]) > 0.9 * float(loss[0])
    high = curves.initial is not None and curves.initial > 0 and lowest > 3 * curves.initial
    if stuck and high and curves.fair_chance and not curves.learned:
        return _found(
            "not_learning",
            "error",
            curves.number(0),
            f"The training loss stays at {lowest:.4g} or more for {curves.length}, "
            f"{lowest / curves.initial:.3g} times the {curves.initial:.4g} of always giving the same "
            "answer, and does not come down.",
            "Lower the learning rate tenfold; check the scale of inputs and initial weights.",
        )
    return []


def _impossible(curves):
    """A cross-entropy below zero, which labels outside 0..1 cause."""
    if not curves.loss.min() < -1e-3 or curves.below_zero is True:
        return []
    poor = curves.accuracy is not None and curves.accuracy[curves.tail].max() < 0.9
    if curves.below_zero is None and not (poor and curves.falling):
        return []
    return _found(
        "labels_out_of_range",
        "error",
        curves.number(np.argmax(curves.loss < -1e-3)),
        f"The training loss is {curves.loss[-1]:.4g}. With labels in 0..1 a cross-entropy is never below 0, so some "
        "labels lie outside, and the loss can fall for ever while nothing is learned.",
        "Print numpy.unique(y). For binary_crossentropy the labels must be 0 and 1: y - 1 for labels 1 and 2, "
        "(y + 1) / 2 for -1 and 1.",
    )


def _not_learning(curves):
    loss = curves.loss
    if curves.epochs >= 2 and not loss.any():
        if curves.accuracy is not None and curves.accuracy[-1] > 0.9:
            return []
        return _found(
            "not_learning",
            "error" if curves.accuracy is not None else "warning",
            None,
            f"The training loss is exactly 0 in all {curves.length}, so no weight ever gets a gradient.",
            "Compare loss, last activation and labels: a softmax on one unit, labels that all round to class 0, or "
            "weights of examples that are all 0 give a loss of 0.",
        )
    if curves.better_than_nothing:
        return []
    if not curves.fair_chance:
        return _too_few(curves)
    start = curves.initial
    if start is None:
        flat = curves.epochs >= 3 and loss[0] > 0 and curves.first - loss.min() < 0.02 * curves.first
        unsure = curves.accuracy is not None and curves.accuracy[-1] > 0.6
        start = loss[0] if flat and not unsure else None
    unit = start if curves.initial is None else curves.unit
    if start is None or unit is None or start - loss[-1] > 0.05 * unit:
        return []
    if curves.falling and float(loss[-1]) < 0.9 * curves.first:
        return []  # it falls from far above: slow, but not lost
    return _found(
        "not_learning",
        "warning",
        None,
        f"After {curves.length} the training loss is {loss[-1]:.4g}; always giving the same answer "
        f"costs {start:.4g}, so the model does no better than one that ignores its inputs.",
        "Run recipes.diagnose.preflight(model, data), look whether labels belong to their inputs, and try rates 10 "
        "and 100 times higher and lower.",
    )


def _too_few(curves):
    """A run that ended after too few steps to show anything."""
    if not curves.over or curves.initial is None or not curves.steps:
        return []
    return _found(
        "not_learning",
        "info",
        None,
        f"After {curves.steps} steps the training loss is {curves.loss[-1]:.4g}; always giving the same answer "
        f"costs {curves.initial:.4g}. So few steps do not tell whether the model can learn.",
        "Train for a few hundred steps at least: more epochs, or smaller batches.",
    )


def _bouncing(curves):
    loss = curves.loss
    if curves.epochs < 5 or loss.min() <= 0:
        return []
    steps = np.diff(loss[1:])
    travel, net = np.abs(steps).sum(), abs(loss[-1] - loss[1])
    turns = np.mean(np.sign(steps[1:]) != np.sign(steps[:-1])) if len(steps) > 1 else 0
    size = np.median(np.abs(steps)) / max(np.median(loss), 1e-12)
    third = max(2, (len(loss) - 1) // 3)
    came_down = np.median(loss[-third:]) < 0.75 * np.median(loss[1 : 1 + third])
    if (
        turns >= 0.5
        and size > 0.1
        and net < 0.3 * travel
        and not (came_down or loss[-1] < 0.2 * curves.first)
    ):
        return _found(
            "bouncing",
            "warning",
            None,
            f"The training loss goes up and down by {part_of(size, 'its size')} from epoch to epoch, and after "
            f"{curves.length} it is about where it was in the second: steps are too long to settle.",
            "Lower the learning rate three- to tenfold, or use larger batches.",
        )
    return []


def _falling(curves):
    loss = curves.loss
    if curves.epochs < 5:
        return []
    last = loss[-max(3, curves.epochs // 3) :]
    gained = curves.first - float(loss.min())
    if loss[0] > 0:
        total = (loss[0] - loss[-1]) / abs(loss[0])
        straight = np.corrcoef(np.arange(curves.epochs), loss)[0, 1] < -0.98 if np.ptp(loss) > 0 else False
        early, late = -slope(loss[: curves.epochs // 2 + 1]), -slope(loss[curves.epochs // 2 :])
        # Where only training improves, the model memorizes, however straight the line.
        followed = curves.validation is None or slope(curves.validation) < 0
        if straight and followed and 0.002 < total < 0.12 and late > 0.6 * early > 0 and not curves.learned:
            return _found(
                "rate_too_low",
                "warning",
                None,
                f"The training loss falls along a straight line, by {total:.1%} in {curves.length}, and "
                "goes on falling: each step is far too short.",
                "Try a learning rate 10 times higher; recipes.diagnose.learning_rate_range_test(model, "
                "data).plot() shows how much the model bears.",
            )
    fall = min(-slope(last), float(loss[-2] - loss[-1]))  # a curve that flattens is about to stop falling
    # Where all training answers are right, a loss that falls only makes them surer.
    done = curves.accuracy is not None and curves.accuracy[-1] > _ALL_RIGHT
    # A share of the gain so far: a share of the loss itself means nothing near 0 or below.
    if gained > 0 and fall > 0.03 * gained and not done:
        return _found(
            "still_falling",
            "info",
            None,
            f"The training loss was {loss[-1]:.4g} at the end and still fell by {fall:.2g} per epoch, "
            f"{part_of(fall / gained, 'its whole fall so far')}.",
            f"Train longer: epochs={curves.earlier + 2 * curves.epochs}, for example.",
        )
    return []


def _plateau(curves):
    loss = curves.loss
    if curves.epochs < 6 or loss[0] <= 0:
        return []
    near = np.abs(loss - loss[0]) < 0.03 * loss[0]
    flat = int(np.argmin(near)) if not near.all() else curves.epochs
    if flat >= max(3, 0.2 * curves.epochs) and flat < curves.epochs and loss[-1] < 0.8 * loss[0]:
        return _found(
            "plateau_then_drop",
            "warning" if flat >= max(4, 0.3 * curves.epochs) and not curves.got_there else "info",
            curves.number(flat),
            f"The training loss stays at {loss[0]:.4g} for {flat} epochs and then drops to {loss[-1]:.4g}: those "
            "epochs bought nothing.",
            "Start better: he_normal for relu, recipes.initialize.lsuv, batch normalization, or warm-up.",
        )
    return []


def _underfitting(curves):
    loss, validation = curves.loss, curves.validation
    if curves.epochs < 6 or validation is None or curves.initial is None or curves.initial <= 0:
        return []
    last = max(3, curves.epochs // 3)
    still = abs(slope(loss[-last:])) < 0.01 * abs(np.median(loss[-last:]))
    reached, held_out = float(np.median(loss[-last:])), float(np.median(validation[-last:]))
    close = abs(held_out - reached) < 0.15 * reached
    rising = slope(validation[-last:]) > 0.02 * held_out  # as in overfitting, whose remedies are the opposite
    share = reached / curves.initial
    if still and close and not rising and 0.4 < share < 0.9:
        return _found(
            "underfitting",
            "info",  # the data may hold no more information, which curves cannot show
            None,
            f"The training loss has settled at {reached:.4g} and the validation loss at {held_out:.4g}, {share:.0%} "
            "of what always giving the same answer costs.",
            "Try a larger model, less regularization, or a higher learning rate; if none of them helps, the data "
            "may have no more to tell.",
        )
    return []


def _decayed(curves):
    loss, rate = curves.loss, curves.rate
    if rate is None or curves.epochs < 5 or not np.isfinite(rate).all() or rate.max() <= 0:
        return []
    low = rate < 0.1 * rate.max()
    peak = int(np.argmax(rate))
    drop = next((i for i in range(peak + 1, curves.epochs) if low[i:].all()), None)
    if drop is None or drop > 0.4 * curves.epochs or drop < 1 or loss.min() <= 0:
        return []
    before = curves.first - loss[drop - 1]
    per_epoch_before = before / drop
    per_epoch_after = -slope(loss[drop:])
    if (
        loss[-1] > 0.15 * curves.first
        and per_epoch_before > 0.02 * loss[drop - 1]
        and (per_epoch_after < 0.3 * per_epoch_before)
    ):
        return _found(
            "decayed_too_early",
            "warning",
            curves.number(drop),
            f"The rate fell below a tenth of its peak in epoch {curves.number(drop)} of {curves.last}. Until then "
            f"the loss fell by {per_epoch_before:.3g} per epoch, since then by {max(per_epoch_after, 0):.2g}: the rest "
            "of the run can hardly move the weights.",
            "Decay later, or smoothly over the whole run: recipes.callbacks.WarmupDecay(decay='cosine').",
        )
    return []


def _noisy(curves):
    loss = curves.loss
    if curves.epochs < 6 or loss.min() <= 0:
        return []
    bends = np.abs(loss[2:] - 2 * loss[1:-1] + loss[:-2])[1:]
    noise = np.median(bends) / 2 / max(np.median(loss), 1e-12)
    net = (loss[0] - loss[-1]) / max(loss[0], 1e-12)
    ups = np.mean(np.diff(loss) > 0)
    if noise > 0.1 and net > 0.3 and ups >= 0.3 and math.isfinite(noise) and loss[-1] > 0.02 * loss[0]:
        return _found(
            "noisy",
            "info",
            None,
            f"The training loss falls, but jumps by {part_of(noise, 'its size')} from epoch to epoch: how good the "
            "last epoch is, is luck.",
            "Use larger batches, or a lower learning rate towards the end.",
        )
    return []
