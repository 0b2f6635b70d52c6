"""Stop at the first NaN or infinite loss, and say which layer it came from."""

import sys
import warnings
from dataclasses import dataclass

import keras
import numpy as np

from recipes.callbacks.monitor import Monitor
from recipes.common.validation import is_number, is_whole


class NonFiniteError(RuntimeError):
    """Training was stopped because the loss, or the weights, are no longer finite numbers."""


@dataclass(frozen=True)
class NonFinite:
    """Where the first number that was not finite was found.

    `what` is "input", "target", "sample_weight", "weights", "output", "loss" or "update"; `layer` the layer's
    name, "" for the first three and "loss". `exact` is True when every step before was seen to be finite.
    """

    step: int
    epoch: int
    what: str
    layer: str
    exact: bool

    def __str__(self):
        return {
            "input": "the input of the batch holds NaN or infinite numbers",
            "target": "the targets of the batch hold NaN or infinite numbers",
            "sample_weight": "the sample weights of the batch hold NaN or infinite numbers",
            "weights": f"the weights of layer {self.layer!r} were not finite before the step",
            "output": f"the output of layer {self.layer!r} is the first in forward order that is not finite",
            "loss": "every layer's output is finite, but the loss is not",
            "update": f"the step made the weights of layer {self.layer!r} not finite",
        }[self.what]


_REMEDIES = {
    "input": "Clean the data set, or drop such samples with dataset.filter",
    "target": "Clean the targets",
    "sample_weight": "Clean the sample weights",
    "weights": "NonFiniteGuard(every_steps=1) finds the step and layer where it began",
    "output": "Lower the learning rate, clip gradients (clipnorm=1.0), or keep logs and divisions away from 0",
    "loss": "Use a loss with from_logits=True, or keep predictions away from 0 and 1",
    "update": "Clip gradients (clipnorm=1.0) or lower the learning rate",
}


