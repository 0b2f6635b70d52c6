"""The time of training steps, measured in `fit` itself: what is waited for, what is computed, what callbacks take."""

import collections
import contextlib
import gc
import logging
import math
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from recipes.common.patching import replaced
from recipes.diagnose.checks.model_copy import untouched

_MOST_STEPS = 100_000
_OFTEN = 4  # traces of one function
_OF_KERAS = (
    "one_step_on_data",
    "one_step_on_data_distributed",
    "one_step_on_iterator",
    "multi_step_on_iterator",
)


@dataclass
class StepTimes:
    """Times of the steps of one `fit`, in seconds a step.

    Attributes:
        function: Waiting for input and computing, float64 `(steps,)`; without the first step, which traces, and without
            those that begin a later epoch, where others are left.
        callbacks: Time in the callbacks of the user, by name.
        between: Time in Keras' own loop.
        garbage: Time in Python's garbage collector, after the first step.
        garbage_inside: What of it was inside of `function`, and not in callbacks.
        traces: How often the training step was traced.
        retraced: Functions that were traced at every third step or more often, but for the training step, by name.
        first: Seconds of the first step.
        processor: CPU time of this process a step, whatever else runs on the machine.
        compiled: The train function, for a further `time_steps` that need not trace.
    """

    function: np.ndarray
    callbacks: dict[str, float] = field(default_factory=dict)
    between: float = 0.0
    garbage: float = 0.0
    garbage_inside: float = 0.0
    traces: int = 0
    retraced: tuple[str, ...] = ()
    first: float = 0.0
    processor: float = 0.0
    compiled: Any = None

    def without_first(self, steps: int) -> "StepTimes":
        """The same without some steps at the beginning, as long as one is left."""
        return StepTimes(self.function[min(steps, len(self.function) - 1) :])

    @property
    def typical(self) -> float:
        """Mean of a step without the slowest tenth, which other programs on the machine make."""
        kept = np.sort(self.function)[: max(1, int(np.ceil(0.9 * len(self.function))))]
        return float(kept.mean())

    @property
    def median(self) -> float:
        """Median of a step."""
        return float(np.median(self.function))

    @property
    def mean(self) -> float:
        """Mean of a step, bursts of waiting included."""
        return float(self.function.mean())


class _Lap(keras.callbacks.Callback):
    """Notes the clock at both hooks of a batch; a row of them, between callbacks, times each."""

    def __init__(self):
        super().__init__()
        self.began, self.ended, self._now = [], [], 0.0

    def on_train_batch_begin(self, batch, logs=None):
        self._now = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.began.append(self._now)  # only now: the last batch of a data set may begin and not be there
        self.ended.append(time.perf_counter())


