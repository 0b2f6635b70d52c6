"""One hub per model: it decides which steps are probed and hands what they show to every monitor."""

import time
import warnings
import weakref

import keras
import tensorflow as tf

from recipes.common.optimizers import accumulation, iterations
from recipes.probe.cadence import Budget, Every
from recipes.probe.record import Record
from recipes.probe.scalars import read_axes, read_probe
from recipes.probe.twin import Twin

_MOST_PENDING = 256
_SWEEP_LOOK = 16
_SWEEP_COST = 0.05  # of a plain execution, taken from the budget in advance
_WORKERS_EVERY = 100
_HUBS = weakref.WeakKeyDictionary()  # model -> weak reference to its hub: neither keeps the other alive


class Hub:
    """The one place that touches a model during `fit`, shared by all monitors of that `fit`.

    On a step to be looked at it puts an instrumented twin (`recipes.probe.twin.Twin`) in place of
    `model.train_function` for exactly one call; the twin puts the model's own back before it runs. Twins live on
    the train function they mirror, so a second `fit` need not trace again and `compile` drops them. What a probe
    measured stays on the device until `flush`.

    A monitor is a Keras callback with `quantities` (names from `recipes.probe.twin.QUANTITIES`), `every`, `budget`,
    `samples`, `checks_every_step`, and the methods `receive(probe)`, and, when it checks every step,
    `checked(values)` and `act()`.

    Args:
        model: A compiled `keras.Model`.
        params: The `params` of the callbacks of one `fit`, by which one fit is told from the next.
    """

    def __init__(self, model, params):
        self.params = params
        self.monitors = []
        self.record = Record()
        self.step = -1  # of the run, the last one of the execution that begins
        self.epoch = 0
        self._model = weakref.ref(model)
        self._pending = []
        self._cadences = []
        self._budget = None
        self._started = False
        self._failed = False
        self._forced = self._owed = self._urgent = False
        self._epoch_start = 0
        self._executions = 0
        self._micro_steps = 0
        self._timing = None
        self._armed = None
        self._sweep = None
        self._clock = {"training_seconds": 0.0, "tracing_seconds": 0.0}

    @classmethod
    def join(cls, monitor):
        """Find or make the hub of the fit that this monitor is part of, and subscribe.

        Raises:
            ValueError: when the model is not compiled, has nothing to train, or has a monitor of the same kind.
        """
        model, kind = monitor.model, type(monitor).__name__
        if not model.compiled:
            raise ValueError(
                f"{kind} expects a compiled model. Received {model.name!r}, which is not. "
                "Call model.compile(optimizer, loss) first."
            )
        reference = _HUBS.get(model)
        hub = None if reference is None else reference()
        if hub is None or hub.params is not monitor.params:  # an interrupted fit may have left a hub behind
            hub = cls(model, monitor.params)
            _HUBS[model] = weakref.ref(hub)
        if any(type(other) is type(monitor) for other in hub.monitors):
            raise ValueError(
                f"A fit expects at most one {kind}. Received two in its callbacks. Leave one of them out: all of "
                "its options can be given to the other. callbacks.default_monitors(beside=[yours]) leaves out its own."
            )
        if model.built:
            _check_trainable(model, kind)
        hub.monitors.append(monitor)
        return hub

    def leads(self, monitor):
        """Whether this monitor is the one that drives the hub: the first of the fit's callbacks."""
        return bool(self.monitors) and self.monitors[0] is monitor

    def leave(self):
        """End the fit: read what is pending and forget the model."""
        self.flush()
        self.monitors, self._sweep, self._armed = [], None, None
        model = self._model()
        if model is not None:
            _HUBS.pop(model, None)

    def epoch_begin(self, epoch):
        """Called by the leading monitor."""
        if self.params.get("steps") is None and self._executions:
            self.step -= self._model().steps_per_execution  # the call that found the data set exhausted
        self.epoch, self._epoch_start, self._timing = epoch, self.step + 1, None
        optimizer = self._model().optimizer
        self._micro_steps = iterations(optimizer) if accumulation(optimizer) > 1 else 0
        if self._sweep is not None:
            self._sweep["running"] = True

    def batch_begin(self, batch):
        """Called by the leading monitor before each execution of training steps."""
        now = time.perf_counter()
        self._take_time(now)
        model = self._model()
        stride, steps = model.steps_per_execution, self.params.get("steps")
        first = self._epoch_start + batch
        self.step = self._epoch_start + min(batch + stride, steps or batch + stride) - 1
        self._executions += 1
        self._micro_steps += stride
        self._timing = {"begin": now, "kind": "plain", "probed": False, "seconds": float("nan")}
        if self._failed or model.train_function is None:
            return
        if not model.built:
            self._timing = None
            self._note("The first step was not probed, because it built the model.")
            return
        if not self._started:
            self._start(model)
        last_of_epoch = bool(steps) and 1 < steps <= batch + stride
        wanted = self._wanted(model, first, last_of_epoch)
        if wanted:
            self._swap(model, frozenset(wanted))

    def alarm(self):
        """Probe the next steps densely, as far as the budget allows."""
        if self._budget is not None:
            self._budget.alarm(self._executions)

    def probe_next(self):
        """Probe the next execution whatever the cadence says, and read it at once."""
        self._forced = True

    def sweep(self, monitor):
        """Look at every batch of the next epoch for units that are ever active.

        `monitor.swept(layout, active, complete)` is called now and then, and at the epoch's end with complete=True;
        the sweep ends early when it returns True. `layout` lists the layers, `active` holds 1 or 0 per unit.

        Returns:
            False when the budget has no room for a whole epoch of it, or the run is too short for one more trace;
            nothing will happen then.
        """
        executions = max(1, (self.params.get("steps") or 0) // self._model().steps_per_execution)
        if self._budget is not None:
            affordable = self._budget.affords(self._executions, _SWEEP_COST * executions, credit=0.5)
            if not affordable or not self._worth_a_trace():
                self._note(
                    "Suspected dead units were not looked at on every batch: give DeadReluDetector(data=)."
                )
                return False
            self._budget.spent += _SWEEP_COST * executions
        self._sweep = {"monitor": monitor, "running": False, "active": None, "layout": None, "batches": 0}
        return True

    def _worth_a_trace(self):
        # A sweep traces a twin of its own: only in a run that is long against that.
        twins = getattr(self._model().train_function, "_recipes_twins", {})
        if any(quantities == {"ever_active"} for quantities, _ in twins):
            return True
        run = (
            self._clock["training_seconds"] / self._executions * (self._budget.executions or self._executions)
        )
        return self._clock["tracing_seconds"] <= self._budget.share * run

    def resume(self, record, step):
        """Go on with the record of an interrupted run, whose last training step was `step`."""
        self.step = step
        self.record.__dict__.update(record.__dict__)  # the monitors hold this one

    def flush(self):
        """Read what was measured, write it to the record and hand it to the monitors, in order."""
        pending, self._pending = self._pending, []
        for step, epoch, timing, layout, values in pending:
            probe = read_probe(step, epoch, timing["seconds"], values)
            self.record.describe(read_axes(layout), probe.values, layout["unseen"])
            self.record.add(probe)
            for monitor in self.monitors:
                monitor.receive(probe)
        self._note_cost()

    def epoch_end(self):
        """Called by the leading monitor: read what is pending, and close a sweep that saw the whole epoch."""
        self.flush()
        sweep = self._sweep
        if sweep is not None and sweep["running"]:
            self._sweep = None
            steps, stride = self.params.get("steps"), self._model().steps_per_execution
            whole = sweep["batches"] * stride >= steps if steps else not self._model().stop_training
            if whole and sweep["active"] is not None:
                sweep["monitor"].swept(sweep["layout"], sweep["active"].numpy(), complete=True)

    def _start(self, model):
        self._started = True
        for monitor in self.monitors:
            _check_trainable(model, type(monitor).__name__)
        optimizer = model.optimizer
        if optimizer is not None and not optimizer.built:
            # Before the first trace, so that the twin and the plain function trace the same thing.
            with model.distribute_strategy.scope(), keras.name_scope(optimizer.name, caller=optimizer):
                optimizer.build(model.trainable_variables)
        steps, epochs = self.params.get("steps"), self.params.get("epochs", 1) - self.epoch
        executions = -(-steps // model.steps_per_execution) * epochs if steps else None
        shares = [monitor.budget for monitor in self.monitors if monitor.budget is not None]
        if isinstance(model.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy) and shares:
            # Every worker must probe the same step, and their clocks differ.
            self._note(f"Several workers: probed every {_WORKERS_EVERY} steps in place of a budget.")
            self._cadences.append(Every(_WORKERS_EVERY))
        elif shares:
            self._budget = Budget(min(shares), executions)
        self._cadences += [
            Every(m.every_steps)
            for m in self.monitors
            if m.every_steps is not None and not m.checks_every_step
        ]
        self._accumulation = accumulation(optimizer)
        stride, start = model.steps_per_execution, self._micro_steps
        self._aligns = any(
            (start + j * stride) % self._accumulation == 0 for j in range(1, self._accumulation + 1)
        )
        if not self._aligns:
            self._note(
                "No execution ends on a step that writes weights (gradient accumulation against "
                "steps_per_execution), so update ratios could not be measured."
            )

    def _wanted(self, model, first, last_of_epoch):
        wanted = set()
        if self._due(model, first, last_of_epoch):
            wanted.update(*(monitor.quantities for monitor in self.monitors))
            wanted.add("recorded")
        if any(monitor.checks_every_step for monitor in self.monitors):
            wanted.add("finite")
        if self._sweep is not None and self._sweep["running"]:
            wanted.add("ever_active")
        return wanted

    def _due(self, model, first, last_of_epoch):
        forced, self._forced = self._forced, False
        self._urgent = self._urgent or forced
        due = self._owed or forced or any(cadence.due(first, self.step) for cadence in self._cadences)
        if not due and self._budget is not None:
            # A smaller last batch would trace the twin once more; another step will do as well.
            due = not last_of_epoch and self._budget.due(self._executions - 1)
        if not due:
            return False
        # Under gradient accumulation only some steps write weights: wait for one of those.
        writes = self._micro_steps % self._accumulation == 0
        self._owed = self._aligns and not writes and not forced
        if self._owed:
            return False
        if self._budget is not None:
            self._budget.probed(self._executions - 1)
        return True

    def _swap(self, model, wanted):
        plain, timing, step, epoch = model.train_function, self._timing, self.step, self.epoch
        twin = self._twin(model, plain, wanted - {"recorded"})
        timing["probed"] = "recorded" in wanted
        timing["kind"] = "probe" if "recorded" in wanted else "sweep" if "ever_active" in wanted else "plain"

        def run_once(iterator):
            model.train_function = plain
            if self._armed is not run_once:
                return plain(iterator)
            traces = twin.traces
            logs, values = twin(iterator)
            if twin.traces != traces and not model.run_eagerly:
                timing["kind"] = "trace"
            if twin.failure is not None:
                self._give_up(twin.failure)
            else:
                self._collect(step, epoch, timing, twin.layout, values, wanted)
            return logs

        self._armed = run_once
        model.train_function = run_once

    def _twin(self, model, plain, quantities):
        samples = next((m.samples for m in self.monitors if m.samples != "auto"), "auto")
        try:
            twins = plain.__dict__.setdefault("_recipes_twins", {})
        except AttributeError:  # a train function that takes no attributes: kept for this fit only
            twins = self.__dict__.setdefault("_twins", {})
        if (quantities, samples) not in twins:
            twins[quantities, samples] = Twin(model, quantities, samples)
        return twins[quantities, samples]

    def _collect(self, step, epoch, timing, layout, values, wanted):
        active = values.get("ever_active")
        if active is not None and self._sweep is not None:
            sweep = self._sweep
            sweep["layout"] = layout["ever_active"]
            sweep["active"] = active if sweep["active"] is None else tf.maximum(active, sweep["active"])
            sweep["batches"] += 1
            done = sweep["batches"] % _SWEEP_LOOK == 0 and sweep["monitor"].swept(
                sweep["layout"], sweep["active"].numpy(), complete=False
            )
            if done:
                self._sweep = None
        checking = [monitor for monitor in self.monitors if monitor.checks_every_step]
        alarmed = bool(checking) and float(values["alarm"]) > 0
        for monitor in checking:
            monitor.checked(values)
        urgent, self._urgent = alarmed or self._urgent, False
        if alarmed or "recorded" in wanted:
            self._pending.append((step, epoch, timing, layout, values))
        if urgent or len(self._pending) >= _MOST_PENDING:
            self.flush()
            for monitor in self.monitors:
                monitor.act()

    def _take_time(self, now):
        if self._timing is None:
            return
        seconds, kind = now - self._timing["begin"], self._timing["kind"]
        self._clock["tracing_seconds" if kind == "trace" else "training_seconds"] += seconds
        if kind == "probe":
            self._timing["seconds"] = seconds
        if self._budget is not None and kind in ("probe", "plain"):
            self._budget.timed(seconds, probed=kind == "probe")
        elif self._budget is not None and kind == "trace" and self._timing["probed"]:
            self._budget.traced()

    def _note_cost(self):
        cost = {"steps": self.step + 1, "executions": self._executions, **self._clock}
        if self._budget is not None:
            cost |= {
                "budget": self._budget.share,
                "probes": self._budget.probes,
                "probe_cost": self._budget.cost,
                "share": self._budget.probes * self._budget.cost / max(1, self._executions),
            }
        self.record.cost = cost

    def _note(self, text):
        if text not in self.record.notes:
            self.record.notes.append(text)

    def _give_up(self, failure):
        self._failed = True
        self._note(f"Probing stopped at step {self.step}: {failure}")
        warnings.warn(
            f"The monitors expect a training step they can look into. Received an error while measuring: {failure}. "
            "Training goes on without them; please report the model that does this.",
            stacklevel=2,
        )


def _check_trainable(model, kind):
    if not model.trainable_variables:
        raise ValueError(
            f"{kind} expects a model with trainable variables. Received {model.name!r}, which has "
            f"{len(model.variables)} variables and none to train. Set layer.trainable = True and compile again."
        )
