"""LearningRate: drive the learning rate of a compiled model by a schedule, one optimizer step at a time."""

import warnings
from weakref import WeakKeyDictionary

import keras
import numpy as np
from keras import ops

# What the callbacks know of each optimizer they drive or drove: a run that was interrupted leaves a lowered rate
# behind, and the next one must not take it for the rate the model was compiled with.
_DRIVEN = WeakKeyDictionary()
_BLOCK = 1024


class LearningRate(keras.callbacks.Callback):
    """Set the learning rate before every optimizer step, from any schedule.

    A schedule inside the optimizer has to be known when the model is compiled, and counts the life of the optimizer.
    This one works on a model compiled with a plain number and counts **this run**: step 0 is its first update, and
    `fit(initial_epoch=3)` goes on at the step epoch 3 begins with.

    - The clock is the batches `fit` has seen since the beginning of the run, so that a batch whose update was skipped
      (loss scaling met an overflow) counts too, and the schedule ends with the run.
    - Gradient accumulation: a step is one update, that is `gradient_accumulation_steps` batches; all of them see its
      rate.
    - `steps_per_execution > 1`: every step inside an execution gets its own rate, on the TensorFlow and PyTorch
      backends. The train function is traced once more for it. On JAX this is refused.
    - Mixed precision: the optimizer inside a `LossScaleOptimizer` is the one driven.
    - Afterwards the optimizer has the rate it was compiled with. After an interruption it keeps the last one, but the
      next run of one of our callbacks in the same process remembers the compiled one.

    `logs["learning_rate"]` at the end of an epoch is the rate of its last step, also where a callback behind this one
    lowers it (`NonFiniteGuard(restore=True)`).

    Args:
        schedule: `LearningRateSchedule`, or any function from the step (an int from 0) to the rate.

    Raises:
        ValueError: on_train_begin, when the optimizer already has a schedule or is a `MultiOptimizer`; when a run is
            resumed by `initial_epoch` and the number of batches per epoch is unknown; when two of these callbacks
            drive one optimizer.

    Example:
        >>> schedule = recipes.schedules.OneCycle(peak=0.4, steps=10 * len(train))
        >>> model.fit(train, epochs=10, callbacks=[LearningRate(schedule)])
    """

    def __init__(self, schedule):
        super().__init__()
        if not callable(schedule) or isinstance(schedule, type):
            raise TypeError(
                f"{type(self).__name__} expects a schedule, a function from the step to the rate. Received "
                f"{schedule!r}. For a constant rate, compile the model with it."
            )
        self.schedule = schedule

    def make_schedule(self, compiled_rate):
        """The schedule of the run that begins, for callbacks whose schedule depends on it."""
        return self.schedule

    def set_model(self, model):
        super().set_model(model)
        self._ahead = self._found = None
        optimizer = innermost(getattr(model, "optimizer", None))
        if optimizer is None or not _has_plain_rate(optimizer):
            return  # on_train_begin says what is wrong
        # Read before any callback's on_train_begin restores an optimizer in the middle of its run.
        self._found = _rate_of(optimizer), int(ops.convert_to_numpy(optimizer._iterations))
        # `fit` builds its train function between here and on_train_begin, so a new one is asked for here.
        if model.steps_per_execution > 1:
            self._ahead = _RatesAhead.of(model, optimizer, type(self).__name__)

    def on_train_begin(self, logs=None):
        self._optimizer = innermost(self.model.optimizer)
        _check_drivable(self._optimizer, type(self).__name__)
        self._accumulated = self._optimizer.gradient_accumulation_steps or 1
        self._position = self._last_rate = self._left_rate = self._restored_position = None
        self._first_update, self._block = 0, np.zeros(0, "float32")
        (found, iterations), known = self._found, _DRIVEN.get(self._optimizer)
        compiled = known.compiled if known is not None and found in known.recent else found
        self._rate_is_known = known is not None or iterations == 0
        _DRIVEN[self._optimizer] = self._driver = _Driver(compiled, found)
        self.schedule = self.make_schedule(compiled)

    def on_epoch_begin(self, epoch, logs=None):
        steps = self._steps_per_epoch()
        if steps is not None:
            self._position = epoch * steps
        elif self._position is None:
            self._position = self._first_position(epoch)
        else:
            self._position += self._seen
        self._seen, self._epoch_iteration = 0, self._iterations()
        # Batches already in the accumulator when the run began belong to its first update.
        self._phase = (self._epoch_iteration - self._position) % self._accumulated
        if self._left_rate is not None and _rate_of(self._optimizer) != self._left_rate:
            self._warn_of_another(epoch)

    def on_train_batch_begin(self, batch, logs=None):
        if _DRIVEN.get(self._optimizer) is not self._driver:
            raise ValueError(
                f"{type(self).__name__} expects to be alone in driving the learning rate. Received a second callback "
                "that sets it every step. Keep one of them; schedules.Warmup puts a warm-up in front of any schedule."
            )
        steps = [self._position + batch + ahead for ahead in range(self.model.steps_per_execution)]
        rates = [self._rate_at(step) for step in steps]
        # An epoch may end in the middle of an execution.
        left = (self._steps_per_epoch() or np.inf) - batch
        self._last_rate = rates[int(min(len(rates), max(left, 1))) - 1]
        self._driver.will_set(np.float32(self._last_rate))
        if self._ahead is not None:
            self._ahead.open(self._iterations(), rates)
        self._optimizer.learning_rate = self._last_rate

    def on_train_batch_end(self, batch, logs=None):
        # Not by the optimizer alone: a dataset of unknown length ends with a step that has no batch, and is counted
        # there.
        self._seen = batch + 1
        if self._ahead is not None:
            self._seen = self._iterations() - self._epoch_iteration
            self._ahead.close()

    def on_epoch_end(self, epoch, logs=None):
        self._left_rate = _rate_of(self._optimizer)
        if logs is not None and self._last_rate is not None:
            if "learning_rate" in logs:  # as ReduceLROnPlateau and LearningRateScheduler write there
                self._warn_of_another(epoch)
            logs["learning_rate"] = float(self._left_rate)

    def on_train_end(self, logs=None):
        if _DRIVEN.get(self._optimizer) is self._driver:
            self._driver.will_set(self._driver.compiled)
            self._optimizer.learning_rate = float(self._driver.compiled)

    def get_state(self):
        """What a resumed run needs, as a dict that fits into JSON: the compiled rate, and the batches seen so far."""
        return {"compiled_rate": float(self._driver.compiled), "batches": int(self._position + self._seen)}

    def set_state(self, state):
        """Go on from `get_state()`'s dict. Call it between on_train_begin and the first epoch."""
        self._driver.compiled = np.float32(state["compiled_rate"])
        self._restored_position, self._rate_is_known = state["batches"], True
        self.schedule = self.make_schedule(self._driver.compiled)
        self._block = np.zeros(0, "float32")

    def _warn_of_another(self, epoch):
        warnings.warn(
            f"{type(self).__name__} expects to be alone in setting the learning rate. Around epoch {epoch} it "
            "finds that of another callback, such as ReduceLROnPlateau, and will set its own again at the next step. "
            "Leave one of them out.",
            stacklevel=3,
        )

    def _steps_per_epoch(self):
        return self.params.get("steps")

    def _first_position(self, epoch):
        """Batches before the first epoch of this `fit`, when nothing tells how many an epoch has."""
        if epoch > 0 and self._restored_position is None:
            raise ValueError(
                f"{type(self).__name__} expects to know the batches per epoch to go on at initial_epoch={epoch}. "
                "Received a dataset of unknown cardinality. Pass steps_per_epoch= to fit, or end the dataset with "
                ".apply(tf.data.experimental.assert_cardinality(batches))."
            )
        return self._restored_position or 0

    def _iterations(self):
        """Batches the optimizer has seen in its life."""
        return int(ops.convert_to_numpy(self._optimizer._iterations))

    def _rate_at(self, position):
        update = (position + self._phase) // self._accumulated
        if not getattr(self.schedule, "elementwise", False):
            return float(ops.convert_to_numpy(self.schedule(update)))
        # Our schedules take arrays: a thousand rates cost what one costs.
        if not 0 <= update - self._first_update < len(self._block):
            steps = np.arange(update, update + _BLOCK, dtype="int32")
            self._first_update, self._block = update, ops.convert_to_numpy(self.schedule(steps))
        return float(self._block[update - self._first_update])


