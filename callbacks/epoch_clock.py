"""Where the time of each epoch goes, measured in the hooks of callbacks and around calls of the train function."""

import collections
import gc
import math
import time
import weakref
from typing import Any

from recipes.common.epoch_times import usual_epoch


class EpochClock:
    """Splits the time of an epoch: first step, other steps, waiting for input, callbacks, validation, garbage
    collection.

    Call its methods from the callback's hooks of the same meaning.

    Attributes:
        epochs: Seconds of each epoch that ended: {"steps", "input", "first", "callbacks", "validation", "garbage",
            "epoch"}. "input" is waiting for batches, where steps measured it. "first" is how much longer the first step
            took than a usual one, by tracing or by filling a shuffle's buffer. "callbacks" is the time of all callbacks
            and of Keras' loop, where the calls of the train function were timed. "garbage" is the time of Python's
            collector. What callbacks do between two epochs is added to the first of the two.
        looks: Number of steps in which the waiting was measured. The other steps are taken to wait as long as the mean
            of the last 64 of these.
    """

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []
        self.looks = 0
        self._waits: collections.deque[float] = collections.deque(maxlen=64)
        self._began, self._validation, self._ended = time.perf_counter(), 0.0, 0.0
        self._since: float | None = None
        self._steps: list[float] = []
        self._garbage: _Garbage | None = None
        self._calls = _Calls()

    def epoch_begins(self) -> None:
        """Start the clock of an epoch; the time since the last one is counted as time of callbacks."""
        self.training_goes_on()
        self._began, self._validation, self._since = time.perf_counter(), 0.0, None
        self._steps, self._garbage, self._calls = [], _Garbage(), _Calls()

    def training_goes_on(self) -> None:
        """Add the time since the end of the last epoch to that epoch."""
        if self._ended and "callbacks" in self.epochs[-1]:
            beside = time.perf_counter() - self._ended
            for name in ("callbacks", "epoch"):
                self.epochs[-1][name] = round(self.epochs[-1][name] + beside, 5)
        self._ended = 0.0

    def step_begins(self) -> None:
        """Note when a step began, or several that are executed at once."""
        self._steps.append(time.perf_counter())

    def call_begins(self) -> None:
        """Note when the train function was called."""
        self._calls.begin(self._garbage_so_far())

    def call_ends(self, waited: float | None) -> None:
        """Note when the train function returned, and the seconds that it waited for its batch, where that is known."""
        self._calls.end(self._garbage_so_far())
        if waited is not None and len(self._calls.lengths) > 1:  # the first waits for buffers to fill
            self._waits.append(waited)
            self.looks += 1

    def validation_begins(self) -> None:
        """Start the clock of validation."""
        self._since = time.perf_counter()

    def validation_ends(self) -> None:
        """Stop the clock of validation."""
        if self._since is not None:
            self._validation, self._since = time.perf_counter() - self._since, None

    def epoch_ends(self) -> dict[str, float]:
        """Stop the clock of the epoch, and add its row to `epochs`."""
        self._ended = time.perf_counter()
        whole, calls, garbage = self._ended - self._began, self._calls, self._garbage_so_far()
        known = bool(calls.lengths)
        lengths = (
            calls.lengths
            if known
            else [after - before for before, after in zip(self._steps, self._steps[1:], strict=False)]
        )
        usual = sorted(lengths)[len(lengths) // 2] if lengths else 0.0
        first = max(0.0, lengths[0] - usual) if lengths else 0.0
        self._garbage = None
        row = {"first": first, "validation": self._validation, "garbage": garbage, "epoch": whole}
        steps = whole - self._validation - first - garbage
        if known:
            row["callbacks"] = max(0.0, whole - self._validation - calls.seconds - (garbage - calls.garbage))
            steps = calls.seconds - first - calls.garbage
            if self._waits:
                row["input"] = min(max(0.0, steps), sum(self._waits) / len(self._waits) * len(lengths))
                steps -= row["input"]
        row = {"steps": max(0.0, steps), **row}
        self.epochs.append({name: round(seconds, 5) for name, seconds in row.items()})
        return self.epochs[-1]

    def usual(self) -> dict[str, float]:
        """The row of a usual epoch, of median length among all but the first, which traces; empty before the second."""
        return usual_epoch(self.epochs) if len(self.epochs) > 1 else {}

    def _garbage_so_far(self):
        return 0.0 if self._garbage is None else self._garbage.seconds


class _Calls:
    """The calls of the train function in one epoch."""

    def __init__(self):
        self.lengths = []
        self.garbage = self._began = self._before = 0.0

    @property
    def seconds(self):
        return sum(self.lengths)

    def begin(self, garbage):
        self._before, self._began = garbage, time.perf_counter()

    def end(self, garbage):
        self.lengths.append(time.perf_counter() - self._began)
        self.garbage += garbage - self._before


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
