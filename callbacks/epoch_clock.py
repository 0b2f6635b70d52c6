"""Where the time of each epoch goes, as the hooks of callbacks tell."""

import gc
import math
import time
import weakref
from typing import Any


class EpochClock:
    """Splits an epoch into its first step, the other steps, validation and Python's garbage collector.

    Call its methods from the callback's hooks of the same meaning.

    Attributes:
        epochs: Seconds of each epoch that ended: {"steps", "first" (what its first step took longer than a usual one:
            tracing, or filling a shuffle's buffer), "validation", "garbage", "epoch"}.
    """

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []
        self._began, self._validation = time.perf_counter(), 0.0
        self._since: float | None = None
        self._steps: list[float] = []
        self._garbage: _Garbage | None = None

    def epoch_begins(self) -> None:
        """Start the clock of an epoch."""
        self._began, self._validation, self._since = time.perf_counter(), 0.0, None
        self._steps, self._garbage = [], _Garbage()

    def step_begins(self) -> None:
        """Note when a step began, or several that are executed at once."""
        self._steps.append(time.perf_counter())

    def validation_begins(self) -> None:
        """Start the clock of validation."""
        self._since = time.perf_counter()

    def validation_ends(self) -> None:
        """Stop the clock of validation."""
        if self._since is not None:
            self._validation, self._since = time.perf_counter() - self._since, None

    def epoch_ends(self) -> dict[str, float]:
        """Stop the clock of the epoch, and add its row to `epochs`."""
        whole = time.perf_counter() - self._began
        lengths = [after - before for before, after in zip(self._steps, self._steps[1:], strict=False)]
        usual = sorted(lengths)[len(lengths) // 2] if lengths else 0.0
        first = max(0.0, lengths[0] - usual) if lengths else 0.0
        garbage = 0.0 if self._garbage is None else self._garbage.seconds
        self._garbage = None
        row = {"first": first, "validation": self._validation, "garbage": garbage, "epoch": whole}
        row = {"steps": max(0.0, whole - self._validation - first - garbage), **row}
        self.epochs.append({name: round(seconds, 5) for name, seconds in row.items()})
        return self.epochs[-1]


class _Garbage:
    """Seconds that Python's garbage collector takes, for as long as somebody holds this."""

    def __init__(self) -> None:
        self.seconds, self._since = 0.0, math.inf
        held = weakref.ref(self)

        def hook(phase: str, _: Any) -> None:
            mine = held()
            if mine is not None:
                mine.note(phase)

        gc.callbacks.append(hook)
        weakref.finalize(self, _forget, hook)

    def note(self, phase: str) -> None:
        """Called by the collector with "start" and "stop"."""
        now = time.perf_counter()
        if phase == "stop":
            self.seconds += max(0.0, now - self._since)
        self._since = now if phase == "start" else math.inf


def _forget(hook):
    if hook in gc.callbacks:
        gc.callbacks.remove(hook)
