"""Time of training steps, measured in `fit` itself: waiting for input and computing, callbacks, and Keras' own loop."""

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
    """Times of the steps of one `fit`, in seconds per step.

    Attributes:
        function: Waiting for input and computing, float64 `(steps,)`. The first step, which traces, is left out, and so
            is the first step of each later epoch, if other steps remain.
        callbacks: Time in the callbacks of the user, by class name.
        between: Time in Keras' own loop.
        garbage: Time in Python's garbage collector, after the first step.
        garbage_inside: The part of `garbage` that fell into `function`, and not into callbacks.
        traces: How often the training step was traced.
        retraced: Names of the functions that were traced at every third step or more often, other than the training
            step.
        first: Seconds of the first step (of the first `steps_per_execution` steps).
        processor: CPU time of this process, in seconds per step; other programs do not count.
        compiled: The train function, so that a further call of `time_steps` need not trace.
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
        """Only the times in `function`, without the given number of steps at the beginning; one at least is kept."""
        return StepTimes(self.function[min(steps, len(self.function) - 1) :])

    @property
    def typical(self) -> float:
        """Mean seconds per step without the slowest tenth of the steps, which other programs may have slowed down."""
        kept = np.sort(self.function)[: max(1, int(np.ceil(0.9 * len(self.function))))]
        return float(kept.mean())

    @property
    def median(self) -> float:
        """Median seconds per step."""
        return float(np.median(self.function))

    @property
    def mean(self) -> float:
        """Mean seconds per step, occasional long waits included."""
        return float(self.function.mean())


class _Lap(keras.callbacks.Callback):
    """Notes the time at both hooks of a batch; one before and one after each callback measure that callback."""

    def __init__(self):
        super().__init__()
        self.began, self.ended, self._now = [], [], 0.0

    def on_train_batch_begin(self, batch, logs=None):
        self._now = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        # Only now: after the last batch of a data set, Keras begins another one, which does not exist.
        self.began.append(self._now)
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
    """Train for some seconds with `fit`, and time the steps.

    Args:
        model: Compiled and built; train it inside `kept`, which restores it.
        data: What `fit` takes: `(arrays, ...)`, a `tf.data.Dataset` or a `keras.utils.PyDataset`.
        seconds: Training time in seconds, counted from the end of the first step.
        callbacks: The user's callbacks, whose time is measured.
        function: `StepTimes.compiled` of an earlier call with the same settings; None traces anew.
        fewest: Least number of executions after the first; `seconds` may be exceeded for them.
        options: Further keyword arguments of `fit`.

    Raises:
        ValueError: when the data have no batch.
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
        warnings.simplefilter("ignore")  # the user's own fit shows them
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
        if ended == self._seen:  # this epoch had no batch, and no later one will
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
    """Drop the first step of each epoch, which makes a new iterator; `function` lacks the first step of all already."""
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
    # Only later steps count: the first one traces, and leaves most garbage.
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
    """Restore the model after the block: weights, optimizer variables, metrics, train functions and settings."""
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
        if phase == "stop" and since[0] < now:  # a collection that began before the block does not count
            collected.append((since[0], now - since[0]))
        since[0] = now if phase == "start" else math.inf

    gc.callbacks.append(note)
    try:
        yield collected
    finally:
        gc.callbacks.remove(note)


@contextlib.contextmanager
def _retracing():
    """Note the name of every function that is traced in the block, in order, but for those traced inside another.

    TensorFlow warns about retracing of a function only twice per process, so the graphs are counted as they are made.
    Its warning is not shown inside the block.
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
    """Names of functions that were traced at a third of the steps or more; functions of data sets do not count."""
    counts = collections.Counter(name for name in traced if not name.startswith("Dataset_"))
    often = [name for name, count in counts.items() if count >= max(_OFTEN, steps / 3)]
    return tuple("a lambda" if name == "<lambda>" else name for name in often if name not in _OF_KERAS)
