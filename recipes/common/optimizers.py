"""Facts about an optimizer: where its rates are, how it accumulates gradients, and which steps write weights."""

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
    """The optimizers with a learning rate each: the members of a `MultiOptimizer`, else the innermost; none for
    None."""
    if optimizer is None:
        return []
    inner = innermost(optimizer)
    return list(getattr(inner, "optimizers", (inner,)))


def is_scheduled(optimizer: Optimizer | None) -> bool:
    """Whether a learning rate is a schedule, or another function of the step, which cannot be set from outside."""
    return any(not isinstance(_rate(one), keras.Variable) for one in groups(optimizer))


def schedule_of(optimizer: Optimizer | None) -> Callable[[Any], Any] | None:
    """The schedule inside an optimizer, the first one of several, or None."""
    rates = [_rate(one) for one in groups(optimizer)]
    return next((rate for rate in rates if not isinstance(rate, keras.Variable)), None)


def has_plain_rates(optimizer: Optimizer | None) -> bool:
    """Whether there is a learning rate, or several, and each is a number that can be set."""
    return bool(groups(optimizer)) and not is_scheduled(optimizer)


def rate_of(optimizer: Optimizer | None) -> float | None:
    """The present learning rate; None without an optimizer, and for one with several rates (`rates_of`)."""
    rates = rates_of(optimizer)
    return rates[0] if len(rates) == 1 else None


def rates_of(optimizer: Optimizer | None) -> list[float]:
    """The present learning rate of each of `groups(optimizer)`."""
    return [float(ops.convert_to_numpy(one.learning_rate)) for one in groups(optimizer)]


def main_rate(optimizer: Optimizer) -> float:
    """The present learning rate; the largest of several."""
    return max(rates_of(optimizer))


def rate_shares(optimizer: Optimizer) -> tuple[float, ...]:
    """The rate of each of `groups(optimizer)` as a share of the largest rate; 1 for all where every rate is 0."""
    rates = rates_of(optimizer)
    return tuple(rate / max(rates) if max(rates) else 1.0 for rate in rates)


def set_rate(optimizer: Optimizer, rate: float, shares: Sequence[float] = (1.0,)) -> None:
    """Set the learning rate of an optimizer that `has_plain_rates`; where it has several, each to its share."""
    for one, share in zip(groups(optimizer), shares, strict=True):
        one.learning_rate = rate * share


def scale_rates(optimizer: Optimizer, factor: float) -> None:
    """Multiply every learning rate, none of which may be a schedule."""
    for one in groups(optimizer):
        one.learning_rate = float(ops.convert_to_numpy(one.learning_rate)) * factor


def averages_weights(optimizer: Optimizer | None) -> bool:
    """Whether an optimizer overwrites weights by their moving average (`use_ema`)."""
    return any(getattr(one, "use_ema", False) for one in groups(optimizer))


def accumulation(optimizer: Optimizer | None) -> int:
    """Batches per update: 1 without gradient accumulation, else the least number after which all groups have
    written."""
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
    """The factor on the gradients that reach `optimizer.apply`: a tensor under dynamic loss scaling, else a float."""
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
    """The slot of an optimizer of recipes for a variable, which may be its part on one replica."""
    return slots[optimizer._get_variable_index(variable)]


def learned_variables(model: keras.Model) -> list[keras.Variable]:
    """The variables of a model that learn, including those that join later if its optimizer knows them already."""
    optimizer = innermost(model.optimizer) if getattr(model, "optimizer", None) is not None else None
    if not hasattr(optimizer, "begun") or not optimizer.built:
        return list(model.trainable_variables)
    return known_variables(optimizer)


