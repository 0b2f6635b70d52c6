"""Keeps what the probed steps measured until it is read, the time they took, and sweeps over an epoch."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from keras import ops

from recipes.probe.record import Probe, Record
from recipes.probe.scalars import read_axes, read_probe

MOST_PENDING = 256
_SWEEP_LOOK = 16


@dataclass
class Timing:
    """How long one execution takes.

    `kind` says what was called: the model's own train function ("plain"), a twin for a row of the record ("probe") or
    only for a sweep ("sweep"), or a twin that had to be traced ("trace"). `seconds` is NaN until it is known.
    """

    begin: float
    kind: Literal["plain", "probe", "sweep", "trace"] = "plain"
    probed: bool = False
    seconds: float = float("nan")


@dataclass
class Clock:
    """Wall-clock seconds of a fit, without the time between epochs."""

    training_seconds: float = 0.0
    tracing_seconds: float = 0.0


@dataclass
class Sweep:
    """A look at every batch of one epoch for units that are ever active, on behalf of a monitor."""

    monitor: Any
    running: bool = False
    layout: list[tuple[str, int]] = field(default_factory=list)
    active: Any = None
    batches: int = 0

    def add(self, layout: list[tuple[str, int]], active: Any) -> bool:
        """Take one batch; True when the monitor has seen enough."""
        self.layout = layout
        self.active = active if self.active is None else ops.maximum(active, self.active)
        self.batches += 1
        return self.batches % _SWEEP_LOOK == 0 and self.tell(complete=False)

    def tell(self, *, complete: bool) -> bool:
        """Tell the monitor which units were active so far; True when it has seen enough."""
        return self.monitor.swept(self.layout, np.asarray(self.active), complete=complete)

    def get_state(self) -> dict[str, Any]:
        """The state that `of` needs, as a dictionary that JSON can hold."""
        active = None if self.active is None else np.asarray(self.active).tolist()
        layout = [list(entry) for entry in self.layout]
        return {"running": self.running, "layout": layout, "active": active, "batches": self.batches}

    @classmethod
    def of(cls, monitor: Any, state: dict[str, Any]) -> "Sweep":
        """The sweep for a monitor whose `get_state` gave `state`, in a run that goes on."""
        active = None if state["active"] is None else ops.convert_to_tensor(state["active"], "float32")
        layout = [(name, units) for name, units in state["layout"]]
        return cls(monitor, state["running"], layout, active, state["batches"])


@dataclass(frozen=True)
class Pending:
    """What one probed step measured, still on the device."""

    step: int
    epoch: int
    timing: Timing
    layout: dict[str, Any]
    values: dict[str, Any]

    def read(self) -> Probe:
        """The values as numpy arrays; this waits for the device."""
        return read_probe(self.step, self.epoch, self.timing.seconds, self.values)


class Collector:
    """The record of one fit and what is not in it yet."""

    def __init__(self) -> None:
        self.record = Record()
        self.clock = Clock()
        self.sweep: Sweep | None = None
        self.timing: Timing | None = None
        self._pending: list[Pending] = []

    def add(self, pending: Pending) -> bool:
        """Keep what a step measured; True when it is time to `flush`."""
        self._pending.append(pending)
        return len(self._pending) >= MOST_PENDING

    def flush(self, monitors: list[Any]) -> None:
        """Read what is pending, write it to the record and hand it to the monitors, in order."""
        pending, self._pending = self._pending, []
        for one in pending:
            probe = one.read()
            self.record.describe(read_axes(one.layout), probe.values, one.layout["unseen"])
            self.record.add(probe)
            for monitor in monitors:
                monitor.receive(probe)

    def swept(self, layout: dict[str, Any], values: dict[str, Any]) -> None:
        """Take a batch for the sweep, if one is under way."""
        if self.sweep is not None and "ever_active" in values:
            if self.sweep.add(layout["ever_active"], values["ever_active"]):
                self.sweep = None

    def end_sweep(self, *, steps: int | None, stride: int, stopped: bool) -> None:
        """Close a sweep that has run through an epoch; it counts only if it saw the whole epoch."""
        sweep = self.sweep
        if sweep is None or not sweep.running:
            return
        self.sweep = None
        whole = sweep.batches * stride >= steps if steps else not stopped
        if whole and sweep.active is not None:
            sweep.tell(complete=True)

    def take_time(self, now: float) -> Timing | None:
        """End the present execution and return its `Timing`, with the seconds it took; None where it was not timed."""
        timing, self.timing = self.timing, None
        if timing is None:
            return None
        seconds = now - timing.begin
        if timing.kind == "trace":
            self.clock.tracing_seconds += seconds
        else:
            self.clock.training_seconds += seconds
        if timing.kind == "probe":
            timing.seconds = seconds
        return Timing(timing.begin, timing.kind, timing.probed, seconds)

    def alarming(self, values: dict[str, Any]) -> bool:
        """Whether a step that was checked holds numbers that are not finite."""
        return float(np.asarray(values["alarm"])) > 0
