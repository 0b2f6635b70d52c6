"""The curves of a run, and what they say about how well it learned."""

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
    """Whether a metric is a score, for which larger is better, such as "val_auc_1" or "val_F1_score".

    Args:
        name: Name of the metric in the logs.
    """
    plain = name.removeprefix("val_")
    return plain in ACCURACIES or any(
        word in name.lower() for word in ("auc", "f1", "iou", "top_k", "r2_score")
    )


def slope(values: np.ndarray | list[float]) -> float:
    """Median of the slopes between all pairs of points (Theil-Sen), per epoch; 0 for fewer than two points.

    Args:
        values: `(epochs,)`.
    """
    values = np.asarray(values, "float64")
    if len(values) < 2:
        return 0.0
    first, second = np.triu_indices(len(values), 1)
    return float(np.median((values[second] - values[first]) / (second - first)))


def values_of(history: object) -> dict[str, np.ndarray]:
    """The curves of a history as float arrays of one length.

    Args:
        history: dict of lists, one value per epoch, with "loss"; or the `History` that `fit` returns.

    Returns:
        dict from each name to an array `(epochs,)`. Values beyond the range of float32 become infinity.

    Raises:
        ValueError: when there is no "loss", or the lists differ in length.
        TypeError: for values that are not numbers.
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
    # Training computes in float32, so that values beyond its range count as infinity.
    largest = np.finfo("float32").max
    return {
        name: np.where(np.abs(values) > largest, np.copysign(np.inf, values), values)
        for name, values in series.items()
    }


def curves_in(history: object) -> dict | None:
    """As `values_of`, with the loss under the name "loss" whatever its name in the history.

    Args:
        history: dict of lists, one value per epoch, or the `History` that `fit` returns.

    Returns:
        dict from each name to an array `(epochs,)`; None where no curve is known to be the loss.
    """
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
    """Facts about the validation data; each is None where it is not known.

    Attributes:
        examples: How many examples were read.
        rarest: How many of them belong to the rarest class.
        initial: Loss of the best constant prediction on them, penalties included.
        accuracy: Accuracy of the trained model on them, measured where the logs hold none.
    """

    examples: int | None = None
    rarest: int | None = None
    initial: float | None = None
    accuracy: float | None = None


class Curves:
    """Loss, accuracy and learning rate of a run, one value per epoch.

    Args:
        values: The curves, as `values_of` returns them.
        initial: Loss of the best constant prediction, penalties included, or None where it is not known.
        chance: Accuracy of always answering the most frequent class, in [0, 1], or None.
        began: Loss of the first step, as the probes saw it, or None.
        floor: Loss of the best constant prediction without penalties, or None.
        steps: Training steps so far, or None.
        planned: Number of epochs that the run is planned to have, or None.
        below_zero: Whether the loss can fall below 0; None where that is not known.
        minimized: Whether the steps are known to minimize "loss"; a custom training step may minimize something else.
        examples: Number of training examples, or None where not known.
        kinds: Number of distinct labels, if they are whole numbers, or None.
        held_out: Facts about the validation data.
        started_with: How much of the averages of batch normalization is still what they started with, in [0, 1].
        earlier: Epochs that the run made before these curves begin, such as those of another model. `steps`, `planned`
            and places in the curves do not count them; the numbers of epochs in findings do, see `number`.
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
        started_with: float = 0.0,
        earlier: int = 0,
    ) -> None:
        self.started_with = started_with
        self.earlier = earlier
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
            # Without a baseline, a first epoch with a huge loss would make everything after it look learned.
            self.first = float(began)

    def number(self, place: int) -> int:
        """The number of an epoch in the run, counted from 1 as in history.csv.

        Args:
            place: Of the epoch in these curves, counted from 0.
        """
        return int(place) + 1 + self.earlier

    @property
    def last(self) -> int:
        """The number of the last epoch."""
        return self.number(self.epochs - 1)

    @property
    def length(self) -> str:
        """How many epochs the curves have, in words: "10 epochs", or "10 epochs (3 to 12)" after earlier ones."""
        which = f" ({self.number(0)} to {self.last})" if self.earlier else ""
        return f"{self.epochs} epochs{which}"

    @property
    def tail(self) -> slice:
        """The last epochs, three at most, which show where the run has got to."""
        return slice(self.epochs - min(3, self.epochs), None)

    @property
    def over(self) -> bool:
        """Whether all planned epochs are done; False where their number is not known."""
        return self.planned is not None and self.epochs >= self.planned

    @property
    def under_way(self) -> bool:
        """Whether more epochs are planned; False where their number is not known."""
        return self.planned is not None and self.epochs < self.planned

    @cached_property
    def fair_chance(self) -> bool:
        """Whether the run made so many steps that it would show progress if it could learn."""
        if self.epochs >= 5:
            return self.steps is None or self.steps >= 60
        if self.steps is None:
            return self.epochs >= 3
        return self.steps >= 100 and (self.epochs >= 3 or self.steps >= 1000)

    @cached_property
    def falling(self) -> bool:
        """Whether the loss falls in most of the recent epochs, and by a noticeable amount.

        Per epoch, that is a thousandth of the first loss or a hundredth of the recent loss, whichever is less.
        """
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
        """The scale for gains over the best constant prediction; None where its loss is 0 or not known.

        The scale is the loss of that prediction. Where this is negative, as with likelihoods, it is the absolute value,
        1 at most.
        """
        if self.initial is None or self.initial == 0:
            return None
        return self.initial if self.initial > 0 else min(1.0, -self.initial)

    def _below_nothing(self, loss: float, share: float, *, validation: bool = False) -> bool:
        """Whether a loss is below that of the best constant prediction by more than `share` of the unit.

        The unit must be known. With `validation`, the loss is compared with that of the prediction on validation data,
        which may differ for few examples.
        """
        there = self.held_out.initial if validation else None
        return bool((self.initial if there is None else there) - loss > share * self.unit)

    def _came_down(self, loss: float, share: float, below: float) -> bool:
        """Whether a custom loss, whose minimum is not known, came down far enough.

        It must be below `share` of where it began, and below the loss of the best constant prediction by `below` of the
        unit.
        """
        known = self.below_zero is True and self.first > 0
        down = known and self.unit is not None and loss < share * self.first
        return bool(down and self._below_nothing(loss, below))

    @cached_property
    def learned(self) -> bool:
        """Whether the last epochs are clearly better than the best constant prediction."""
        if not np.isfinite(self.loss[self.tail]).any():
            return False
        if self.above_chance(0.3):
            return True
        if not self.loss.any():
            return False  # a loss that is 0 from the start asks for nothing
        lowest = float(np.nanmin(self.loss[self.tail]))
        if self.unit is not None:
            return self._below_nothing(lowest, 0.3) or self._came_down(lowest, 0.7, 0.15)
        if self.first > 0:
            return lowest < 0.7 * self.first
        return False

    def above_chance(self, share: float) -> bool:
        """Whether accuracy is further than `share`, in [0, 1], on the way from chance to 1; False where not known."""
        if self.accuracy is None or self.chance is None or self.chance >= 0.95:
            return False
        return bool(self.accuracy[self.tail].max() > self.chance + share * (1 - self.chance))

    @cached_property
    def better_than_nothing(self) -> bool:
        """Whether the run learned anything, in validation too, even if the data allows only little."""
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
            # A lucky start may be below as well, so the loss must also have come down.
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
            # A loss that may be negative has no baseline to compare with; a clear fall must do.
            noise = float(np.median(np.abs(np.diff(self.loss)))) if self.epochs > 2 else 0.0
            fall = self.first - lowest
            return bool(self.epochs >= 3 and fall > max(3 * noise, 0.02 * abs(self.first)))
        return False

    @property
    def score(self) -> np.ndarray | None:
        """Validation accuracy, or another validation score for which larger is better; one value per epoch."""
        return self.validation_score if self.validation_accuracy is None else self.validation_accuracy

    def score_error(self, value: float) -> float:
        """Standard error of a score in [0, 1], from the number of examples behind it; 0 where that is not known."""
        known = self.held_out
        count = known.examples if self.validation_accuracy is not None else known.rarest
        value = min(max(value, 0.05), 0.95)
        return float(np.sqrt(value * (1 - value) / count)) if count else 0.0

    @cached_property
    def validated_well(self) -> bool | None:
        """Whether validation accuracy is past half of the way from chance to 1; None where no accuracy is known."""
        if self.chance is None or self.chance >= 0.95:
            return None
        reached = self.held_out.accuracy
        if self.validation_accuracy is not None:
            reached = float(np.mean(self.validation_accuracy[self.tail]))
        return None if reached is None else reached > self.chance + 0.5 * (1 - self.chance)

    @cached_property
    def strong(self) -> bool:
        """Whether the run learned most of what there is: 60 % of the way from chance to 1, or half of the loss."""
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
        """Whether training loss and validation loss changed little in the last epochs."""
        if not np.isfinite(self.loss).all():
            return False
        lowest = float(self.loss.min())
        gained = max(self.first - lowest, 1e-12)
        if self.epochs < 4:  # too few epochs for a slope: settled means that little loss is left
            return lowest < 0.3 * self.first if self.first > 0 else False
        last = self.loss[-max(3, self.epochs // 3) :]
        low = lowest >= 0 and float(np.median(last)) < 0.05 * self.first
        still = abs(slope(last)) * len(last) < 0.1 * gained
        return bool((low or still) and self._validation_settled)

    @property
    def got_there(self) -> bool:
        """Whether the run learned most of what there is, in validation too, however late it began to learn."""
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
        """Whether validation, where there is any, is better than the best constant prediction as well."""
        if self.validation is None:
            return True
        last = self.validation[self.tail]
        if not np.isfinite(last).all():
            return False
        accuracy = self.validation_accuracy
        if accuracy is not None and self.chance is not None and self.chance < 0.95:
            if not accuracy[self.tail].max() > self.chance + 0.15 * (1 - self.chance):
                return False
            # A model may be sure of its wrong answers: the loss shows that, accuracy does not.
            return self.initial is None or self.initial <= 0 or bool(np.median(last) < 1.5 * self.initial)
        if self.unit is not None:
            return self._below_nothing(float(last.min()), 0.05, validation=True)
        if self.epochs >= 5 and last.min() > self.validation[0]:
            return False  # worse than after the first epoch
        # Without a baseline: the gap between validation and training must be smaller than the gain in training.
        gained = self.first - float(self.loss[self.tail].min())
        return bool(last.min() - self.loss[self.tail].min() < max(gained, 0.3 * abs(self.loss[-1])))

    @cached_property
    def memorized(self) -> bool:
        """Whether validation never showed anything of what training gained."""
        validation = self.validation
        if validation is None or self.held or not np.isfinite(validation).any():
            return False
        lowest = float(np.nanmin(validation))
        if lowest > 0.95 * validation[0] > 0:
            return True
        return self.unit is not None and not self._below_nothing(lowest, 0.05, validation=True)

    @cached_property
    def well(self) -> bool:
        """Whether the run learned well: most of what there is, in validation too, and with settled losses."""
        return self.strong and self.held and self.settled
