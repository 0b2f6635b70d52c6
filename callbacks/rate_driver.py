"""What the callbacks that set the learning rate at every step share."""

import warnings
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import keras
import numpy as np
from keras import ops

from recipes.callbacks.fit_member import FitMember
from recipes.common.optimizers import (
    RatesAhead,
    accumulation,
    groups,
    has_plain_rates,
    innermost,
    iterations,
    main_rate,
    rate_shares,
    schedule_of,
    set_rate,
)

Logs = dict[str, Any] | None

_BLOCK = 1024


class RateDriver(FitMember):
    """Sets the learning rate before every optimizer step, from a schedule that a subclass makes when a run begins.

    The docstring of `LearningRate` says how steps are counted. A subclass defines `make_schedule(compiled_rate)`.

    Args:
        steps_per_epoch: Batches per epoch, where neither the dataset nor `fit(steps_per_epoch=)` says.
    """

    def __init__(self, *, steps_per_epoch: int | None = None) -> None:
        super().__init__()
        self.steps_per_epoch = steps_per_epoch
        self.schedule: Callable[[Any], Any] | Any = None
        self._ahead: list[RatesAhead] = []
        self._found = self._driven = None

    def make_schedule(self, compiled_rate: float) -> Callable[[Any], Any]:
        """The schedule of the run that begins: a function from the step, an int from 0, to the rate."""
        raise NotImplementedError(
            f"RateDriver expects its subclasses to define make_schedule(compiled_rate). Received "
            f"{type(self).__name__}, which does not. Return a function from the step to the rate there."
        )

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        self._ahead, self._found = [], None
        optimizer = getattr(model, "optimizer", None)
        if not has_plain_rates(optimizer):
            return  # on_train_begin says what is wrong
        # Read before any callback's on_train_begin restores an optimizer in the middle of its run.
        self._found = np.float32(main_rate(optimizer)), iterations(optimizer), rate_shares(optimizer)
        # `fit` builds its train function between here and on_train_begin, so a new one is asked for here.
        if model.steps_per_execution > 1:
            self._ahead = self._rates_ahead(model)

    def on_train_begin(self, logs: Logs = None) -> None:
        self._check_drivable()
        self._optimizer = innermost(self.model.optimizer)
        self._accumulated = accumulation(self._optimizer)
        self._position = self._last_rate = self._left_rate = self._restored_position = None
        self._phase, self._first_update, self._block = 0, 0, np.zeros(0, "float32")
        (found, batches, shares), known = self._found, _DRIVEN.get(self._optimizer)
        compiled = found
        if known is not None and found in known.recent:
            compiled, shares = known.compiled, known.shares
        self._rate_is_known = known is not None or batches == 0
        _DRIVEN[self._optimizer] = self._driven = _Driven(compiled, found, shares)
        self.schedule = self.make_schedule(compiled)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        steps = self._steps_per_epoch()
        if steps is not None:
            self._position = epoch * steps
        elif self._position is None:
            self._position = self._first_position(epoch)
        else:
            self._position += self._seen
        self._seen, self._epoch_iteration = 0, iterations(self._optimizer)
        # Batches already in the accumulator when the run began belong to its first update.
        self._phase = (self._epoch_iteration - self._position) % self._accumulated
        if self._left_rate is not None and self._present_rate() != self._left_rate:
            self._warn_of_another(epoch)

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        if _DRIVEN.get(self._optimizer) is not self._driven:
            raise ValueError(
                f"{type(self).__name__} expects to be alone in driving the learning rate. Received a second callback "
                "that sets it every step. Keep one of them; schedules.Join puts one schedule after another."
            )
        steps = [self._position + batch + ahead for ahead in range(self.model.steps_per_execution)]
        rates = [self._rate_at(step) for step in steps]
        # An epoch may end in the middle of an execution.
        left = (self._steps_per_epoch() or np.inf) - batch
        self._last_rate = rates[int(min(len(rates), max(left, 1))) - 1]
        self._driven.will_set(np.float32(self._last_rate))
        for ahead, share in zip(self._ahead, self._driven.shares, strict=bool(self._ahead)):
            ahead.open(iterations(self._optimizer), [rate * share for rate in rates])
        set_rate(self._optimizer, self._last_rate, self._driven.shares)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        # Not by the optimizer alone: a dataset of unknown length ends with a step that has no batch, and is counted
        # there.
        self._seen = batch + 1
        if self._ahead:
            self._seen = iterations(self._optimizer) - self._epoch_iteration
            for ahead in self._ahead:
                ahead.close()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._left_rate = self._present_rate()
        if logs is not None and self._last_rate is not None:
            if "learning_rate" in logs:  # as ReduceLROnPlateau and LearningRateScheduler write there
                self._warn_of_another(epoch)
            logs["learning_rate"] = float(self._left_rate)

    def on_train_end(self, logs: Logs = None) -> None:
        self.release()

    def release(self) -> None:
        """Give the optimizer the rate it was compiled with; after a `fit` that an exception ended, call it yourself."""
        if self._driven is not None and _DRIVEN.get(self._optimizer) is self._driven:
            self._driven.will_set(self._driven.compiled)
            set_rate(self._optimizer, float(self._driven.compiled), self._driven.shares)

    def get_state(self) -> dict[str, Any]:
        """What a resumed run needs, as a dict that fits into JSON: the compiled rate, and the batches seen so far."""
        shares = {"shares": list(self._driven.shares)} if len(self._driven.shares) > 1 else {}
        batches = int(self._position + self._seen)
        return {"compiled_rate": float(self._driven.compiled), "batches": batches, **shares}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from `get_state()`'s dict. Call it between on_train_begin and the first epoch."""
        self._driven.compiled = np.float32(state["compiled_rate"])
        self._driven.shares = tuple(state.get("shares", self._driven.shares))
        self._restored_position, self._rate_is_known = state["batches"], True
        self.schedule = self.make_schedule(self._driven.compiled)
        self._block = np.zeros(0, "float32")

    def _rates_ahead(self, model):
        if keras.backend.backend() == "jax":
            raise ValueError(
                f"{type(self).__name__} expects steps_per_execution=1 on the JAX backend, where a train function "
                f"cannot read new rates. Received steps_per_execution={model.steps_per_execution}. Compile with "
                "steps_per_execution=1, or give the optimizer a schedule of recipes.schedules as its learning_rate."
            )
        tables = [RatesAhead.of(one, model.steps_per_execution) for one in groups(model.optimizer)]
        if any(is_new for _, is_new in tables):
            model.train_function = None
        return [ahead for ahead, _ in tables]

    def _check_drivable(self):
        optimizer = self.model.optimizer
        if not has_plain_rates(optimizer):
            raise ValueError(
                f"{type(self).__name__} expects an optimizer compiled with a number as its learning rate. "
                f"Received the schedule {schedule_of(optimizer)!r}. "
                f"Compile with the peak rate as a number, or leave {type(self).__name__} out."
            )

    def _warn_of_another(self, epoch):
        warnings.warn(
            f"{type(self).__name__} expects to be alone in setting the learning rate. Received a rate that another "
            f"callback, such as ReduceLROnPlateau, has set around epoch {epoch}; the next step replaces it. "
            "Leave one of them out.",
            stacklevel=3,
        )

    def _present_rate(self):
        return np.float32(main_rate(self._optimizer))

    def _steps_per_epoch(self):
        return self.params.get("steps") or self.steps_per_epoch

    def _first_position(self, epoch):
        """Batches before the first epoch of this `fit`, when nothing tells how many an epoch has."""
        if epoch > 0 and self._restored_position is None:
            raise ValueError(
                f"{type(self).__name__} expects to know the batches per epoch to go on at initial_epoch={epoch}. "
                "Received a dataset of unknown cardinality. Pass steps_per_epoch= to fit, or end the dataset with "
                ".apply(tf.data.experimental.assert_cardinality(batches))."
            )
        return self._restored_position or 0

    def rate_by_step(self, steps: int, *, points: int = 120) -> dict[str, list[Any]]:
        """The rates of a run for a figure, as its schedule gives them; empty before a run, and for a run without steps.

        Args:
            steps: Batches of the run so far, >= 0.
            points: The largest number of steps to return, >= 1, evenly spread, with the first and the last among them.

        Returns:
            `{"step": integers from 0, "rate": floats}`, of one length.
        """
        if self.schedule is None or steps < 1:
            return {}
        shown = sorted({round(step) for step in np.linspace(0, steps - 1, min(steps, points))})
        return {"step": shown, "rate": [self._rate_at(step) for step in shown]}

    def _rate_at(self, position):
        update = (position + self._phase) // self._accumulated
        if not getattr(self.schedule, "elementwise", False):
            return float(ops.convert_to_numpy(self.schedule(update)))
        # Our schedules take arrays: a thousand rates cost what one costs.
        if not 0 <= update - self._first_update < len(self._block):
            steps = np.arange(update, update + _BLOCK, dtype="int32")
            self._first_update, self._block = update, ops.convert_to_numpy(self.schedule(steps))
        return float(self._block[update - self._first_update])


class _Driven:
    """What a callback knows of the optimizer it drives: its rate as compiled, and the rates it may have left there.

    Of several optimizers in one the rate is the largest, and `shares` are their parts of it.
    """

    def __init__(self, compiled, found, shares):
        self.compiled, self.recent, self.shares = compiled, (found,), shares

    def will_set(self, rate):
        # Both, because an interruption can fall between this line and the assignment.
        self.recent = (self.recent[-1], rate)


# Of each optimizer that is or was driven: a run that was interrupted leaves a lowered rate behind, and the next one
# must not take it for the rate the model was compiled with.
_DRIVEN: WeakKeyDictionary[keras.optimizers.Optimizer, _Driven] = WeakKeyDictionary()
