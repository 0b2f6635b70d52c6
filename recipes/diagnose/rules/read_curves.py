"""Read the curves of a training run as the lectures teach it."""

import math

import numpy as np

from recipes.common.validation import as_numbers
from recipes.diagnose.finding import Finding, arrange

_ACCURACIES = (
    "accuracy",
    "acc",
    "sparse_categorical_accuracy",
    "categorical_accuracy",
    "binary_accuracy",
)


def read_curves(history, *, initial=None, chance=None):
    """Say what the curves of loss, accuracy and learning rate show.

    Every rule looks at trends over several epochs (Theil-Sen slopes, medians), never at two points; a run of
    fewer epochs than a rule needs is not judged by it: 2 for divergence, 3 for not learning, 5 or 6 for the
    others. What to look for follows the lecture notes of Stanford's CS231n, "Neural Networks Part 3", section
    "Babysitting the learning process", https://cs231n.github.io/neural-networks-3/#baby.

    Args:
        history: dict of lists, one value an epoch, with "loss" and, if there are, "val_loss", an accuracy and
            "learning_rate"; or the `History` that `fit` returns.
        initial: Loss of knowing nothing (log C for C classes), where it is known.
        chance: Accuracy of always answering the most frequent class, where it is known.

    Returns:
        A list of `Finding`, roots first. Codes: diverged, bouncing, not_learning, rate_too_low, still_falling,
        plateau_then_drop, underfitting, overfitting, train_validation_mismatch, decayed_too_early, noisy.

    Raises:
        ValueError: when there is no "loss", or the lists differ in length.
    """
    return arrange(curve_findings(history, initial=initial, chance=chance))


def curve_findings(history, *, initial=None, chance=None):
    """As `read_curves`, not arranged."""
    curves = _Curves(_values(history), initial, chance)
    rules = (_diverged, _not_learning, _bouncing, _falling, _plateau, _gap, _underfitting, _decayed, _noisy)
    broken = _diverged(curves)
    if broken:
        return broken
    return [finding for rule in rules[1:] for finding in rule(curves)]


def slope(values):
    """Median of the slopes between all pairs of points (Theil-Sen), per epoch."""
    values = np.asarray(values, "float64")
    if len(values) < 2:
        return 0.0
    first, second = np.triu_indices(len(values), 1)
    return float(np.median((values[second] - values[first]) / (second - first)))


def _values(history):
    history = getattr(history, "history", history)
    known = isinstance(history, dict) and "loss" in history
    series = {
        name: as_numbers("read_curves", f"the history's {name!r}", values)
        for name, values in (history.items() if known else ())
    }
    if not known or not series["loss"].size:
        received = sorted(map(str, history)) if isinstance(history, dict) else type(history).__name__
        raise ValueError(
            f"read_curves expects a history with 'loss', one value an epoch. Received {received}. "
            "Give run.history, or what model.fit(...) returned."
        )
    lengths = {name: values.shape for name, values in series.items()}
    if any(shape != lengths["loss"] or len(shape) != 1 for shape in lengths.values()):
        raise ValueError(
            f"read_curves expects lists of one length. Received shapes {lengths}. Give one value an epoch."
        )
    # Beyond what float32 holds, as training has it, is infinity.
    largest = np.finfo("float32").max
    return {
        name: np.where(np.abs(values) > largest, np.copysign(np.inf, values), values)
        for name, values in series.items()
    }