def time_steps(
    model: keras.Model,
    data: Any,
    seconds: float,
    *,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    function: Any = None,
    fewest: int = 3,
    **options: Any,
) -> StepTimes:
    """Train for some seconds, at least `fewest` steps, and time them.

    Args:
        model: Compiled and built; call it within `kept`, which puts it back.
        data: What `fit` takes: `(arrays, ...)`, a data set, a `keras.utils.PyDataset`.
        seconds: After the first step.
        callbacks: The user's.
        function: What an earlier call for the same settings has compiled; None traces.
        fewest: Steps after the first.
        options: For `fit`.
    """
    laps = [_Lap() for _ in range(len(callbacks) + 1)]
    row: list[keras.callbacks.Callback] = [laps[0]]
    for callback, lap in zip(callbacks, laps[1:], strict=True):
        row += [callback, lap]
    clock = _Clock(laps[0], seconds, fewest)
    arguments = data if isinstance(data, tuple) else (data,)
    step, traces = model.train_step, []

    def counted(*given: Any) -> Any:
        if not tf.executing_eagerly():
            traces.append(time.perf_counter())
        return step(*given)

    model.train_function = function
    with (
        replaced([(model, "train_step", counted)]),
        _garbage() as garbage,
        _retracing() as retraced,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # the user's own fit gives them
        model.fit(*arguments, epochs=_MOST_STEPS, callbacks=[*row, clock], verbose=0, **options)
    if not laps[0].ended:
        raise ValueError(
            "throughput expects data with at least one batch. Received data of which fit made no step. Check its "
            "filter and, of a keras.utils.PyDataset, its __len__."
        )
    found = _times(laps, callbacks, garbage, len(traces), retraced, model.steps_per_execution)
    found.function = _within_epochs(found.function, clock.began)
    found.processor = clock.processor
    found.compiled, model.train_function = model.train_function, None
    return found


class _Clock(keras.callbacks.Callback):
    """Ends the training when time is up, counted from the end of the first step."""

    def __init__(self, lap, seconds, fewest):
        super().__init__()
        self._lap, self._seconds, self._fewest = lap, seconds, fewest
        self.processor, self._seen = 0.0, 0
        self.began: list[int] = []  # executions before each epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.began.append(len(self._lap.ended))

    def on_epoch_end(self, epoch, logs=None):
        ended = len(self._lap.ended)
        if ended == self._seen:  # nothing to train on, in this pass and in all others
            self._stop(ended)
        self._seen = ended

    def on_train_batch_end(self, batch, logs=None):
        ended = self._lap.ended
        if len(ended) == 1:
            self.processor = time.process_time()
        if len(ended) > self._fewest and ended[-1] - ended[0] > self._seconds:
            self._stop(len(ended))

    def _stop(self, executions):
        self.model.stop_training = True
        steps = max(1, (executions - 1) * self.model.steps_per_execution)
        self.processor = (time.process_time() - self.processor) / steps


def _within_epochs(function, began):
    """Steps without those that begin an epoch, where the iterator is made anew; `function` is without the first."""
    first = np.isin(np.arange(1, len(function) + 1), began)
    return function if first.all() else function[~first]


def _times(laps, callbacks, garbage, traces, retraced, per_execution):
    begins, ends = (np.array([getattr(lap, name) for lap in laps]) for name in ("began", "ended"))
    function = (ends[0] - begins[-1]) / per_execution
    spent = {}
    steps = max(1, (len(function) - 1) * per_execution)
    for number, callback in enumerate(callbacks):
        name = type(callback).__name__
        own = np.diff(begins, axis=0)[number, 1:].sum() + np.diff(ends, axis=0)[number, 1:].sum()
        spent[name] = spent.get(name, 0.0) + float(own) / steps
    between = begins[0][1:] - ends[-1][:-1]
    # The first step, which traces, leaves most garbage.
    later = [(begin, length) for begin, length in garbage if begin > ends[-1][0]]
    called = np.searchsorted(begins[-1], [begin for begin, _ in later]) - 1
    inside = sum(length for (begin, length), step in zip(later, called, strict=True) if begin < ends[0][step])
    return StepTimes(
        function[1:] if len(function) > 1 else function,
        spent,
        float(np.median(between)) / per_execution if len(between) else 0.0,
        sum(length for _, length in later) / steps,
        inside / steps,
        traces,
        _again_and_again(retraced, steps),
        float(function[0]) * per_execution,
    )


@contextlib.contextmanager
def kept(model: keras.Model) -> Iterator[keras.Model]:
    """Train a model inside the block; afterwards it is as it was: weights, optimizer, metrics, functions, settings."""
    model.optimizer.build(model.trainable_variables)
    optimizer = [(variable, tf.identity(variable.value)) for variable in model.optimizer.variables]
    names = ("train_function", "test_function", "history", "stop_training")
    before = {name: getattr(model, name, None) for name in names}
    settings = model.run_eagerly, model.jit_compile, model.steps_per_execution
    try:
        with untouched(model):
            yield model
    finally:
        for variable, value in optimizer:
            variable.assign(value)
        model.run_eagerly, model.jit_compile, model.steps_per_execution = settings
        for name, value in before.items():
            setattr(model, name, value)


@contextlib.contextmanager
def _garbage():
    collected: list[tuple[float, float]] = []  # when each began, and how long it took
    since = [math.inf]

    def note(phase, _):
        now = time.perf_counter()
        if phase == "stop" and since[0] < now:  # nothing of a collection that began before
            collected.append((since[0], now - since[0]))
        since[0] = now if phase == "start" else math.inf

    gc.callbacks.append(note)
    try:
        yield collected
    finally:
        gc.callbacks.remove(note)


@contextlib.contextmanager
def _retracing():
    """Every function that is traced in the block outside of another, by name, in order; TensorFlow's warning is kept.

    TensorFlow warns of a function twice in a process and never again, so the graphs are counted as they are made.
    """
    traced: list[str] = []
    graph = tf.__internal__.FuncGraph
    begin = graph.__init__

    def counted(self: Any, name: Any, *given: Any, **named: Any) -> None:
        if tf.executing_eagerly():
            traced.append(str(name))
        begin(self, name, *given, **named)

    def quiet(record: logging.LogRecord) -> bool:
        return "triggered tf.function retracing" not in record.getMessage()

    tf.get_logger().addFilter(quiet)
    graph.__init__ = counted
    try:
        yield traced
    finally:
        graph.__init__ = begin
        tf.get_logger().removeFilter(quiet)


def _again_and_again(traced, steps):
    """Names of functions that were traced at a third of the steps or more; those of data sets are no `tf.function`."""
    counts = collections.Counter(name for name in traced if not name.startswith("Dataset_"))
    often = [name for name, count in counts.items() if count >= max(_OFTEN, steps / 3)]
    return tuple("a lambda" if name == "<lambda>" else name for name in often if name not in _OF_KERAS)
