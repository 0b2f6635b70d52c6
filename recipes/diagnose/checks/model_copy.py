"""Trial training steps with a copy of the optimizer, after which the model is restored."""

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
    """Restore weights, metrics, seed generators and the global random generators after a `with` block.

    Every variable of the model, its metrics and its optimizers is restored bit for bit, also after an exception or
    Ctrl-C.

    Args:
        model: A built `keras.Model`.
    """
    before = _values(model)
    generators = random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's own
    # Keras' global seed generator, which exists from the first draw on; there is no public access to it.
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
            ):  # created inside the block, as by a metric that builds itself on its first batch
                variable.assign(keras.ops.zeros_like(variable.value))
        if shared_state is not None:
            shared.state.assign(shared_state)
        random.setstate(generators[0])
        np.random.set_state(generators[1])  # noqa: NPY002


class Trial:
    """Runs the model's training step on given batches, and restores the model at the end.

    Use it as `with Trial(model) as trial:`. Steps change the model's own weights; leaving the block restores them, and
    so does `rewind` inside the block. The model's optimizer is never used: the trial has a copy of it.

    Args:
        model: A compiled, built `keras.Model`. If it has its own `train_step`, that is used.
        regularized: False leaves out penalties, weight decay and dropout.
        learning_rate: Learning rate of the copy, > 0. None takes that of the model's optimizer, or the largest of its
            schedule. If groups of weights have different rates, this is the largest, and the others keep their ratio to
            it.

    Attributes:
        optimizer: The copy of the optimizer, inside the block.
        learning_rate: The learning rate of steps for which none is given.
        told: What a custom training step returned in place of a single loss, in words; None where it returned a loss.
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
        """Seconds of tracing and compiling: the time of the first step minus that of the shortest other one."""
        return self._calls[0] - min(self._calls[1:]) if len(self._calls) > 1 else 0.0

    def step(self, batch: tuple, learning_rate: float | None = None) -> tuple[float, Any]:
        """Make one training step.

        Args:
            batch: `(inputs, labels, weights)`, where weights may be None.
            learning_rate: Learning rate of this step, >= 0; None takes that of the trial.

        Returns:
            `(loss, outputs)`: the loss of this batch alone, a float, and the outputs as numpy arrays, or None for a
            custom training step.

        Raises:
            NoLossError: when a custom training step returns no single loss.
        """
        rate = self.learning_rate if learning_rate is None else learning_rate
        for optimizer, share in self._rates:
            optimizer.learning_rate.assign(rate if len(self._rates) == 1 else rate * share)
        batch = keras.tree.map_structure(
            keras.ops.convert_to_tensor, tuple(part for part in batch if part is not None)
        )
        if self.own_step:
            self.model.reset_metrics()  # so that the running mean of the loss holds this batch alone
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
        """Restore the weights and the optimizer state of the beginning."""
        for variable, value in zip(self._variables, self._start, strict=True):
            variable.assign(value)

    def _hooks(self):
        swaps = [(self.model, "optimizer", self.optimizer)] if self.own_step else []
        if not self.regularized:
            swaps += [(layer, "rate", 0.0) for layer in dropping_layers(self.model)]
        return replaced(swaps)


class NoLossError(ValueError):
    """A custom training step returned no single loss."""


def why_not_tried(model: keras.Model) -> str:
    """Why trial training steps are not possible, as half a sentence; "" where they are."""
    if len(optimizers_of(model)) > 1:
        return f"the training step is your own and has {len(optimizers_of(model))} optimizers"
    if model.optimizer is None:
        return "the model has no optimizer"
    return ""


def usual_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """The learning rate of an optimizer, >= 0: the largest of several, or of a schedule over 10,000 steps.

    Raises:
        AttributeError, TypeError or ValueError: for a rate that is not a number.
    """
    if len(groups(optimizer)) > 1:
        return max(usual_rate(one) for one in groups(optimizer))
    schedule = schedule_of(optimizer)
    if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        steps = np.unique(np.geomspace(1, 10_000, 50).astype("int64")) - 1
        return max(float(keras.ops.convert_to_numpy(schedule(int(step)))) for step in steps)
    return float(keras.ops.convert_to_numpy(innermost(optimizer).learning_rate))


def copied(optimizer: keras.optimizers.Optimizer, *, weight_decay: bool = True) -> keras.optimizers.Optimizer:
    """Copy an optimizer with its settings, but with a constant learning rate and no state.

    Args:
        optimizer: Any optimizer, also a `LossScaleOptimizer` or a `MultiOptimizer`, whose inner ones are copied too.
        weight_decay: False makes a copy without weight decay.
    """
    inner = innermost(optimizer)
    if inner is not optimizer:
        outer = type(optimizer)(copied(inner, weight_decay=weight_decay))
        outer.initial_scale = optimizer.initial_scale
        return outer
    if len(groups(optimizer)) > 1:
        return _copied_groups(optimizer, weight_decay)
    settings = {**optimizer.get_config(), "learning_rate": usual_rate(optimizer)}
    settings.pop("gradient_accumulation_steps", None)  # every step of a trial updates the weights
    if not weight_decay and settings.get("weight_decay"):
        settings["weight_decay"] = 0.0 if "W" in type(optimizer).__name__ else None
    return type(optimizer).from_config(settings)


def _copied_groups(optimizer, weight_decay):
    """A `MultiOptimizer` with copies of all inner optimizers, each for the same weights as the original."""
    copies = {id(one): copied(one, weight_decay=weight_decay) for one in groups(optimizer)}
    chosen = optimizer._optimizer_map  # noqa: SLF001 - Keras has no public way to which optimizer has which weights
    twin = keras.optimizers.MultiOptimizer(
        lambda variable: copies[id(chosen(variable))], loss_scale_factor=optimizer.loss_scale_factor
    )
    twin._inner_optimizers = [*copies.values()]  # noqa: SLF001 - in the order of the original's
    return twin


def dropping_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Layers that drop units or add noise at a `rate` in training: dropout, DropConnect, stochastic depth."""
    return [
        layer
        for layer in layers_of(model)
        if isinstance(getattr(layer, "rate", None), (int, float)) and hasattr(layer, "seed_generator")
    ]


def optimizers_of(model: keras.Model) -> list[keras.optimizers.Optimizer]:
    """The compiled optimizer, and others that are attributes of the model, as for a custom training step."""
    held = [value for value in vars(model).values() if isinstance(value, keras.optimizers.Optimizer)]
    compiled = getattr(model, "optimizer", None)
    return list({id(o): o for o in [compiled, *held] if o is not None}.values())


def _variables(model):
    found = [*model.variables, *model.metrics_variables]
    for optimizer in optimizers_of(model):
        found += optimizer.variables
    return found


def _values(model):
    # Copied on the device, as the value of a variable is overwritten in place.
    return [(variable, keras.ops.copy(variable.value)) for variable in _variables(model)]