class NonFiniteGuard(Monitor):
    """Stop at the first loss that is not finite, and name where it came from.

    With `every_steps=1` each step is checked, the loss and every layer's output and weights, in a train function of
    its own (its cost is measured in `benchmarks/monitors.py`), and what it names is exact. Otherwise a NaN loss is
    seen in the logs of the step, as `keras.callbacks.TerminateOnNaN` sees it, the next step is probed, and what is
    named is the first thing that step shows: by then a NaN has often spread to all weights. Under
    `steps_per_execution` > 1 the last step of an execution is looked at. A loss that clips its input may stay
    finite when the network is not: weights that are not finite stop the training too.

    Named is the input (or target) if that is not finite, else the first layer in forward order whose weights
    or output are not. Where TensorFlow merges a layer with the activation behind it, the activation's output stands
    for both. Layers that were infinite while the loss was finite (a mask of -inf) are passed over. Gradients that
    overflow under loss scaling are normal and do not count.

    Args:
        restore: Instead of stopping, put back the last good weights and optimizer state and multiply the learning
            rate by `factor`; stop after `most_restores`. Memory: one copy of model and optimizer. Time: that copy,
            and a check that it is finite, every `copy_every` steps.
        factor: What the learning rate is multiplied by, in (0, 1). Place the guard behind a callback that sets
            the rate: what that one sets is then lowered by the same factor.
        most_restores: Restores before it gives up and stops.
        copy_every: Steps between copies.
        **options: `every_steps`, `budget`, `samples`, `log_dir`, `strict`, see `Monitor`.

    Attributes:
        finding: What was found, a `NonFinite`, or None.
        restores: How many times weights were put back.

    Stopping sets `model.stop_training`. In a fit with `keras.callbacks.BackupAndRestore`, or a `ModelCheckpoint` that
    overwrites one file at each save, it raises `NonFiniteError` instead: after a quiet stop Keras would save the
    broken weights over the good ones and delete the backup.

    Logs `monitor/non_finite`: 1 in an epoch with a number that was not finite, else 0.

    Raises:
        ValueError: with `restore=True` when the optimizer's rate is a schedule, which cannot be lowered.

    Example:
        >>> guard = NonFiniteGuard(every_steps=1)
        >>> model.fit(images, labels, epochs=5, callbacks=[guard])
        >>> print(guard.finding)
    """

    quantities = frozenset({"finite"})
    keys = ("monitor/non_finite",)
    async_safe = True  # on_train_batch_end only sets a flag, so Keras may call it from its thread

    def __init__(self, *, restore=False, factor=0.1, most_restores=3, copy_every=100, **options):
        super().__init__(**options)
        known = is_number(factor) and is_whole(most_restores) and is_whole(copy_every)
        if not known or not 0 < factor < 1 or most_restores < 1 or copy_every < 1:
            raise ValueError(
                "NonFiniteGuard expects factor in (0, 1), most_restores >= 1 and copy_every >= 1. "
                f"Received factor={factor}, most_restores={most_restores}, copy_every={copy_every}. "
                "The defaults are 0.1, 3 and 100."
            )
        self.restore = restore
        self.factor = factor
        self.most_restores = most_restores
        self.copy_every = copy_every
        self.checks_every_step = self.every_steps == 1
        self.finding = None
        self.restores = 0

    def on_train_begin(self, logs=None):
        fit = sys._getframe(1).f_locals.get("self")
        self._others = fit.callbacks if isinstance(fit, keras.callbacks.CallbackList) else []
        super().on_train_begin(logs)
        rate = getattr(
            getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer), "_learning_rate", None
        )
        if self.restore and isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            raise ValueError(
                "NonFiniteGuard(restore=True) expects an optimizer whose learning rate can be lowered. "
                f"Received a {type(rate).__name__} inside it. Compile with a number and give the schedule to "
                "recipes.callbacks.LearningRate, placed before the guard."
            )

    def reset(self):
        self.finding = None
        self.restores = 0
        self._new = self._loss_alarm = self._stale_logs = False
        self._seen_this_epoch = False
        self._asked_at = None  # the step from which a probe answers an alarm of the loss
        self._usual = None
        self._good = None
        self._lowered = 1.0
        self._own_rate = None
        self._batches = 0

    def on_train_batch_begin(self, batch, logs=None):
        if self._loss_alarm and not self._new:
            self._hub.probe_next()
            self._hub.alarm()
            self._asked_at = self._hub.step + 1
        super().on_train_batch_begin(batch, logs)
        if self.restore:
            self._lower_rate()
            if self._batches % self.copy_every == 0 and not self._loss_alarm and self.model.built:
                self._copy()
        self._batches += 1

    def on_train_batch_end(self, batch, logs=None):
        loss, stale = (logs or {}).get("loss"), self._stale_logs
        self._stale_logs = False
        if loss is not None and not np.isfinite(loss) and not stale and not self.checks_every_step:
            self._loss_alarm = True

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        if self._loss_alarm and self.finding is None:  # it was the epoch's last step: no other to probe
            self._find_in_weights(epoch)
        self.act()
        self._seen_this_epoch = self._stale_logs = False

    def checked(self, values):
        """Learn which layers are infinite while the loss is not."""
        if float(values["alarm"]) == 0:
            odd = np.asarray(values["output_finite"]) < 1
            self._usual = odd if self._usual is None else self._usual | odd

    def on_probe(self, probe):
        values = probe.values
        healthy = np.isfinite(values["loss"]) and values["update_finite"].all()
        if healthy and not (self._asked_at is not None and probe.step >= self._asked_at):
            odd = ~values["output_finite"]
            self._usual = odd if self._usual is None else self._usual | odd
        elif not self._new and (self.finding is None or self.restores):
            what, layer = self._first(values)
            exact = self.checks_every_step and self.model.steps_per_execution == 1 and what != "weights"
            self.finding = NonFinite(probe.step, probe.epoch, what, layer, exact)
            self._new = self._seen_this_epoch = True
            self._hub.alarm()

    def act(self):
        """Restore, or stop, on what was found."""
        if not self._new:
            return
        self._new = self._loss_alarm = False
        self._asked_at = None
        if self.restore and self._good is not None and self.restores < self.most_restores:
            self._put_back()
            return
        text = (
            f"NonFiniteGuard expects finite numbers. Received at epoch {self.finding.epoch}, step {self.finding.step}: "
            f"{self.finding}. {_REMEDIES[self.finding.what]}."
        )
        if any(_overwrites(callback) for callback in self._others):
            raise NonFiniteError(text + " (Raised, and not stopped, so that Keras keeps the backup.)")
        warnings.warn(text, stacklevel=2)
        self.model.stop_training = True

    def summarize(self, epoch):
        return {self.keys[0]: float(self._seen_this_epoch or self._loss_alarm)}

    @property
    def broken(self):
        """Whether training stopped at what was found, so that the model's weights are no good."""
        return self.finding is not None and bool(self.model.stop_training)

    def monitor_state(self):
        return {"restores": self.restores, "lowered": self._lowered}

    def set_monitor_state(self, state):
        self.restores, self._lowered = state["restores"], state["lowered"]

    def plot(self):
        """Draw which layers were finite at which probe, as a `matplotlib.figure.Figure`."""
        from recipes import plot

        return plot.finite_layers(self.record)

    def _first(self, values):
        inputs, axes = values["input_finite"], self.record.axes
        if not inputs[0]:
            return "input", ""
        broken = {str(axes["variables"]["layer"][i]) for i in np.flatnonzero(~values["weight_finite"])}
        for i, layer in enumerate(axes["layers"]["layer"].tolist()):
            if layer in broken:
                return "weights", layer
            if not values["output_finite"][i] and not (self._usual is not None and self._usual[i]):
                return "output", layer
        if broken:
            return "weights", min(broken)
        for name, fine in zip(("target", "sample_weight"), inputs[1:], strict=True):
            if not fine:
                return name, ""
        changed = np.flatnonzero(~values["update_finite"])
        if not (np.isfinite(values["loss"]) and changed.size):
            return "loss", ""  # of this step, or of the one before, which left no trace
        first = changed[np.argmin(axes["variables"]["depth"][changed])]
        return "update", str(axes["variables"]["layer"][first])

    def _find_in_weights(self, epoch):
        from recipes.common.traversal import variable_owners

        broken = [v for v in self.model.trainable_variables if not np.isfinite(v.numpy()).all()]
        layer = variable_owners(self.model)[id(broken[0])][0] if broken else ""
        self.finding = NonFinite(self._hub.step, epoch, "weights" if broken else "loss", layer, False)
        self._new = self._seen_this_epoch = True

    def _variables(self):
        optimizer = self.model.optimizer
        kept = [*self.model.variables, *optimizer.variables]
        return [
            v for v in kept if "float" in str(v.dtype) and v.name not in ("learning_rate", "dynamic_scale")
        ]

    def _copy(self):
        import tensorflow as tf

        copies = [(v, tf.identity(v.value)) for v in self._variables()]
        if all(bool(tf.reduce_all(tf.math.is_finite(value))) for _, value in copies):
            self._good = copies

    def _put_back(self):
        for variable, value in self._good:
            variable.assign(value)
        self.restores += 1
        self._stale_logs = True  # those of this step still hold the loss that was not finite
        self._lowered *= self.factor
        self.model.reset_metrics()  # the epoch's running mean would stay NaN
        self._lower_rate(now=True)
        warnings.warn(
            f"NonFiniteGuard expects finite numbers. Received at epoch {self.finding.epoch}, step {self.finding.step}: "
            f"{self.finding}. Went back to the last good weights with {self._lowered:g} times the learning rate "
            f"(restore {self.restores} of {self.most_restores}).",
            stacklevel=2,
        )

    def _lower_rate(self, now=False):
        if self._lowered == 1:
            return
        optimizer = self.model.optimizer
        rate = _rate_of(optimizer)
        if now:
            optimizer.learning_rate = rate * self.factor
        elif rate != self._own_rate:  # another callback has set it since
            optimizer.learning_rate = rate * self._lowered
        self._own_rate = _rate_of(optimizer)


def _rate_of(optimizer):
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def _overwrites(callback):
    if isinstance(callback, keras.callbacks.BackupAndRestore):
        return True
    return (
        isinstance(callback, keras.callbacks.ModelCheckpoint)
        and not callback.save_best_only
        and "{" not in str(callback.filepath)
    )
