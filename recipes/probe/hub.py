"""One hub per model: it decides which steps are probed and hands what they show to every monitor."""

import dataclasses
import time
import warnings
import weakref
from typing import Any

import keras

from recipes.common.memory import forget_train_functions
from recipes.common.models import build_optimizer
from recipes.common.optimizers import accumulation, iterations, switched
from recipes.common.traversal import layers_of
from recipes.probe.adapter import adapter
from recipes.probe.collect import Collector, Pending, Sweep, Timing
from recipes.probe.record import Record
from recipes.probe.swap import Swap
from recipes.probe.when import When

# model -> weak reference to its hub: neither keeps the other alive.
_HUBS: "weakref.WeakKeyDictionary[keras.Model, weakref.ref[Hub]]" = weakref.WeakKeyDictionary()


class Hub:
    """The one place that touches a model during `fit`, shared by all monitors of that `fit`.

    On a step to be looked at (`when.When`) it puts an instrumented twin (`twin.Twin`) in place of
    `model.train_function` for exactly one call (`swap.Swap`). What a probe measured stays on the device until `flush`
    (`collect.Collector`). A monitor that takes part in a second `fit` of the model brings the twins along, so that
    they need not be traced again.

    A monitor is a Keras callback with `quantities` (names from `recipes.probe.calls.QUANTITIES`),
    `every_steps`, `budget`, `samples`, `checks_every_step`, `takes_examples`, and the methods `receive(probe)`, and,
    when it checks every step, `checked(values)` and `act()`; `take_examples(labels, outputs)` when it wants
    what the loss of every step saw; `call_begins()` and `call_ends(waited)` when it `times_calls`.

    Args:
        model: A compiled `keras.Model`.
        params: The `params` of the callbacks of one `fit`, which distinguish it from the next.
    """

    def __init__(self, model: keras.Model, params: dict[str, Any]) -> None:
        self.params = params
        self.monitors: list[Any] = []
        self.step = -1  # number in the run of the last step of the execution that begins
        self.epoch = 0
        self.when, self.swap, self.collector = When(), Swap(), Collector()
        self._model = weakref.ref(model)
        self._epoch_start: int | None = None  # step of the run, known from the epoch's first batch
        self._started = self._failed = False

    @property
    def model(self) -> keras.Model | None:
        """The model it watches, which it does not keep alive."""
        return self._model()

    @property
    def record(self) -> Record:
        """What the probes of this fit saw."""
        return self.collector.record

    @classmethod
    def join(cls, monitor: Any, before: "Hub | None" = None) -> "Hub":
        """Find or make the hub of the fit that this monitor is part of, and subscribe.

        Args:
            monitor: A monitor of the fit that begins.
            before: The hub of this monitor in an earlier fit, whose twins are used again where the model is the same.

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
            if before is not None and before.model is model:
                hub.swap = before.swap
            _HUBS[model] = weakref.ref(hub)
        if any(type(other) is type(monitor) for other in hub.monitors):
            raise ValueError(
                f"A fit expects at most one {kind}. Received two in its callbacks. Leave one of them out, and give its "
                "options to the other; callbacks.default_monitors(beside=[yours]) leaves out its own."
            )
        if model.built:
            _check_trainable(model, kind)
        hub.monitors.append(monitor)
        return hub

    def leads(self, monitor: Any) -> bool:
        """Whether this monitor is the one that drives the hub: the first of the fit's callbacks."""
        return bool(self.monitors) and self.monitors[0] is monitor

    def leave(self) -> None:
        """End the fit: read what is pending and forget the monitors."""
        self.swap.deliver()
        self.flush()
        self.monitors, self.collector.sweep = [], None
        self.swap.disarm()
        model = self._model()
        if model is not None:
            _HUBS.pop(model, None)
        forget_train_functions()

    def epoch_begin(self, epoch: int) -> None:
        """Called by the leading monitor."""
        model = self._model()
        if self.params.get("steps") is None and self.when.executions:
            self.step -= model.steps_per_execution  # the call that found the data set exhausted
        self.epoch, self._epoch_start, self.collector.timing = epoch, None, None
        self.when.epoch_begins(iterations(model.optimizer) if accumulation(model.optimizer) > 1 else 0)
        if self.collector.sweep is not None:
            self.collector.sweep.running = True

    def batch_begin(self, batch: int) -> None:
        """Called by the leading monitor before each execution of training steps."""
        self.swap.deliver()
        if self.when.budget is not None:
            adapter().wait_for_step(self._model())
        now = time.perf_counter()
        ended = self.collector.take_time(now)
        if ended is not None:
            self.when.timed(ended.seconds, ended.kind, ended.probed)
        model = self._model()
        stride, steps = model.steps_per_execution, self.params.get("steps")
        if self._epoch_start is None:
            self._epoch_start = self.step + 1 - batch  # a run may go on inside an epoch
        first = self._epoch_start + batch
        self.step = self._epoch_start + min(batch + stride, steps or batch + stride) - 1
        self.when.execution_begins(stride)
        if self.when.executions == 1 and not _is_ready(model):
            self.note("The first step was not probed, because it builds the model.")
            self._time(model)
            return
        self.collector.timing = Timing(now)
        if self._failed or model.train_function is None:
            self._time(model)
            return
        if not self._started:
            self._start(model)
        recorded = self.when.due(first, self.step, last_of_epoch=bool(steps) and 1 < steps <= batch + stride)
        quantities = self._wanted(recorded)
        if quantities and not self._failed:
            self._arm(model, quantities, recorded)
        else:
            self._time(model)

    @property
    def has_run(self) -> bool:
        """Whether an execution of this fit is over."""
        return self.when.executions > 0

    def alarm(self) -> None:
        """Probe the next steps densely, as far as the budget allows."""
        self.when.alarm()

    def probe_next(self) -> None:
        """Probe the next execution whatever the cadence says, and read it at once."""
        self.when.force()

    def sweep(self, monitor: Any) -> bool:
        """Look at every batch of the next epoch for units that are ever active.

        `monitor.swept(layout, active, complete)` is called now and then, and at the epoch's end with complete=True;
        the sweep ends early when it returns True. `layout` lists the layers, `active` holds 1 or 0 per unit.

        Returns:
            True; False when the budget has no room for a whole epoch, or the run is too short for one more trace, and
            nothing will happen.
        """
        executions = max(1, (self.params.get("steps") or 0) // self._model().steps_per_execution)
        if not self._worth_a_trace() or not self.when.reserve(adapter().SWEEP_COST * executions):
            self.note("Suspected dead units were not looked at on every batch: give DeadReluDetector(data=).")
            return False
        self.collector.sweep = Sweep(monitor)
        return True

    def sweep_state(self, monitor: Any) -> dict[str, Any] | None:
        """The state of the sweep that runs for a monitor, or waits for the next epoch; None without one."""
        sweep = self.collector.sweep
        return sweep.get_state() if sweep is not None and sweep.monitor is monitor else None

    def resume_sweep(self, monitor: Any, state: dict[str, Any]) -> None:
        """Go on with the sweep of an interrupted run."""
        self.collector.sweep = Sweep.of(monitor, state)

    def resume(self, record: Record, step: int) -> None:
        """Go on with the record of an interrupted run, whose last training step was `step`."""
        self.step = step
        self.record.take_over(record)  # the monitors hold this one

    def flush(self) -> None:
        """Read what was measured, write it to the record and hand it to the monitors, in order."""
        self.collector.flush(self.monitors)
        counted = {"steps": self.step + 1, "executions": self.when.executions}
        self.record.cost = {**counted, **dataclasses.asdict(self.collector.clock), **self.when.cost()}

    def epoch_end(self) -> None:
        """Called by the leading monitor: read what is pending, and close a sweep that saw the whole epoch."""
        self.swap.deliver()
        self.flush()
        model = self._model()
        self.collector.end_sweep(
            steps=self.params.get("steps"), stride=model.steps_per_execution, stopped=model.stop_training
        )

    def note(self, text: str) -> None:
        """Write a remark into the record, once."""
        if text not in self.record.notes:
            self.record.notes.append(text)

    def _start(self, model):
        self._started = True
        adapter().bring_back(model)
        if not model.trainable_variables:
            self._decline(model)
            return
        if any(switched(model).values()):
            # A twin is traced now, and would train other variables than the train function of an earlier fit.
            self._failed = True
            self.note(
                "Nothing was probed: layer.trainable was set after a training, without compiling again."
            )
            return
        optimizer = model.optimizer
        if optimizer is not None and not optimizer.built and model.built:
            # Before the first trace, so that the twin and the plain function trace the same thing.
            build_optimizer(model)
        steps, epochs = self.params.get("steps"), self.params.get("epochs", 1) - self.epoch
        notes = self.when.start(
            self.monitors,
            executions=-(-steps // model.steps_per_execution) * epochs if steps else None,
            several_workers=adapter().several_workers(model),
            accumulation=accumulation(optimizer),
            stride=model.steps_per_execution,
        )
        for text in notes:
            self.note(text)

    def _wanted(self, recorded):
        wanted = set()
        if recorded:
            wanted.update(*(monitor.quantities for monitor in self.monitors))
        if any(monitor.checks_every_step for monitor in self.monitors):
            wanted.add("finite")
        if any(monitor.takes_examples for monitor in self.monitors):
            wanted.add("answers")
        if self.collector.sweep is not None and self.collector.sweep.running:
            wanted.add("ever_active")
        return frozenset(wanted) - adapter().UNSEEN

    def _clocks(self):
        # Where a call returns before its step is made, its time says nothing.
        return [m for m in self.monitors if m.times_calls] if adapter().WRITES_AT_ONCE else []

    def _time(self, model):
        clocks = self._clocks()
        if clocks and model.train_function is not None:
            self.swap.time(model, clocks)

    def _arm(self, model, quantities, recorded):
        samples = next((m.samples for m in self.monitors if m.samples != "auto"), "auto")
        timing, step, epoch = self.collector.timing, self.step, self.epoch
        timing.probed = recorded
        timing.kind = "probe" if recorded else "sweep" if "ever_active" in quantities else "plain"

        def done(twin, traced, values):
            if traced:
                timing.kind = "trace"
            if twin.failure is not None:
                self._give_up(twin.failure)
            else:
                self._collect(Pending(step, epoch, timing, twin.layout, values), recorded)

        self.swap.arm(model, quantities, samples, done, self._clocks())

    def _collect(self, pending, recorded):
        answers = pending.values.pop("answers", None)
        if answers is not None:
            for monitor in self.monitors:
                if monitor.takes_examples:
                    monitor.take_examples(*answers)
        self.collector.swept(pending.layout, pending.values)
        checking = [monitor for monitor in self.monitors if monitor.checks_every_step]
        alarmed = bool(checking) and self.collector.alarming(pending.values)
        for monitor in checking:
            monitor.checked(pending.values)
        urgent, self.when.urgent = alarmed or self.when.urgent, False
        full = self.collector.add(pending) if alarmed or recorded else False
        if urgent or full:
            self.flush()
            for monitor in self.monitors:
                monitor.act()

    def _worth_a_trace(self):
        # A sweep traces a twin of its own: only in a run that is long against that.
        budget, clock = self.when.budget, self.collector.clock
        if budget is None or self.swap.has_twin(frozenset({"ever_active"})):
            return True
        executions = self.when.executions
        run = clock.training_seconds / executions * (budget.executions or executions)
        return clock.tracing_seconds <= budget.share * run

    def _decline(self, model):
        self._failed = True
        self.note(f"Nothing was probed: no trainable variables were found in {model.name!r}.")
        warnings.warn(
            f"The monitors expect a model that holds the layers it trains. Received {model.name!r}, in which no "
            "trainable variables were found, so nothing is probed. Assign the layers or models that train_step uses as "
            "attributes of the model.",
            stacklevel=2,
        )

    def _give_up(self, failure):
        self._failed = True
        self.note(f"Probing stopped at step {self.step}: {failure}")
        warnings.warn(
            f"The monitors expect a training step they can look into. Received an error while measuring: {failure}. "
            "Training goes on without them; please report the model that does this.",
            stacklevel=2,
        )


def _is_ready(model):
    """Whether a model has its variables. A model of models that are called only in `train_step` is never `built`."""
    layers = layers_of(model)
    return model.built or (bool(layers) and all(layer.built for layer in layers))


def _check_trainable(model, kind):
    if not model.trainable_variables:
        raise ValueError(
            f"{kind} expects a model with trainable variables. Received {model.name!r}, which has "
            f"{len(model.variables)} variables and none to train. Set layer.trainable = True and compile again."
        )