def switched(model: keras.Model) -> dict[str, list[keras.Variable]]:
    """Variables that were frozen or unfrozen after an optimizer had trained, without the optimizer being told.

    Returns:
        dict of the variables that "joined", which the optimizer does not know, and that "left", which are frozen now.
        Both are empty where the model is not built or compiled, has not trained, or is handled by `callbacks.Unfreeze`.
    """
    optimizer = innermost(model.optimizer) if getattr(model, "optimizer", None) is not None else None
    trained = optimizer is not None and model.built and optimizer.built and iterations(optimizer) > 0
    if not trained or hasattr(optimizer, "begun"):
        return {"joined": [], "left": []}
    known, learning = known_variables(optimizer), model.trainable_variables
    ids = [{id(one) for one in side} for side in (known, learning)]
    own = {id(one) for one in model.variables}
    return {
        "joined": [one for one in learning if id(one) not in ids[0]],
        "left": [one for one in known if id(one) not in ids[1] and id(one) in own],
    }


def factors_of(optimizer: Optimizer | None) -> dict[int, float]:
    """Map `id(variable)` to the factor of its learning rate, for a built optimizer; empty for one rate for all."""
    factors = () if optimizer is None else getattr(innermost(optimizer), "factors", ())
    if not factors or not innermost(optimizer).built:
        return {}
    known = known_variables(innermost(optimizer))
    return {id(variable): factor for variable, factor in zip(known, factors, strict=True)}


def place_of(optimizer: Optimizer, variable: Any) -> int:
    """The place of a variable, or of its part on one replica, among `known_variables`."""
    return optimizer._get_variable_index(variable)


def copy_state(source: Sequence[keras.Variable], target: Sequence[keras.Variable]) -> None:
    """Copy the values of one optimizer's variables to the variables of the same paths in another."""
    known: dict[str, list[keras.Variable]] = {}
    for variable in source:
        known.setdefault(variable.path, []).append(variable)
    for variable in target:
        if known.get(variable.path):
            variable.assign(known[variable.path].pop(0))


def build_for(optimizer: Optimizer, variables: Sequence[keras.Variable]) -> None:
    """Make an optimizer update these variables, in place: a built one keeps its state for the variables that it knew.

    For the others its state begins as in a new optimizer.

    Args:
        optimizer: An optimizer, with or without loss scaling.
        variables: The variables of a model, in its order.
    """
    inner, variables = innermost(optimizer), list(variables)
    if not inner.built:
        with keras.name_scope(optimizer.name, caller=optimizer):
            optimizer.build(variables)
        return
    known = {id(variable) for variable in known_variables(inner)}
    before = inner.variables
    common = [id(inner._iterations), id(inner._learning_rate)]
    for variable in before:
        if id(variable) not in common:
            inner._untrack_variable(variable)
    inner._trainable_variables_indices, inner.built = {}, False
    with keras.name_scope(inner.name, caller=inner):
        inner.build(variables)
    copy_state([one for one in before if id(one) not in common], inner.variables)
    if inner.use_ema:
        for variable, average in zip(variables, inner._model_variables_moving_average, strict=True):
            if id(variable) not in known and average is not None:
                average.assign(variable)
    if inner is not optimizer:
        optimizer._trainable_variables = variables[:]
        optimizer._trainable_variables_indices = dict(inner._trainable_variables_indices)


class RatesAhead:
    """The rates of the next execution, read by the train function itself.

    Under `steps_per_execution` one call runs many steps, and the host can set no rate between them. While a window is
    open, the optimizer reads its rate from a table by its own iteration count. When the window is closed, or left over
    from a run that was interrupted, it reads its learning-rate variable as usual. The table stays with the optimizer,
    as do train functions that read it.
    """

    CLOSED = -(2**40)

    def __init__(self, optimizer: Optimizer, size: int) -> None:
        self.size = size
        self._start = _variable(optimizer, np.int64(self.CLOSED))
        self._rates = _variable(optimizer, np.zeros(size, "float32"))
        # Past Keras' tracking, so that neither Keras nor TensorFlow saves the variables with the optimizer.
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
        """Make the optimizer take these rates from this iteration on."""
        self._rates.assign(np.resize(np.asarray(rates, "float32"), self.size))
        self._start.assign(iteration)

    def close(self) -> None:
        """Make the optimizer take its own rate again."""
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
