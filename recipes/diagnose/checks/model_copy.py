"""Training steps on trial: with an optimizer of their own, and everything put back afterwards."""

import contextlib
import random
import time
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from recipes.common.memory import forget_train_functions
from recipes.common.models import scope_of
from recipes.common.optimizers import groups, innermost, schedule_of
from recipes.common.patching import replaced
from recipes.common.traversal import layers_of
from recipes.diagnose.checks.output_task import own_step
from recipes.diagnose.checks.trial_step import trial_step


@contextlib.contextmanager
def untouched(model: keras.Model) -> Iterator[keras.Model]:
    """Put weights, metrics, seed generators and the global generators back after a `with` block.

    Restores every variable of the model and its metrics bit for bit, also after an exception or Ctrl-C. The
    optimizer's variables are put back too, should the block have changed them.

    Args:
        model: A built `keras.Model`.
    """
    before = _values(model)
    generators = random.getstate(), np.random.get_state()  # noqa: NPY002 - the reader's own
    # Keras' own global generator, made when something first draws from it; there is no public way to it.
    shared = keras.src.backend.common.global_state.get_global_attribute("global_seed_generator")
    shared_state = None if shared is None else keras.ops.copy(shared.state.value)
    try:
        yield model
    finally:
        for variable, value in before:
            variable.assign(value)
        metrics = {id(variable) for variable, _ in before}
        for variable in _variables(model):
            if (
                id(variable) not in metrics
            ):  # made inside the block: a metric that was built by its first batch
                variable.assign(keras.ops.zeros_like(variable.value))
        if shared_state is not None:
            shared.state.assign(shared_state)
        random.setstate(generators[0])
        np.random.set_state(generators[1])  # noqa: NPY002


class Trial:
    """Runs the model's training step on batches of choice, and forgets all about it at the end.

    Use as `with Trial(model) as trial:`. Steps write the model's own weights; leaving the block restores them,
    `rewind` does so in between. The reader's optimizer is never used: the trial has a copy of it, without
    weight decay when `regularized` is False.

    Args:
        model: A compiled, built `keras.Model`. A `train_step` of its own is honoured.
        regularized: False leaves out penalties, weight decay and dropout.
        learning_rate: Rate of the copy; None takes the reader's, for a schedule its largest. Of an optimizer with
            several rates, one a group of weights, the largest: the others keep their ratio to it.
    """

    def __init__(
        self, model: keras.Model, *, regularized: bool = True, learning_rate: float | None = None
    ) -> None:
        self.model, self.regularized = model, regularized
        self._given_rate = learning_rate
        self.own_step = own_step(model)
        self._stack = None
        self._calls = []
        self.told = None

    def __enter__(self) -> "Trial":
        model = self.model
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(untouched(model))
        try:
            with scope_of(model):
                self.optimizer = copied(model.optimizer, weight_decay=self.regularized)
                self.optimizer.build(model.trainable_variables)
            self.learning_rate = self._given_rate or usual_rate(model.optimizer)
            rates = [usual_rate(one) for one in groups(model.optimizer)]
            largest = max(rates) or 1.0
            copies = groups(self.optimizer) if len(rates) > 1 else [self.optimizer]
            self._rates = [(one, rate / largest) for one, rate in zip(copies, rates, strict=True)]
            self._variables = [*model.variables, *self.optimizer.variables]
            self._start = [keras.ops.copy(variable.value) for variable in self._variables]
            self._function = trial_step(self)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
        self._function = None
        forget_train_functions()

    @property
    def compile_seconds(self) -> float:
        """How much longer the first step took than the shortest of the others: tracing and compiling."""
        return self._calls[0] - min(self._calls[1:]) if len(self._calls) > 1 else 0.0

    def step(self, batch: tuple, learning_rate: float | None = None) -> tuple[float, Any]:
        """One training step.

        Args:
            batch: `(inputs, labels, weights)`, weights or None.
            learning_rate: Of this step; None takes the trial's.

        Returns:
            `(loss, outputs)`: float, of this batch alone; the outputs as numpy, or None for a custom step.
        """
        rate = self.learning_rate if learning_rate is None else learning_rate
        for optimizer, share in self._rates:
            optimizer.learning_rate.assign(rate if len(self._rates) == 1 else rate * share)
        batch = keras.tree.map_structure(
            keras.ops.convert_to_tensor, tuple(part for part in batch if part is not None)
        )
        if self.own_step:
            self.model.reset_metrics()  # so that its running mean is of this batch alone
        start = time.monotonic()
        with self._hooks():
            loss, outputs = self._function(batch)
        if self.told is not None:
            raise NoLossError(f"the training step is your own and returns no single loss, but {self.told}")
        loss = float(loss)
        self._calls.append(time.monotonic() - start)
        outputs = None if outputs is None else keras.tree.map_structure(keras.ops.convert_to_numpy, outputs)
        return loss, outputs

    def rewind(self) -> None:
        """Back to the weights and the optimizer state of the beginning."""
        for variable, value in zip(self._variables, self._start, strict=True):
            variable.assign(value)

    def _hooks(self):
        swaps = [(self.model, "optimizer", self.optimizer)] if self.own_step else []
        if not self.regularized:
            swaps += [(layer, "rate", 0.0) for layer in dropping_layers(self.model)]
        return replaced(swaps)