class _Curves:
    def __init__(self, values, initial, chance):
        self.loss = values["loss"]
        self.validation = values.get("val_loss")
        name = next((name for name in _ACCURACIES if name in values), None)
        self.accuracy = values.get(name)
        self.validation_accuracy = values.get(f"val_{name}")
        self.rate = values.get("learning_rate", values.get("lr"))
        self.initial = initial
        self.chance = chance
        self.epochs = len(self.loss)
        self.first = max(initial, self.loss[0]) if initial is not None else self.loss[0]

    @property
    def learned(self):
        """Whether, in the last epochs, the loss is under 7/10 of knowing nothing or the accuracy well above chance."""
        "chance."
        if self.accuracy is not None and self.chance is not None and self.chance < 0.95:
            better = self.accuracy[-min(3, self.epochs) :].max()
            if better > self.chance + 0.3 * (1 - self.chance):
                return True
        start = self.initial if self.initial is not None else self.loss[0]
        return bool(self.loss[-min(3, self.epochs) :].min() < 0.7 * start) if start > 0 else False


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
            epoch + 1,
            f"The training loss is {loss[epoch]} in epoch {epoch + 1}{before}.",
            "Lower the learning rate tenfold, warm it up, or clip gradients (clipnorm=1.0); check inputs "
            "for NaN.",
        )
    lowest = loss.min()
    tail = np.median(loss[-min(3, curves.epochs) :])
    start = curves.initial if curves.initial is not None else loss[0]
    if curves.epochs >= 2 and tail > 3 * max(lowest, start) and slope(loss) > 0:
        return _found(
            "diverged",
            "error",
            int(np.argmin(loss)) + 2,
            f"The training loss rises from {lowest:.4g} to {tail:.4g}.",
            "Lower the learning rate tenfold, or warm it up.",
        )
    if (
        curves.initial is not None
        and curves.initial > 0
        and lowest > 3 * curves.initial
        and not curves.learned
    ):
        return _found(
            "diverged",
            "error",
            1,
            f"The training loss never is under {lowest:.4g}, {lowest / curves.initial:.3g} times that of "
            "knowing nothing.",
            "Lower the learning rate tenfold; check the scale of inputs and initial weights.",
        )
    return []


def _not_learning(curves):
    if curves.learned or curves.epochs < 2:
        return []
    start = curves.initial
    if start is None:
        flat = curves.epochs >= 3 and curves.loss[0] - curves.loss.min() < 0.02 * abs(curves.loss[0])
        unsure = curves.accuracy is not None and curves.accuracy[-1] > 0.6
        start = curves.loss[0] if flat and not unsure else None
    if start is None or curves.loss[-1] < 0.9 * start:
        return []
    return _found(
        "not_learning",
        "warning",
        None,
        f"After {curves.epochs} epochs the training loss is {curves.loss[-1]:.4g}; knowing nothing costs "
        f"{start:.4g}.",
        "Run recipes.diagnose.preflight(model, data), look whether labels belong to their inputs, and try rates 10 "
        "and 100 times higher and lower.",
    )


def _bouncing(curves):
    loss = curves.loss
    if curves.epochs < 5:
        return []
    steps = np.diff(loss[1:])
    travel, net = np.abs(steps).sum(), abs(loss[-1] - loss[1])
    turns = np.mean(np.sign(steps[1:]) != np.sign(steps[:-1])) if len(steps) > 1 else 0
    size = np.median(np.abs(steps)) / max(np.median(loss), 1e-12)
    if turns >= 0.5 and size > 0.1 and net < 0.3 * travel and not curves.loss[-1] < 0.2 * curves.first:
        return _found(
            "bouncing",
            "warning",
            None,
            f"The training loss goes up and down by {size:.0%} from epoch to epoch and gets nowhere.",
            "Lower the learning rate three- to tenfold, or use larger batches.",
        )
    return []


