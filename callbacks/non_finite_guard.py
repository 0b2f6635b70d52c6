"""Stop at the first NaN or infinite loss, and say which layer it came from."""

import contextlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from recipes.callbacks.monitor import Monitor
from recipes.callbacks.rate_driver import Logs
from recipes.common.optimizers import is_scheduled, rates_of, scale_rates, schedule_of
from recipes.common.patching import wrapped
from recipes.common.traversal import variable_owners
from recipes.common.validation import is_number, is_whole

if TYPE_CHECKING:
    import matplotlib.figure

    from recipes.probe import Probe


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
    """Stop at the first loss that is not finite, and say where it came from.

    With `every_steps=1` each step is checked (the loss, and the output and weights of every layer) in a train function
    of its own, and the layer it names is exact; `benchmarks/monitors.py` measures the cost. Otherwise a NaN loss is
    seen in the logs of the step, as `keras.callbacks.TerminateOnNaN` sees it. Then the next step is probed, and the
    guard names the first thing that is not finite there: by then a NaN has often spread to all weights. Under
    `steps_per_execution` > 1 the last step of an execution is looked at. A loss that clips its input may stay finite
    when the network is not: weights that are not finite stop the training too.

    The guard names the input (or target) if that is not finite, else the first layer in forward order whose weights or
    output are not. Where TensorFlow merges a layer with the activation behind it, the activation's output stands for
    both. Layers whose output was infinite while the loss was finite (a mask of -inf) are passed over. Gradients that
    overflow under loss scaling are normal and do not count.

    Args:
        restore: Instead of stopping, put back the last good weights and optimizer state and multiply the learning
            rate by `factor`; stop after `most_restores`. Memory: one copy of model and optimizer. Time: that copy,
            and a check that it is finite, every `copy_every` steps.
        factor: What the learning rate is multiplied by, in (0, 1). Place the guard after a callback that sets the rate:
            what that callback sets is then lowered by the same factor.
        most_restores: Restores before it gives up and stops, >= 1.
        copy_every: Steps between copies, >= 1.
        **options: `every_steps`, `budget`, `samples`, `log_dir`, `strict`, see `Monitor`.

    Attributes:
        finding: What was found, a `NonFinite`, or None.
        restores: How many times weights were put back.

    A loss is what has "loss" in its name in the step's logs: "loss", "d_loss", "kl_loss". At the end of each epoch the
    weights are looked at too, which is the only check for a custom `train_step` that logs no loss.

    Stopping sets `model.stop_training`. From then until the fit ends, saving the model over a file that exists raises
    `NonFiniteError`: so `keras.callbacks.BackupAndRestore`, or a `ModelCheckpoint` that overwrites one file, does not
    put broken weights in the place of good ones. Place the guard before callbacks that save.

    Logs `monitor/non_finite`: 1 for an epoch with a number that was not finite, 0 when all that was looked at was
    finite, NaN when nothing could be looked at.

    Raises:
        ValueError: for arguments outside their ranges; on_train_begin, with `restore=True`, when the optimizer's rate
            is a schedule, which cannot be lowered.

    Example:
        >>> guard = NonFiniteGuard(every_steps=1)
        >>> model.fit(images, labels, epochs=5, callbacks=[guard])
        >>> print(guard.finding)
    """

    quantities = frozenset({"finite"})
    keys = ("monitor/non_finite",)
    async_safe = True  # on_train_batch_end only sets a flag, so Keras may call it from its thread

    def __init__(
        self,
        *,
        restore: bool = False,
        factor: float = 0.1,
        most_restores: int = 3,
        copy_every: int = 100,
        **options: Any,
    ) -> None:
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
        self._guarding = contextlib.ExitStack()

    def on_train_begin(self, logs: Logs = None) -> None:
        super().on_train_begin(logs)
        if self.restore and is_scheduled(self.model.optimizer):
            schedule = type(schedule_of(self.model.optimizer)).__name__
            raise ValueError(
                "NonFiniteGuard(restore=True) expects an optimizer whose learning rate can be lowered. "
                f"Received a {schedule} inside it. Compile with a number and give the schedule to "
                "recipes.callbacks.LearningRate, placed before the guard."
            )

    def reset(self) -> None:
        self.finding = None
        self.restores = 0
        self._new = self._loss_alarm = self._stale_logs = False
        self._seen_this_epoch = self._looked = False
        self._asked_at = None  # the step from which a probe answers an alarm of the loss
        self._usual = None
        self._good = None
        self._lowered = 1.0
        self._own_rates = []
        self._guarding.close()
        self._batches = 0

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
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

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        losses, stale = _losses(logs), self._stale_logs
        self._stale_logs = False
        self._looked |= bool(losses)
        if not stale and not self.checks_every_step and not all(np.isfinite(loss) for loss in losses):
            self._loss_alarm = True

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._hub_ends_epoch()
        # An alarm in the epoch's last step leaves no other to probe; and not every loss tells of broken weights.
        if not self._new and not (self.checks_every_step and self._looked):
            self._guarded(self._find_in_weights, epoch)
        super().on_epoch_end(epoch, logs)
        self.act()
        self._seen_this_epoch = self._stale_logs = self._looked = False

    def on_train_end(self, logs: Logs = None) -> None:
        self._guarding.close()
        super().on_train_end(logs)

    def leave(self) -> None:
        self._guarding.close()
        super().leave()

    def checked(self, values: dict[str, Any]) -> None:
        """Learn which layers are infinite while the loss is not."""
        self._looked = True
        if float(values["alarm"]) == 0:
            odd = np.asarray(values["output_finite"]) < 1
            self._usual = odd if self._usual is None else self._usual | odd

    def on_probe(self, probe: "Probe") -> None:
        values, self._looked = probe.values, True
        healthy = values["loss_finite"] and values["update_finite"].all()
        if healthy and not (self._asked_at is not None and probe.step >= self._asked_at):
            odd = ~values["output_finite"]
            self._usual = odd if self._usual is None else self._usual | odd
        elif not self._new and (self.finding is None or self.restores):
            what, layer = self._first(values)
            exact = self.checks_every_step and self.model.steps_per_execution == 1 and what != "weights"
            self.finding = NonFinite(probe.step, probe.epoch, what, layer, exact)
            self._new = self._seen_this_epoch = True
            self._hub.alarm()

    def act(self) -> None:
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
        warnings.warn(text, stacklevel=2)
        self.model.stop_training = True
        self._refuse_to_overwrite(text)

    def summarize(self, epoch: int) -> dict[str, float]:
        found = float(self._seen_this_epoch or self._loss_alarm)
        return {self.keys[0]: found if self._looked or found else float("nan")}

    @property
    def broken(self) -> bool:
        """Whether training stopped at what was found, so that the model's weights cannot be used."""
        return self.finding is not None and bool(self.model.stop_training)

    def monitor_state(self) -> dict[str, Any]:
        epoch = {"seen": self._seen_this_epoch, "looked": bool(self._looked)}
        usual = None if self._usual is None else np.asarray(self._usual).tolist()
        return {"restores": self.restores, "lowered": self._lowered, "epoch": epoch, "usual": usual}

    def set_monitor_state(self, state: dict[str, Any]) -> None:
        self.restores, self._lowered = state["restores"], state["lowered"]
        epoch, usual = state.get("epoch", {}), state.get("usual")
        self._seen_this_epoch, self._looked = bool(epoch.get("seen")), bool(epoch.get("looked"))
        self._usual = None if usual is None else np.array(usual, bool)

    def plot(self) -> "matplotlib.figure.Figure":
        """Draw which layers were finite at which probe, as a `matplotlib.figure.Figure`."""
        from recipes import plot  # noqa: PLC0415 - brings matplotlib

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
        if not (values["loss_finite"] and changed.size):
            return "loss", ""  # of this step, or of the one before, which left no trace
        first = changed[np.argmin(axes["variables"]["depth"][changed])]
        return "update", str(axes["variables"]["layer"][first])

    def _find_in_weights(self, epoch):
        self._looked |= bool(self.model.trainable_variables)
        broken = self._broken_variables()
        if not broken and not self._loss_alarm:
            return
        layer = variable_owners(self.model)[id(broken[0])][0] if broken else ""
        self.finding = NonFinite(self._hub.step, epoch, "weights" if broken else "loss", layer, False)
        self._new = self._seen_this_epoch = True

    def _broken_variables(self):
        variables = self.model.trainable_variables
        return [v for v in variables if not bool(keras.ops.all(keras.ops.isfinite(v)))]

    def _variables(self):
        optimizer = self.model.optimizer
        kept = [*self.model.variables, *optimizer.variables]
        return [
            v for v in kept if "float" in str(v.dtype) and v.name not in ("learning_rate", "dynamic_scale")
        ]

    def _copy(self):
        copies = [(v, keras.ops.copy(keras.ops.convert_to_tensor(v))) for v in self._variables()]
        if all(bool(keras.ops.all(keras.ops.isfinite(value))) for _, value in copies):
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
            f"{self.finding}. Went back to the last good weights, and training goes on with {self._lowered:g} times "
            f"the learning rate (restore {self.restores} of {self.most_restores}).",
            stacklevel=2,
        )

    def _lower_rate(self, now=False):
        if self._lowered == 1:
            return
        optimizer = self.model.optimizer
        if now:
            scale_rates(optimizer, self.factor)
        elif rates_of(optimizer) != self._own_rates:  # another callback has set them since
            scale_rates(optimizer, self._lowered)
        self._own_rates = rates_of(optimizer)

    def _refuse_to_overwrite(self, text):
        """Until the fit ends, saving the broken model over a file raises: nobody knows which callbacks will try."""

        def refuse(save):
            def guarded(filepath, *args, **kwargs):
                if Path(filepath).exists() and self._broken_variables():
                    self._guarding.close()
                    raise NonFiniteError(
                        f"{text} (Raised, and not saved over {filepath}, so that Keras keeps the backup.)"
                    )
                return save(filepath, *args, **kwargs)

            return guarded

        self._guarding.enter_context(
            wrapped([(self.model, name, refuse) for name in ("save", "save_weights")])
        )


def _losses(logs):
    """The numbers in a step's logs that are losses by their names."""
    return [value for name, value in (logs or {}).items() if "loss" in name.lower() and np.ndim(value) == 0]