class NoLossError(ValueError):
    """A training step that tells no loss."""


def why_not_tried(model: keras.Model) -> str:
    """Why training steps on trial cannot be made, as half a sentence; "" where they can."""
    if len(optimizers_of(model)) > 1:
        return f"the training step is your own and has {len(optimizers_of(model))} optimizers"
    if model.optimizer is None:
        return "the model has no optimizer"
    return ""


def usual_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """The optimizer's learning rate, >= 0; the largest of several, or of a schedule over 10,000 steps.

    Raises:
        AttributeError, TypeError, ValueError: for a rate that is no number.
    """
    if len(groups(optimizer)) > 1:
        return max(usual_rate(one) for one in groups(optimizer))
    schedule = schedule_of(optimizer)
    if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        steps = np.unique(np.geomspace(1, 10_000, 50).astype("int64")) - 1
        return max(float(keras.ops.convert_to_numpy(schedule(int(step)))) for step in steps)
    return float(keras.ops.convert_to_numpy(innermost(optimizer).learning_rate))


def copied(optimizer: keras.optimizers.Optimizer, *, weight_decay: bool = True) -> keras.optimizers.Optimizer:
    """An optimizer with the same settings, a plain learning rate and no state.

    Args:
        optimizer: Perhaps inside a `LossScaleOptimizer`, or a `MultiOptimizer`; what is inside is copied too.
        weight_decay: False leaves the decay out.
    """
    inner = innermost(optimizer)
    if inner is not optimizer:
        outer = type(optimizer)(copied(inner, weight_decay=weight_decay))
        outer.initial_scale = optimizer.initial_scale
        return outer
    if len(groups(optimizer)) > 1:
        return _copied_groups(optimizer, weight_decay)
    settings = {**optimizer.get_config(), "learning_rate": usual_rate(optimizer)}
    settings.pop("gradient_accumulation_steps", None)  # a trial's steps all write
    if not weight_decay and settings.get("weight_decay"):
        settings["weight_decay"] = 0.0 if "W" in type(optimizer).__name__ else None
    return type(optimizer).from_config(settings)


def _copied_groups(optimizer, weight_decay):
    """A `MultiOptimizer` with a copy of every optimizer for the weights that it has."""
    copies = {id(one): copied(one, weight_decay=weight_decay) for one in groups(optimizer)}
    chosen = optimizer._optimizer_map  # noqa: SLF001 - Keras has no public way to which optimizer has which weights
    twin = keras.optimizers.MultiOptimizer(
        lambda variable: copies[id(chosen(variable))], loss_scale_factor=optimizer.loss_scale_factor
    )
    twin._inner_optimizers = [*copies.values()]  # noqa: SLF001 - in the order of the original's
    return twin


def dropping_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Layers that drop or add noise at a `rate` in training: dropout, DropConnect, stochastic depth."""
    return [
        layer
        for layer in layers_of(model)
        if isinstance(getattr(layer, "rate", None), (int, float)) and hasattr(layer, "seed_generator")
    ]


def optimizers_of(model: keras.Model) -> list[keras.optimizers.Optimizer]:
    """The optimizer that was compiled, and others that the model holds for a training step of its own."""
    held = [value for value in vars(model).values() if isinstance(value, keras.optimizers.Optimizer)]
    compiled = getattr(model, "optimizer", None)
    return list({id(o): o for o in [compiled, *held] if o is not None}.values())


def _variables(model):
    found = [*model.variables, *model.metrics_variables]
    for optimizer in optimizers_of(model):
        found += optimizer.variables
    return found


def _values(model):
    # A copy on the device: the value of a variable is overwritten in place.
    return [(variable, keras.ops.copy(variable.value)) for variable in _variables(model)]