def _falling(curves):
    loss = curves.loss
    if curves.epochs < 5 or loss[0] <= 0:
        return []
    last = loss[-max(3, curves.epochs // 3) :]
    fall = -slope(last) / max(abs(np.median(last)), 1e-12)
    total = (loss[0] - loss[-1]) / abs(loss[0])
    straight = np.corrcoef(np.arange(curves.epochs), loss)[0, 1] < -0.98 if np.ptp(loss) > 0 else False
    early, late = -slope(loss[: curves.epochs // 2 + 1]), -slope(loss[curves.epochs // 2 :])
    if straight and 0.002 < total < 0.25 and late > 0.6 * early > 0 and not curves.learned:
        return _found(
            "rate_too_low",
            "warning",
            None,
            f"The training loss falls along a straight line, by {total:.1%} in {curves.epochs} epochs, and "
            "goes on falling.",
            "Try a learning rate 10 times higher; recipes.diagnose.learning_rate_range_test(model, "
            "data).plot().",
        )
    if fall > 0.03:
        return _found(
            "still_falling",
            "info",
            None,
            f"The training loss still falls by {fall:.0%} an epoch at the end.",
            "Train longer.",
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
            "warning" if flat >= max(4, 0.3 * curves.epochs) else "info",
            flat + 1,
            f"The training loss stays at {loss[0]:.4g} for {flat} epochs and then drops to {loss[-1]:.4g}.",
            "Start better: he_normal for relu, recipes.initialize.lsuv, batch normalization, or warm-up.",
        )
    return []


def _gap(curves):
    loss, validation = curves.loss, curves.validation
    if validation is None or curves.epochs < 3:
        return []
    if not np.isfinite(validation).all():
        epoch = int(np.argmax(~np.isfinite(validation)))
        return _found(
            "train_validation_mismatch",
            "warning",
            epoch + 1,
            f"The validation loss is {validation[epoch]} while the training loss is {loss[epoch]:.4g}.",
            "Check the validation data for NaN, and the averages of batch normalization.",
        )
    best = int(np.argmin(validation))
    started = curves.first
    if (
        loss[-1] < 0.5 * started
        and validation.min() > 0.8 * started
        and validation.min() > 3 * loss[best:].min()
    ):
        return _found(
            "train_validation_mismatch",
            "warning",
            None,
            f"The training loss falls to {loss[-1]:.4g}, the validation loss is never under "
            f"{validation.min():.4g}.",
            "Check that both are preprocessed alike and labeled alike, and that batch normalization has "
            "good averages "
            "(momentum=0.9 for short runs).",
        )
    rise = np.median(validation[-min(3, curves.epochs) :]) / max(validation[best], 1e-12)
    after = curves.epochs - 1 - best
    if (
        curves.epochs >= 5
        and after >= 3
        and rise > 1.15
        and slope(validation[best:]) > 0
        and loss[-1] < 0.9 * loss[best]
    ):
        accuracy = curves.validation_accuracy
        worse = accuracy is None or accuracy[-3:].mean() <= accuracy[: best + 1].max() + 0.005
        return _found(
            "overfitting",
            "warning" if worse and (rise > 1.25 or loss[-1] < 0.2 * validation[-1]) else "info",
            best + 2,
            f"The validation loss rises from {validation[best]:.4g} (epoch {best + 1}) to "
            f"{validation[-1]:.4g} while the "
            f"training loss falls from {loss[best]:.4g} to {loss[-1]:.4g}.",
            "Stop at the best epoch (early_stopping=5), augment, add weight decay or dropout, or get more "
            "data.",
        )
    return []


def _underfitting(curves):
    loss, validation = curves.loss, curves.validation
    if curves.epochs < 6 or validation is None or curves.initial is None or curves.initial <= 0:
        return []
    last = max(3, curves.epochs // 3)
    still = abs(slope(loss[-last:])) < 0.01 * abs(np.median(loss[-last:]))
    close = abs(np.median(validation[-last:]) - np.median(loss[-last:])) < 0.15 * np.median(loss[-last:])
    share = np.median(loss[-last:]) / curves.initial
    if still and close and 0.4 < share < 0.9:
        return _found(
            "underfitting",
            "warning",
            None,
            f"Training and validation loss have both settled at {np.median(loss[-last:]):.4g}, {share:.0%} "
            "of knowing "
            "nothing.",
            "Use a larger model, less regularization, or a higher learning rate.",
        )
    return []


def _decayed(curves):
    loss, rate = curves.loss, curves.rate
    if rate is None or curves.epochs < 5 or not np.isfinite(rate).all() or rate.max() <= 0:
        return []
    low = rate < 0.1 * rate.max()
    peak = int(np.argmax(rate))
    drop = next((i for i in range(peak + 1, curves.epochs) if low[i:].all()), None)
    if drop is None or drop > 0.4 * curves.epochs or drop < 1:
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
            drop + 1,
            f"The rate fell below a tenth of its peak in epoch {drop + 1} of {curves.epochs}. Until then "
            "the loss fell by "
            f"{per_epoch_before:.3g} an epoch, since then by {max(per_epoch_after, 0):.2g}.",
            "Decay later, or smoothly over the whole run: recipes.callbacks.WarmupDecay(decay='cosine').",
        )
    return []


def _noisy(curves):
    loss = curves.loss
    if curves.epochs < 6:
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
            f"The training loss falls, but jumps by {noise:.0%} from epoch to epoch.",
            "Use larger batches, or a lower learning rate towards the end.",
        )
    return []
