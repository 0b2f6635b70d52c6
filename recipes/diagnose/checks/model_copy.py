"""Training steps on trial: with an optimizer of their own, and everything put back afterwards."""

import contextlib
import random

import keras
import numpy as np
import tensorflow as tf

from recipes.common.optimizers import innermost, rate_of, schedule_of
from recipes.common.patching import replaced
from recipes.common.traversal import layers_of


@contextlib.contextmanager
def untouched(model):
    """Put weights, metrics, seed generators and the global generators back after a `with` block.

    Restores every variable of the model and its metrics bit for bit, also after an exception or Ctrl-C. The
    optimizer's variables are put back too, should the block have changed them.

    Args:
        model: A built `keras.Model`.
    """
    optimizer = getattr(model, "optimizer", None)
    before = _values(model, optimizer)
    generators = random.getstate(), np.random.get_state()  # noqa: NPY002 - the reader's own
    # Keras' own global generator, made when something first draws from it; there is no public way to it.
    shared = keras.src.backend.common.global_state.get_global_attribute("global_seed_generator")
    shared_state = None if shared is None else shared.state.numpy()
    try:
        yield model
    finally:
        for variable, value in before:
            variable.assign(value)
        metrics = {id(variable) for variable, _ in before}
        for variable in _variables(model, optimizer):
            if (
                id(variable) not in metrics
            ):  # made inside the block: a metric that was built by its first batch
                variable.assign(tf.zeros_like(variable.value))
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
        learning_rate: Rate of the copy; None takes the reader's, for a schedule its largest.
    """

    def __init__(self, model, *, regularized=True, learning_rate=None):
        self.model, self.regularized = model, regularized
        self._given_rate = learning_rate
        self._own_step = type(model).train_step is not keras.Model.train_step and "train_step" in dir(model)
        self._stack = None

    def __enter__(self):
        model = self.model
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(untouched(model))
        try:
            self.optimizer = copied(model.optimizer, weight_decay=self.regularized)
            self.optimizer.build(model.trainable_variables)
            self.learning_rate = self._given_rate or usual_rate(model.optimizer)
            self._variables = [*model.variables, *self.optimizer.variables]
            self._start = [tf.identity(variable.value) for variable in self._variables]
            self._function = tf.function(self._step, reduce_retracing=True)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *error):
        self._stack.close()
        self._function = None

    def step(self, batch, learning_rate=None):
        """One training step.

        Args:
            batch: `(inputs, labels, weights)`, weights or None.
            learning_rate: Of this step; None takes the trial's.

        Returns:
            `(loss, outputs)`: float, of this batch alone; the outputs as numpy, or None for a custom step.
        """
        self.optimizer.learning_rate.assign(self.learning_rate if learning_rate is None else learning_rate)
        batch = keras.tree.map_structure(
            tf.convert_to_tensor, tuple(part for part in batch if part is not None)
        )
        if self._own_step:
            self.model.reset_metrics()  # so that its running mean is of this batch alone
        with self._hooks():
            loss, outputs = self._function(batch)
        outputs = (
            None if outputs is None else keras.tree.map_structure(lambda output: output.numpy(), outputs)
        )
        return float(loss), outputs

    def rewind(self):
        """Back to the weights and the optimizer state of the beginning."""
        for variable, value in zip(self._variables, self._start, strict=True):
            variable.assign(value)

    def _hooks(self):
        swaps = [(self.model, "optimizer", self.optimizer)] if self._own_step else []
        if not self.regularized:
            swaps += [(layer, "rate", 0.0) for layer in dropping_layers(self.model)]
        return replaced(swaps)

    def _step(self, batch):
        model = self.model
        if self._own_step:
            return model.train_step(batch)["loss"], None
        inputs, labels, weights = keras.utils.unpack_x_y_sample_weight(batch)
        with tf.GradientTape() as tape:
            outputs = model(inputs, training=True)
            loss = model.compute_loss(
                x=inputs, y=labels, y_pred=outputs, sample_weight=weights, training=True
            )
            if not self.regularized and model.losses:
                loss -= tf.cast(tf.add_n(model.losses), loss.dtype)
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, model.trainable_variables)
        pairs = [(g, v) for g, v in zip(gradients, model.trainable_variables, strict=True) if g is not None]
        self.optimizer.apply_gradients(pairs)
        return loss, outputs


def usual_rate(optimizer):
    """The optimizer's learning rate; of a schedule the largest over its first 10 000 steps."""
    schedule = schedule_of(optimizer)
    if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        steps = np.unique(np.geomspace(1, 10_000, 50).astype("int64")) - 1
        return max(float(keras.ops.convert_to_numpy(schedule(int(step)))) for step in steps)
    return rate_of(optimizer)


def copied(optimizer, *, weight_decay=True):
    """An optimizer with the same settings, a plain learning rate and no state."""
    inner = innermost(optimizer)
    if inner is not optimizer:
        outer = type(optimizer)(copied(inner, weight_decay=weight_decay))
        outer.initial_scale = optimizer.initial_scale
        return outer
    settings = {**optimizer.get_config(), "learning_rate": usual_rate(optimizer)}
    settings.pop("gradient_accumulation_steps", None)  # a trial's steps all write
    if not weight_decay and settings.get("weight_decay"):
        settings["weight_decay"] = 0.0 if "W" in type(optimizer).__name__ else None
    return type(optimizer).from_config(settings)


def dropping_layers(model):
    """Layers that drop or add noise at a `rate` in training: dropout, DropConnect, stochastic depth."""
    return [
        layer
        for layer in layers_of(model)
        if isinstance(getattr(layer, "rate", None), (int, float)) and hasattr(layer, "seed_generator")
    ]


def built(model, sample):
    """Build a model that has no variables yet, as the first step of `fit` would."""
    if not model.built:
        model(keras.tree.map_structure(tf.convert_to_tensor, sample.batches[0][0]))


def _variables(model, optimizer):
    found = [*model.variables, *model.metrics_variables]
    return found if optimizer is None else [*found, *optimizer.variables]


def _values(model, optimizer):
    # A copy on the device: the value of a variable is overwritten in place.
    return [(variable, tf.identity(variable.value)) for variable in _variables(model, optimizer)]
