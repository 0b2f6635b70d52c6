"""The curves of a run, and what they say of how well it learned."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recipes.common.validation import as_numbers
from recipes.diagnose.rules.history import loss_name

ACCURACIES = (
    "accuracy",
    "acc",
    "sparse_categorical_accuracy",
    "categorical_accuracy",
    "binary_accuracy",
)


ERRORS = (
    "mean_absolute_error",
    "mae",
    "mean_squared_error",
    "mse",
    "root_mean_squared_error",
)


def is_score(name: str) -> bool:
    """Whether a metric is one that is the better the larger, between 0 and 1: "val_auc_1", "val_F1_score"."""
    plain = name.removeprefix("val_")
    return plain in ACCURACIES or any(
        word in name.lower() for word in ("auc", "f1", "iou", "top_k", "r2_score")
    )


def slope(values: np.ndarray | list[float]) -> float:
    """Median of the slopes between all pairs of points (Theil-Sen), per epoch; 0 for fewer than two.

    Args:
        values: `(epochs,)`.
    """
    values = np.asarray(values, "float64")
    if len(values) < 2:
        return 0.0
    first, second = np.triu_indices(len(values), 1)
    return float(np.median((values[second] - values[first]) / (second - first)))


def values_of(history: object) -> dict[str, np.ndarray]:
    """The curves of a history as arrays of one length.

    Raises:
        ValueError: when there is no "loss", or the lists differ in length.
        TypeError: for values that are no numbers.
    """
    history = getattr(history, "history", history)
    known = isinstance(history, dict) and "loss" in history
    series = {
        name: as_numbers("read_curves", f"the history's {name!r}", values)
        for name, values in (history.items() if known else ())
    }
    if not known or not series["loss"].size:
        received = sorted(map(str, history)) if isinstance(history, dict) else type(history).__name__
        raise ValueError(
            f"read_curves expects a history with 'loss', one value per epoch. Received {received}. "
            "Give run.history, or what model.fit(...) returned."
        )
    lengths = {name: values.shape for name, values in series.items()}
    if any(shape != lengths["loss"] or len(shape) != 1 for shape in lengths.values()):
        raise ValueError(
            f"read_curves expects lists of one length. Received shapes {lengths}. Give one value per epoch."
        )
    # Beyond what float32 holds, as training has it, is infinity.
    largest = np.finfo("float32").max
    return {
        name: np.where(np.abs(values) > largest, np.copysign(np.inf, values), values)
        for name, values in series.items()
    }


def curves_in(history: object) -> dict | None:
    """The curves with the loss under the name "loss", or None where none of them is known to be the loss."""
    history = getattr(history, "history", history)
    name = loss_name(history) if isinstance(history, Mapping) else "loss"
    if name is None:
        return None
    if name != "loss":
        history = {**history, "loss": history[name]}
        if f"val_{name}" in history:
            history["val_loss"] = history[f"val_{name}"]
    return values_of(history)


@dataclass(frozen=True)
class HeldOut:
    """What is known of the validation data; None what is not.

    Attributes:
        examples: How many were seen.
        rarest: How many of them are of the rarest class.
        initial: Loss on them of the answer that knows nothing, penalties included.
        accuracy: Of the trained model on them, where it was looked up because the logs tell none.
    """

    examples: int | None = None
    rarest: int | None = None
    initial: float | None = None
    accuracy: float | None = None


class Curves:
    """Loss, accuracy and rate of a run, one value per epoch.

    Args:
        values: As `values_of` gives them.
        initial: Loss of knowing nothing, penalties included, or None where it is not known.
        chance: Accuracy of always answering the most frequent class, or None.
        began: Loss of the first steps, where it was seen, or None.
        floor: Loss of knowing nothing, penalties left out, or None.
        steps: Training steps so far, or None.
        planned: Epochs that the run is to have, or None.
        below_zero: Whether the loss can fall below 0; None where that is not known.
        minimized: Whether "loss" is known to be what the steps bring down: not under a training step of the user's own.
        examples: Training examples, or None where not known.
        kinds: Number of different whole labels under a loss of the user's own, or None.
        held_out: What is known of the validation data.
    """

    def __init__(
        self,
        values: Mapping[str, np.ndarray],
        initial: float | None = None,
        chance: float | None = None,
        *,
        began: float | None = None,
        floor: float | None = None,
        steps: int | None = None,
        planned: int | None = None,
        below_zero: bool | None = None,
        minimized: bool = True,
        examples: int | None = None,
        kinds: int | None = None,
        held_out: HeldOut | None = None,
    ) -> None:
        self.held_out = held_out or HeldOut()
        self.loss = values["loss"]
        self.validation = values.get("val_loss")
        name = next((name for name in ACCURACIES if name in values), None)
        self.accuracy = values.get(name)
        self.validation_accuracy = values.get(f"val_{name}")
        score = next((name for name in values if name.startswith("val_") and is_score(name)), None)
        self.errors = {name: values[name] for name in ERRORS if name in values}
        self.validation_score = values[score] if self.validation_accuracy is None and score else None
        self.rate = values.get("learning_rate", values.get("lr"))
        self.initial = initial if initial is not None and np.isfinite(initial) else None
        self.chance = chance
        self.steps, self.planned = steps, planned
        self.below_zero, self.minimized = below_zero, minimized
        self.examples, self.kinds = examples, kinds
        self.floor = floor if floor is not None and np.isfinite(floor) else None
        starts = [
            value for value in (float(self.loss[0]), began) if value is not None and not np.isnan(value)
        ]
        self.came_from = max(starts, default=float("nan"))
        self.epochs = len(self.loss)
        self.first = max(starts + [self.initial] * (self.initial is not None), default=float("nan"))
        if self.initial is None and began is not None and began > 0:
            # Without a floor a first epoch of wild steps would make all that follows look learned.
            self.first = float(began)

    @property
    def tail(self) -> slice:
        """The last epochs, from which it is said where the run has got to."""
        return slice(self.epochs - min(3, self.epochs), None)

    @property
    def over(self) -> bool:
        """Whether the run has had what it was to have."""
        return self.planned is not None and self.epochs >= self.planned

    @cached_property
    def fair_chance(self) -> bool:
        """Whether so many steps were made that a run that learns would show it."""
        if self.epochs >= 5:
            return self.steps is None or self.steps >= 60
        if self.steps is None:
            return self.epochs >= 3
        return self.steps >= 100 and (self.epochs >= 3 or self.steps >= 1000)

    @cached_property
    def falling(self) -> bool:
        """Whether the loss comes down in most epochs, by a thousandth of where it began or a hundredth of itself."""
        if self.epochs < 2 or not np.isfinite(self.loss).all():
            return False
        last = self.loss[-max(3, self.epochs // 2) :]
        level = abs(float(np.median(last)))
        enough = (
            min(1e-3 * max(abs(self.first), level), 1e-2 * level) if self.loss.min() > 0 else 1e-3 * level
        )
        return bool(np.mean(np.diff(last) < 0) >= 0.6 and -slope(last) > max(enough, 1e-15))

    @property
    def unit(self) -> float | None:
        """What a gain over knowing nothing is measured by, or None where that is not known.

        The loss of knowing nothing itself; of one at or below 0, as of a likelihood, its size, and 1 at most.
        """
        if self.initial is None or self.initial == 0:
            return None
        return self.initial if self.initial > 0 else min(1.0, -self.initial)

    def _below_nothing(self, loss: float, share: float, *, validation: bool = False) -> bool:
        """Whether a loss lies under that of knowing nothing by a share of the unit, which has to be known.

        Of validation, under what knowing nothing costs there, which in few examples may be something else.
        """
        there = self.held_out.initial if validation else None
        return bool((self.initial if there is None else there) - loss > share * self.unit)

    def _came_down(self, loss: float, share: float, below: float) -> bool:
        """Whether a loss of the user's own, of which it is not known how low it can get, came down far enough.

        That is to a share of where it began, and under knowing nothing by `below` of the unit.
        """
        known = self.below_zero is True and self.first > 0
        down = known and self.unit is not None and loss < share * self.first
        return bool(down and self._below_nothing(loss, below))

    @cached_property
    def learned(self) -> bool:
        """Whether the last epochs are clearly better than knowing nothing."""
        if not np.isfinite(self.loss[self.tail]).any():
            return False
        if self.above_chance(0.3):
            return True
        if not self.loss.any():
            return False  # a loss of exactly 0 from the start on: nothing is asked
        lowest = float(np.nanmin(self.loss[self.tail]))
        if self.unit is not None:
            return self._below_nothing(lowest, 0.3) or self._came_down(lowest, 0.7, 0.15)
        if self.first > 0:
            return lowest < 0.7 * self.first
        return False

    def above_chance(self, share: float) -> bool:
        """Whether accuracy has come so far, a `share` in [0, 1], on the way from chance to 1; False where not known."""
        if self.accuracy is None or self.chance is None or self.chance >= 0.95:
            return False
        return bool(self.accuracy[self.tail].max() > self.chance + share * (1 - self.chance))

    @cached_property
    def better_than_nothing(self) -> bool:
        """Whether something was learned, however little the data may have to tell: also in validation."""
        if self.learned:
            return True
        if not np.isfinite(self.loss).all():
            return False
        lowest = float(self.loss[self.tail].min())
        if self.unit is not None:
            held_out = self.loss if self.validation is None else self.validation
            share = 0.03 if self.validation is not None else 0.05
            of_it = self.validation is not None
            reached = held_out[self.tail][np.isfinite(held_out[self.tail])]
            below = self._below_nothing(float(reached.min(initial=np.inf)), share, validation=of_it)
            # A lucky start is below as well: it also has to have come down.
            if below and self.came_from - lowest > 0.02 * self.unit:
                return True
        accuracy = self.validation_accuracy if self.validation_accuracy is not None else self.accuracy
        if accuracy is not None and self.chance is not None and self.chance < 0.95:
            noise = 4 * np.sqrt(self.chance * (1 - self.chance) / max(self.examples or 200, 1))
            if accuracy[self.tail].max() > self.chance + max(noise, 0.05 * (1 - self.chance)):
                return True
        if self.initial is None and self.first > 0:
            return bool(lowest < 0.95 * self.first)
        if self.unit is None:
            # A loss that may lie below zero has no floor to be compared with: a clear fall is all there is to see.
            noise = float(np.median(np.abs(np.diff(self.loss)))) if self.epochs > 2 else 0.0
            fall = self.first - lowest
            return bool(self.epochs >= 3 and fall > max(3 * noise, 0.02 * abs(self.first)))
        return False

    @property
    def score(self) -> np.ndarray | None:
        """Accuracy in validation, or another score that is the better the larger, one value per epoch."""
        return self.validation_score if self.validation_accuracy is None else self.validation_accuracy

    def score_error(self, value: float) -> float:
        """Standard error of a score in [0, 1], by the examples it is taken over; 0 where they are not known."""
        known = self.held_out
        count = known.examples if self.validation_accuracy is not None else known.rarest
        value = min(max(value, 0.05), 0.95)
        return float(np.sqrt(value * (1 - value) / count)) if count else 0.0

    @cached_property
    def validated_well(self) -> bool | None:
        """Whether validation stands more than half of the way from chance to 1; None where no accuracy is known."""
        if self.chance is None or self.chance >= 0.95:
            return None
        reached = self.held_out.accuracy
        if self.validation_accuracy is not None:
            reached = float(np.mean(self.validation_accuracy[self.tail]))
        return None if reached is None else reached > self.chance + 0.5 * (1 - self.chance)

    @cached_property
    def strong(self) -> bool:
        """Whether most of what there is to learn was learned: most of the way from chance to 1, half of the loss."""
        if not np.isfinite(self.loss[self.tail]).all() or not self.loss.any():
            return False
        if self.accuracy is not None and self.chance is not None and self.chance < 0.95:
            return self.above_chance(0.6)
        lowest = float(self.loss[self.tail].min())
        floor = self.floor if self.floor is not None else self.initial
        if floor is not None and floor > 0:
            return lowest < 0.5 * floor or self._came_down(lowest, 0.5, 0.25)
        if self.unit is not None:
            return self._below_nothing(lowest, 0.5) or self._came_down(lowest, 0.5, 0.25)
        if self.first > 0:
            return lowest < 0.5 * self.first
        return self.better_than_nothing

    @cached_property
    def settled(self) -> bool:
        """Whether the last epochs changed little, in training and in validation."""
        if not np.isfinite(self.loss).all():
            return False
        lowest = float(self.loss.min())
        gained = max(self.first - lowest, 1e-12)
        if self.epochs < 4:  # too few to tell by their slope: settled is what has little left to lose
            return lowest < 0.3 * self.first if self.first > 0 else False
        last = self.loss[-max(3, self.epochs // 3) :]
        low = lowest >= 0 and float(np.median(last)) < 0.05 * self.first
        still = abs(slope(last)) * len(last) < 0.1 * gained
        return bool((low or still) and self._validation_settled)

    @property
    def got_there(self) -> bool:
        """Whether a run, however late it began to learn, has learned most of what there is, in validation too."""
        known = self.initial is not None or self.chance is not None
        return bool(known and self.strong and self.held)

    @property
    def _validation_settled(self):
        if self.validation is None:
            return True
        last = float(np.median(self.validation[self.tail]))
        gained = max(self.first - float(self.validation.min()), 1e-12)
        return last - float(self.validation.min()) < 0.1 * gained

    @cached_property
    def held(self) -> bool:
        """Whether validation, where there is one, is better than knowing nothing as well."""
        if self.validation is None:
            return True
        last = self.validation[self.tail]
        if not np.isfinite(last).all():
            return False
        accuracy = self.validation_accuracy
        if accuracy is not None and self.chance is not None and self.chance < 0.95:
            if not accuracy[self.tail].max() > self.chance + 0.15 * (1 - self.chance):
                return False
            # Sure of wrong answers: accuracy hides it, the loss does not.
            return self.initial is None or self.initial <= 0 or bool(np.median(last) < 1.5 * self.initial)
        if self.unit is not None:
            return self._below_nothing(float(last.min()), 0.05, validation=True)
        if self.epochs >= 5 and last.min() > self.validation[0]:
            return False  # worse than after the first epoch
        # Without a floor: validation does not lie far from training, measured by what training has gained.
        gained = self.first - float(self.loss[self.tail].min())
        return bool(last.min() - self.loss[self.tail].min() < max(gained, 0.3 * abs(self.loss[-1])))

    @cached_property
    def memorized(self) -> bool:
        """Whether nothing that training gained was ever seen in validation."""
        validation = self.validation
        if validation is None or self.held or not np.isfinite(validation).any():
            return False
        lowest = float(np.nanmin(validation))
        if lowest > 0.95 * validation[0] > 0:
            return True
        return self.unit is not None and not self._below_nothing(lowest, 0.05, validation=True)

    @cached_property
    def well(self) -> bool:
        """Whether the run learned well: clearly better than knowing nothing, in validation too, and settled."""
        return self.strong and self.held and self.settled
