"""What there is to know of an optimizer: where its rates are, how it accumulates, and which steps write weights."""

import math
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import keras
import numpy as np
from keras import ops

Optimizer = keras.optimizers.Optimizer


def innermost(optimizer: Optimizer) -> Optimizer:
    """The optimizer that makes the updates, inside any loss scaling."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def groups(optimizer: Optimizer | None) -> list[Optimizer]:
    """The optimizers that have a learning rate each: those of a `MultiOptimizer`, else the innermost; none for None."""
    if optimizer is None:
        return []
    inner = innermost(optimizer)
    return list(getattr(inner, "optimizers", (inner,)))


def is_scheduled(optimizer: Optimizer | None) -> bool:
    """Whether a learning rate is a schedule, or another function of the step, which nobody outside can set."""
    return any(not isinstance(_rate(one), keras.Variable) for one in groups(optimizer))


def schedule_of(optimizer: Optimizer | None) -> Callable[[Any], Any] | None:
    """The schedule inside an optimizer with one learning rate, or None."""
    rates = [_rate(one) for one in groups(optimizer)]
    return None if len(rates) != 1 or isinstance(rates[0], keras.Variable) else rates[0]


def has_one_plain_rate(optimizer: Optimizer | None) -> bool:
    """Whether there is one learning rate, a number that can be set."""
    return len(groups(optimizer)) == 1 and not is_scheduled(optimizer)


def rate_of(optimizer: Optimizer | None) -> float | None:
    """The present learning rate; None without an optimizer, and for one with several rates (`rates_of`)."""
    rates = rates_of(optimizer)
    return rates[0] if len(rates) == 1 else None


def rates_of(optimizer: Optimizer | None) -> list[float]:
    """The present learning rate of each of `groups(optimizer)`."""
    return [float(ops.convert_to_numpy(one.learning_rate)) for one in groups(optimizer)]


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of an optimizer that `has_one_plain_rate`."""
    innermost(optimizer).learning_rate = rate


def scale_rates(optimizer: Optimizer, factor: float) -> None:
    """Multiply every learning rate, none of which may be a schedule."""
    for one in groups(optimizer):
        one.learning_rate = float(ops.convert_to_numpy(one.learning_rate)) * factor


def averages_weights(optimizer: Optimizer | None) -> bool:
    """Whether it overwrites weights by their moving average (`use_ema`)."""
    return any(getattr(one, "use_ema", False) for one in groups(optimizer))


def accumulation(optimizer: Optimizer | None) -> int:
    """Batches per update: 1 without gradient accumulation; the least number after which all groups have written."""
    steps = [getattr(one, "gradient_accumulation_steps", None) or 1 for one in groups(optimizer)]
    return math.lcm(*steps)


def iterations(optimizer: Optimizer) -> int:
    """Batches the optimizer has seen in its life, whether or not they wrote weights."""
    return int(ops.convert_to_numpy(innermost(optimizer)._iterations))


def writes(optimizer: Optimizer) -> Any:
    """Whether the step that begins writes weights: a bool tensor, or True where every step does."""
    steps = accumulation(optimizer)
    return True if steps == 1 else ops.equal((innermost(optimizer)._iterations + 1) % steps, 0)


def loss_scale(optimizer: Optimizer) -> Any:
    """What gradients reach `optimizer.apply` multiplied by: a tensor under dynamic loss scaling, else a float."""
    if hasattr(optimizer, "dynamic_scale"):
        return ops.convert_to_tensor(optimizer.dynamic_scale)
    return float(getattr(optimizer, "loss_scale_factor", None) or 1)


def is_dynamically_scaled(optimizer: Optimizer) -> bool:
    """Whether a step whose gradients overflow is skipped."""
    return hasattr(optimizer, "dynamic_scale")


def known_variables(optimizer: Optimizer) -> list[keras.Variable]:
    """The variables a built optimizer updates."""
    return list(optimizer._trainable_variables)


def slot_of(optimizer: Optimizer, slots: Sequence[Any], variable: Any) -> Any:
    """What an optimizer of ours keeps for a variable, which may be the part of it on one replica."""
    return slots[optimizer._get_variable_index(variable)]


class RatesAhead:
    """The rates of the next execution, read by the train function itself.

    Under `steps_per_execution` one call runs many steps, and the host can set no rate between them. While a window is
    open, the optimizer reads its rate from a table by its own iteration count; when closed, or left behind by a run
    that was interrupted, it reads its learning-rate variable as ever. The table stays with the optimizer, because
    train functions that read it do.
    """

    CLOSED = -(2**40)

    def __init__(self, optimizer: Optimizer, size: int) -> None:
        self.size = size
        self._start = _variable(optimizer, np.int64(self.CLOSED))
        self._rates = _variable(optimizer, np.zeros(size, "float32"))
        # Past Keras' tracking: neither Keras nor TensorFlow shall save the variables with the optimizer.
        object.__setattr__(optimizer, "_get_current_learning_rate", lambda: self._current(optimizer))

    @classmethod
    def of(cls, optimizer: Optimizer, size: int) -> tuple["RatesAhead", bool]:
        """The table of an optimizer with room for `size` steps, and whether it is new: then a new trace is needed."""
        ahead = _TABLES.get(optimizer)
        if ahead is not None and ahead.size >= size:
            return ahead, False
        _TABLES[optimizer] = ahead = cls(optimizer, size)
        return ahead, True

    def open(self, iteration: int, rates: Sequence[float]) -> None:
        """From this iteration on the optimizer takes these rates."""
        self._rates.assign(np.resize(np.asarray(rates, "float32"), self.size))
        self._start.assign(iteration)

    def close(self) -> None:
        """The optimizer takes its own rate again."""
        self._start.assign(self.CLOSED)

    def _current(self, optimizer):
        ahead = ops.cast(optimizer._iterations, "int64") - ops.cast(self._start, "int64")
        inside = ops.logical_and(ahead >= 0, ahead < self.size)
        row = ops.cast(ops.clip(ahead, 0, self.size - 1), "int32")
        return ops.where(inside, ops.take(self._rates, row), optimizer._learning_rate)


_TABLES: WeakKeyDictionary[Optimizer, RatesAhead] = WeakKeyDictionary()


def _rate(optimizer):
    return getattr(optimizer, "_learning_rate", None)


def _variable(optimizer, value):
    strategy = getattr(optimizer, "_distribution_strategy", None)
    make = {"trainable": False, "dtype": value.dtype.name, "aggregation": "only_first_replica"}
    if strategy is None:
        return keras.Variable(value, **make)
    with strategy.scope():
        return keras.Variable(value, **make)
