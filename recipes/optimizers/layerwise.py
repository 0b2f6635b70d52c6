"""One optimizer in which every variable has a learning rate of its own: a factor times the common one."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops

from recipes.common.models import build_optimizer_for
from recipes.common.optimizers import groups, innermost, known_variables, place_of
from recipes.common.validation import is_number, is_whole
from recipes.optimizers.rate_factors import rate_factors


def layerwise(
    optimizer: keras.optimizers.Optimizer, model: keras.Model, rates: float | Mapping[str, float]
) -> keras.optimizers.Optimizer:
    """The same optimizer with a learning rate per layer: the common rate times the factor of the layer.

    It stays one optimizer, of a subclass of the given one's class, with one `learning_rate` for callbacks and schedules
    to drive. `clipnorm`, `global_clipnorm` (over all variables), `use_ema`, gradient accumulation and loss scaling work
    as usual. The update of a variable, and its weight decay, use `learning_rate * factor`.

    Sources: discriminative rates, Howard and Ruder 2018, section 3.2, https://arxiv.org/abs/1801.06146; decay by
    depth, Clark et al. 2020, table 7 ("layerwise LR decay"), https://arxiv.org/abs/2003.10555

    Args:
        optimizer: An optimizer of any class of `keras.optimizers` or of your own, or `MuonSGD`. It is left as it is.
        model: A built model, whose trainable variables are to be updated.
        rates: What `rate_factors` takes: factors by names or patterns, or the decay from one layer to the layer below.

    Returns:
        A new optimizer, not built, whose `factors` hold one number per trainable variable of the model.

    Raises:
        ValueError: for rates that do not fit the model; for an optimizer whose updates are not in proportion to its
            rate (Ftrl, Adafactor with its relative step) or that has several rates (MultiOptimizer).

    Example:
        >>> optimizer = recipes.optimizers.layerwise(keras.optimizers.AdamW(1e-3), model, {"backbone": 0.1})
        >>> model.compile(optimizer, "sparse_categorical_crossentropy")
    """
    factors = rate_factors(model, rates, strict=False)
    _check_linear(optimizer, "layerwise")
    inner = innermost(optimizer)
    config = {name: value for name, value in inner.get_config().items() if name not in _OURS}
    kind = layerwise_class(plain_class(type(inner)))
    made = kind.from_config({**config, "factors": factors, "rates": _plain(rates)})
    for name in _UNSAVED:
        if hasattr(inner, name):
            setattr(made, name, getattr(inner, name))
    if inner is optimizer:
        return made
    outer = optimizer.get_config()
    return type(optimizer)(
        made, **{name: outer[name] for name in ("initial_scale", "dynamic_growth_steps") if name in outer}
    )


_OURS = ("factors", "begun", "rates")
# Attributes that a method of the optimizer sets, and that its configuration does not contain.
_UNSAVED = ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern")


def make_layerwise(
    optimizer: keras.optimizers.Optimizer,
    factors: Sequence[float],
    rates: float | Mapping[str, float] | None = None,
) -> None:
    """Give the optimizer of a compiled model these factors, in place: its state, and references to it, remain.

    Args:
        optimizer: The optimizer, built or not.
        factors: One factor >= 0 per variable that it updates, or will update.
        rates: What the factors were made from, for variables that join later (`callbacks.Unfreeze`).

    Raises:
        ValueError: as in `layerwise`.
    """
    _check_linear(optimizer, "rates")
    inner = _adopted(optimizer)
    inner.factors, inner.rates = [float(one) for one in factors], _plain(rates)


def adopt_variables(model: keras.Model, variables: Sequence[keras.Variable]) -> None:
    """Make the optimizer of a compiled model know these variables, some of which may be frozen at present, in place.

    Variables that it knew keep their moments, clocks and factors. The others get the factors of the rates that the
    optimizer was made with.

    Args:
        model: Built and compiled.
        variables: The variables of the model, in its order.
    """
    inner, variables = _adopted(model.optimizer), list(variables)
    known = known_variables(inner) if inner.built else []
    if [id(one) for one in known] == [id(one) for one in variables]:
        return
    if inner.begun:
        begun = dict(zip(map(id, known), inner.begun, strict=True))
        inner.begun = [begun.get(id(one), 0) for one in variables]
    if inner.rates is not None:
        inner.factors = rate_factors(model, inner.rates, variables, strict=False)
    elif inner.factors:
        factors = dict(zip(map(id, known), inner.factors, strict=False))
        inner.factors = [factors.get(id(one), 1.0) for one in variables]
    build_optimizer_for(model, variables)


def _adopted(optimizer):
    """The optimizer that makes the updates, whose class has factors from now on."""
    inner = innermost(optimizer)
    if not isinstance(inner, _Layerwise):
        object.__setattr__(inner, "__class__", layerwise_class(type(inner)))
        inner.factors, inner.begun, inner.rates = [], [], None
    return inner


def _plain(rates):
    return {str(key): float(value) for key, value in rates.items()} if isinstance(rates, Mapping) else rates


def begin_updates(optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]) -> None:
    """Start the clock of some variables now: the bias correction of their moments counts their own updates.

    Adam divides its moments by `1 - beta ** step`, as they begin at zero. The moments of a variable that begins to
    learn at step 1000 begin at zero then. Corrected with the optimizer's own step, its first updates would be three
    times as long as Adam's.

    Args:
        optimizer: A built optimizer, made `layerwise`.
        variables: Some of the variables that it was built for. Train functions have to be traced again afterwards.
    """
    inner = innermost(optimizer)
    now, ids = int(ops.convert_to_numpy(inner.iterations)), {id(variable) for variable in variables}
    begun = inner.begun or [0] * len(known_variables(inner))
    inner.begun = [
        now if id(variable) in ids else before
        for variable, before in zip(known_variables(inner), begun, strict=True)
    ]


class _Layerwise:
    """What a class of optimizers gains: `factors` and `begun`, one of each per variable.

    `begun` is the number of updates that the optimizer had made when the variable began to learn (`begin_updates`).
    """

    def __init__(
        self,
        *args: Any,
        factors: Sequence[float] = (),
        begun: Sequence[int] = (),
        rates: float | Mapping[str, float] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        if not all(is_number(one) and one >= 0 for one in factors):
            raise ValueError(
                f"{type(self).__name__} expects factors of 0 or more, one per variable. Received {factors!r}. "
                "Make them with recipes.optimizers.layerwise(optimizer, model, rates)."
            )
        if not all(is_whole(one) and one >= 0 for one in begun):
            raise ValueError(
                f"{type(self).__name__} expects begun as whole numbers of updates. Received {begun!r}. "
                "Leave it out: callbacks.Unfreeze sets it."
            )
        self.factors, self.begun = [float(one) for one in factors], [int(one) for one in begun]
        self.rates = rates

    def build(self, variables: Any) -> None:
        """Make the slots of the variables; there must be one variable per factor."""
        variables = list(variables)
        if not self.built and self.factors and len(self.factors) != len(variables):
            raise ValueError(
                f"{type(self).__name__} expects the {len(self.factors)} variables that its factors were made for. "
                f"Received {len(variables)}. Which layers are trainable has changed since: make the optimizer anew "
                "with recipes.optimizers.layerwise(optimizer, model, rates)."
            )
        super().build(variables)

    @property
    def iterations(self) -> Any:
        """Updates made so far; while a variable is updated, those since it began to learn."""
        count, place = super().iterations, vars(self).get("_place")
        begun = self.begun[place] if place is not None and self.begun else 0
        return count - begun if begun else count

    @property
    def learning_rate(self) -> Any:
        """The common rate; while weight decay is applied, the rate of the variable that decays."""
        rate, factor = super().learning_rate, vars(self).get("_factor", 1.0)
        return rate if factor == 1 else scaled(rate, factor)

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        keras.optimizers.Optimizer.learning_rate.fset(self, value)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Write one update of a variable, at its own rate."""
        place = place_of(self, variable)
        factor = self.factors[place] if self.factors else 1.0
        with _set(self, _place=place):
            super().update_step(
                gradient, variable, learning_rate if factor == 1 else scaled(learning_rate, factor)
            )

    def _apply_weight_decay(self, variables):
        by_factor: dict[float, list[Any]] = {}
        for variable in variables:
            factor = self.factors[place_of(self, variable)] if self.factors else 1.0
            by_factor.setdefault(factor, []).append(variable)
        for factor, group in by_factor.items():
            with _set(self, _factor=factor):
                super()._apply_weight_decay(group)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for the variables that learn at present: those a loaded model will have."""
        factors, begun = list(self.factors), list(self.begun)
        if self.built:
            learn = [getattr(variable, "trainable", True) for variable in known_variables(self)]
            factors, begun = ([one for one, on in zip(row, learn) if on] for row in (factors, begun))  # noqa: B905 - a row may be empty
        rates = _plain(self.rates)
        return {**super().get_config(), "factors": factors, "begun": begun, "rates": rates}

    def add_variable_from_reference(self, reference_variable: Any, *args: Any, **options: Any) -> Any:
        """Make a slot, and remember for which variable."""
        made = super().add_variable_from_reference(reference_variable, *args, **options)
        vars(self).setdefault("_slots_of", {})[id(made)] = reference_variable
        return made

    def save_own_variables(self, store: Any) -> None:
        """Write the state of the variables that learn at present."""
        slots = vars(self).get("_slots_of", {})
        kept = [one for one in self.variables if getattr(slots.get(id(one)), "trainable", True)]
        for place, variable in enumerate(kept):
            store[str(place)] = ops.convert_to_numpy(variable)


def scaled(rate: Any, factor: float) -> Any:
    """A learning rate, variable or tensor, times a factor."""
    return ops.multiply(ops.cast(rate, keras.config.floatx()), factor)


@contextmanager
def _set(optimizer: Any, **values: Any) -> Iterator[None]:
    """Set attributes while an update is being written, past the tracking of Keras and TensorFlow."""
    for name, value in values.items():
        object.__setattr__(optimizer, name, value)
    try:
        yield
    finally:
        for name in values:
            vars(optimizer).pop(name, None)


@functools.cache
def layerwise_class(kind: type) -> type:
    """The class that is `kind` with a factor per variable, registered with Keras as `recipes>Layerwise<Kind>`.

    Args:
        kind: A class of optimizers. Those of `keras.optimizers` are registered by importing `recipes.optimizers`; to
            load a file with one of your own, call this first.

    Returns:
        The class, whose constructor also takes `factors`, `begun` and `rates`; `kind` itself if it is such a class.
    """
    if issubclass(kind, _Layerwise):
        return kind
    name = f"Layerwise{kind.__name__}"
    made = type(
        name, (_Layerwise, kind), {"__module__": __name__, "__doc__": f"{kind.__name__}, a rate per layer."}
    )
    return keras.saving.register_keras_serializable(package="recipes", name=name)(made)


def plain_class(kind: type) -> type:
    """The class of optimizers from which a layerwise one was made; any other class itself."""
    return kind.__mro__[2] if issubclass(kind, _Layerwise) else kind


def _check_linear(optimizer, caller):
    inner = innermost(optimizer)
    kind = plain_class(type(inner))
    several = len(groups(optimizer)) != 1 or kind.__name__ == "MultiOptimizer"
    if several:
        raise ValueError(
            f"{caller} expects an optimizer with one learning rate, which is then multiplied per layer. Received "
            f"{kind.__name__}. Give it one optimizer, such as keras.optimizers.AdamW(1e-3)."
        )
    relative = kind.__name__ == "Adafactor" and inner.relative_step
    if kind.__name__ == "Ftrl" or relative:
        raise ValueError(
            f"{caller} expects an optimizer whose updates are in proportion to its learning rate. Received "
            f"{kind.__name__}{' with relative_step=True' if relative else ''}. "
            f"{'Use Adafactor(rate, relative_step=False)' if relative else 'Use keras.optimizers.AdamW'}."
        )
    if keras.backend.backend() == "torch":
        raise ValueError(
            f"{caller} expects the TensorFlow or JAX backend. Received 'torch', whose optimizers update all variables "
            "in one call. Set KERAS_BACKEND=tensorflow before importing keras."
        )


def _register():
    """Register the classes that a file may name: the optimizers of Keras that have one rate."""
    for name in dir(keras.optimizers):
        kind = getattr(keras.optimizers, name)
        known = isinstance(kind, type) and issubclass(kind, keras.optimizers.Optimizer)
        if known and name not in ("Optimizer", "LossScaleOptimizer", "MultiOptimizer", "Ftrl"):
            layerwise_class(kind)


_register()