def innermost(optimizer):
    """The optimizer that makes the updates, inside any loss scaling."""
    return getattr(optimizer, "inner_optimizer", optimizer)


class _Driver:
    """The one callback that drives an optimizer: the compiled rate, and the rates it may have left there."""

    def __init__(self, compiled, found):
        self.compiled, self.recent = compiled, (found,)

    def will_set(self, rate):
        # Both, because an interruption can fall between this line and the assignment.
        self.recent = (self.recent[-1], rate)


class _RatesAhead:
    """The rates of the next execution, read by the train function itself.

    Under `steps_per_execution` one call runs many steps, and the host can set no rate between them. While a window is
    open, the optimizer reads its rate from a table by its own iteration count; when closed, or left behind by a run
    that was interrupted, it reads its learning-rate variable as ever.
    """

    CLOSED = -(2**40)

    @classmethod
    def of(cls, model, optimizer, name):
        """The table of this optimizer; built on first use, after which the model needs a new train function."""
        ahead = getattr(optimizer, "_recipes_rates_ahead", None)
        if ahead is None or ahead.size < model.steps_per_execution:
            if keras.backend.backend() == "jax":
                raise ValueError(
                    f"{name} expects steps_per_execution=1 on the JAX backend, where a train function cannot read "
                    f"new rates. Received steps_per_execution={model.steps_per_execution}. Compile with "
                    "steps_per_execution=1, or give the optimizer a schedule of recipes.schedules as its learning_rate."
                )
            ahead = cls(optimizer, model.steps_per_execution)
            model.train_function = None
        return ahead

    def __init__(self, optimizer, size):
        self.size = size
        self.start = _variable(optimizer, np.int64(self.CLOSED))
        self.rates = _variable(optimizer, np.zeros(size, "float32"))
        # Straight into the instance: neither Keras nor TensorFlow shall save these with the optimizer.
        object.__setattr__(optimizer, "_recipes_rates_ahead", self)
        object.__setattr__(optimizer, "_get_current_learning_rate", lambda: self.current(optimizer))

    def open(self, iteration, rates):
        self.rates.assign(np.resize(np.asarray(rates, "float32"), self.size))
        self.start.assign(iteration)

    def close(self):
        self.start.assign(self.CLOSED)

    def current(self, optimizer):
        ahead = ops.cast(optimizer._iterations, "int64") - ops.cast(self.start, "int64")
        inside = ops.logical_and(ahead >= 0, ahead < self.size)
        row = ops.cast(ops.clip(ahead, 0, self.size - 1), "int32")
        return ops.where(inside, ops.take(self.rates, row), optimizer._learning_rate)


def _variable(optimizer, value):
    strategy = getattr(optimizer, "_distribution_strategy", None)
    make = {"trainable": False, "dtype": value.dtype.name, "aggregation": "only_first_replica"}
    if strategy is None:
        return keras.Variable(value, **make)
    with strategy.scope():
        return keras.Variable(value, **make)


def _has_plain_rate(optimizer):
    return isinstance(getattr(optimizer, "_learning_rate", None), keras.Variable) and not hasattr(
        optimizer, "optimizers"
    )


def _rate_of(optimizer):
    return np.float32(ops.convert_to_numpy(optimizer._learning_rate))


def _check_drivable(optimizer, name):
    if hasattr(optimizer, "optimizers"):
        raise ValueError(
            f"{name} expects one optimizer with one learning rate. Received {type(optimizer).__name__}. "
            "Give each of its optimizers a schedule of recipes.schedules as learning_rate."
        )
    if not _has_plain_rate(optimizer):
        raise ValueError(
            f"{name} expects an optimizer compiled with a number as its learning rate. "
            f"Received the schedule {optimizer._learning_rate!r}. "
            f"Compile with the peak rate as a number, or leave {name} out."
        )
