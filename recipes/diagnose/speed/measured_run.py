"""A training run that is measured in turns: on its data, on one batch from memory, and with changed settings."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from recipes.common.datasets import (
    fresh_copy,
    is_parallelized_by_itself,
    is_prefetched_by_itself,
    with_calls,
    without_autotune,
)
from recipes.diagnose.speed.input_stages import SHUFFLED, Stage
from recipes.diagnose.speed.processors import cores, machine_is_busy
from recipes.diagnose.speed.step_times import StepTimes, time_steps

_AHEAD = 2  # batches
_LITTLE = 0.15  # of the input's cost


@dataclass
class MeasuredRun:
    """The measurements of one training run, which the rules and the trials use.

    Attributes:
        model: Compiled and built; used inside `kept`, which restores it.
        data: Positional arguments of `fit`.
        options: Keyword arguments of `fit`.
        batch: One batch as tensors, `(inputs, labels)` or `(inputs, labels, weights)`.
        callbacks: The user's callbacks.
        stages: Stages of the input pipeline; empty for arrays.
        real: Times of the steps on the real data.
        alone: Times of the steps on one batch that lies in memory.
        input_seconds: Clock time of the input, read alone, in seconds per batch; 0 for arrays.
        validation: Seconds of validation per training step: those of one pass, spread over the steps of an epoch.
        epoch_steps: Steps per epoch, or None where that is not known.
        deadline: When measuring should end, on the clock of `time.perf_counter`, in seconds.
        trial_seconds: Seconds for one trial.
        busy: Whether other programs used the processors during the measurements.
        functions: Train functions by settings, each traced once.
        traced: Seconds of first steps, which trace and compile.
        filling: Seconds that the input takes to its first batch, with shuffles that hold few elements.
        refilling: Seconds per step: what the first batch of an epoch takes longer than another, spread over the steps
            of the epoch. It is spent on filling a shuffle, or on what a generator does first.
        best: Seconds per step that the graph needs at this machine's peak; 0 where that is not known.
        prefetched_by_itself: Whether TensorFlow adds a prefetch to the end of the user's data set.
        parallelized_by_itself: Whether TensorFlow lets the plain, stateless maps of the data set make parallel calls.
        unknown: Code -> why it was not tried, for causes that only a trial can tell.
    """

    model: keras.Model
    data: tuple[Any, ...]
    options: dict[str, Any]
    batch: tuple[Any, ...]
    callbacks: Sequence[keras.callbacks.Callback]
    stages: list[Stage]
    real: StepTimes
    alone: StepTimes
    input_seconds: float = 0.0
    validation: float = 0.0
    epoch_steps: int | None = None
    deadline: float = 0.0
    trial_seconds: float = 2.0
    busy: bool = False
    functions: dict[tuple[Any, ...], Any] = field(default_factory=dict)
    traced: float = 0.0
    filling: float = 0.0
    refilling: float = 0.0
    best: float = 0.0
    prefetched_by_itself: bool = False
    parallelized_by_itself: bool = False
    unknown: dict[str, str] = field(default_factory=dict)

    @property
    def step(self) -> float:
        """Computing alone, in seconds per step."""
        alone = self.alone.median if self.busy else self.alone.typical
        return min(alone, self.with_data)  # the same step with less to do: if it took longer, that was chance

    @property
    def with_data(self) -> float:
        """Waiting and computing, in seconds per step: the mean, or on a busy machine the median, free of outliers."""
        return self.real.median if self.busy else self.real.mean

    @property
    def beside(self) -> float:
        """Seconds that a step takes longer on the real data: waiting for input, or compiling for new input shapes.

        On a busy machine clock time says little. There, CPU time is used as well, where batches are made while no step
        runs.
        """
        longer = max(0.0, self.with_data - self.step)
        if self.busy and self.stages and not self.is_prefetched and self.real.processor > 0:
            share = 1.0 - self.alone.processor / self.real.processor
            longer = max(longer, share * self.with_data)
        return longer

    @property
    def is_prefetched(self) -> bool:
        """Whether batches of a `tf.data` pipeline are made ahead: little work is left after its last prefetch.

        TensorFlow adds a prefetch to the end, unless the options of the data set forbid it.
        """
        if self.stages and self.prefetched_by_itself:
            return True
        ahead = [number for number, stage in enumerate(self.stages) if stage.kind == "prefetch"]
        if not ahead:
            return False
        later, whole = (sum(one.cost for one in row) for row in (self.stages[ahead[-1] + 1 :], self.stages))
        return not later > _LITTLE * whole

    @property
    def waiting(self) -> float:
        """The part of `beside` that can be waiting, in seconds per step: no more than the input takes alone.

        For arrays that limit is not known, and it is all of `beside`.
        """
        return min(self.beside, 1.2 * self.input_seconds) if self.input_seconds else self.beside

    @property
    def computes(self) -> bool:
        """Whether computing is half of a step or more, by clock time or, on a busy machine, by CPU time."""
        if self.step + self.real.between >= 0.5 * self.total:
            return True
        return self.busy and 0 < 0.5 * self.real.processor <= self.alone.processor

    @property
    def in_callbacks(self) -> float:
        """Time in the user's callbacks, in seconds per step."""
        return sum(self.real.callbacks.values())

    @property
    def total(self) -> float:
        """All time together, in seconds per step."""
        return self.with_data + self.in_callbacks + self.real.between + self.validation + self.refilling

    @property
    def examples(self) -> int:
        """Examples in the batch."""
        return int(tf.nest.flatten(self.batch)[0].shape[0])

    @property
    def compute_dtype(self) -> str:
        """The dtype in which most layers with weights compute."""
        kinds = [layer.compute_dtype for layer in self.model.layers if layer.weights] or ["float32"]
        return max(set(kinds), key=kinds.count)

    @property
    def time_left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.perf_counter()

    def may_try(self, *, real: bool) -> bool:
        """Whether there is time for one more trial: four calls of `fit`, which on real data fill the buffers first."""
        return self.time_left >= self.trial_seconds + (4 * self.filling if real else 0.0)

    def from_memory(self, times: int = 1) -> tuple[tf.data.Dataset]:
        """A data set that repeats the batch without end, `times` as large."""
        batch = self.batch
        if times > 1:
            batch = tf.nest.map_structure(lambda part: tf.concat([part] * times, 0), batch)
        memory = tf.data.Dataset.from_tensors(batch).repeat().prefetch(2)
        if self.stages and _fits(batch, self.data[0].element_spec):
            # With the element_spec of the real data, it needs no trace of its own.
            variant = tf.data.experimental.to_variant(memory)
            memory = tf.data.experimental.from_variant(variant, self.data[0].element_spec)
        return (without_autotune(memory),)

    def share(self, function: Any, memory: tuple[tf.data.Dataset]) -> None:
        """Use the train function of the real data for the batch from memory too, where their `element_spec` agree."""
        if self.stages and memory[0].element_spec == self.data[0].element_spec:
            self.functions.setdefault((id(self.model),), function)

    def time(
        self,
        data: tuple[Any, ...],
        seconds: float,
        *,
        model: keras.Model | None = None,
        fewest: int = 3,
        real: bool = False,
        **settings: Any,
    ) -> StepTimes:
        """Time some seconds of training under settings of the model such as `jit_compile`.

        The train function of each combination of settings is kept, so that it is traced only once.

        Args:
            data: Positional arguments of `fit`.
            seconds: Training time in seconds, counted from the end of the first step.
            model: Another model; None takes that of the run.
            fewest: Least number of steps after the first.
            real: Whether `data` is the real data, so that the first step waits until its buffers are filled.
            settings: Attributes that the model has while it is timed.
        """
        model = self.model if model is None else model
        before = {name: getattr(model, name) for name in settings}
        key = (id(model), *sorted(settings.items()))
        for name, value in settings.items():
            setattr(model, name, value)
        try:
            options = {"shuffle": False} if isinstance(data[0], tf.data.Dataset) else self.options
            found = time_steps(
                model, data, seconds, function=self.functions.get(key), fewest=fewest, **options
            )
            if key not in self.functions:
                # The time limit does not include tracing and compiling; it includes filling a shuffle.
                traced = max(0.0, found.first - (self.filling if real else 0.0))
                self.deadline += traced
                self.traced += traced
            self.functions[key] = found.compiled
        finally:
            for name, value in before.items():
                setattr(model, name, value)
        return found

    def ratio(
        self,
        changed: Callable[[float], StepTimes],
        unchanged: Callable[[float], StepTimes],
        *,
        filled: int = 0,
        least: float = 0.05,
    ) -> float:
        """Time of a changed step divided by that of an unchanged one, both measured twice in turns.

        Clock time is compared; on a busy machine CPU time, which other programs do not change.

        Args:
            changed: Function of a number of seconds that trains for so long with the change, and returns `StepTimes`.
            unchanged: The same without the change.
            filled: Steps to leave out at the beginning of each measurement of clock time.
            least: Share of the step, in [0, 1], that has to be gained both times. Otherwise a gain is taken for chance,
                and the worse of the two ratios is returned.
        """
        seconds = self.trial_seconds / 4
        busy = (
            self.busy or machine_is_busy()
        )  # asked before: afterwards our own prefetching goes on for a while
        rounds = [(unchanged(seconds), changed(seconds)) for _ in range(2)]
        if busy:
            old, new = ([one.processor for one in column] for column in zip(*rounds, strict=True))
        else:
            old, new = (
                [one.without_first(filled).typical for one in column] for column in zip(*rounds, strict=True)
            )
        each = np.array(new) / np.array(old)
        if max(each) > 1.0 - least:
            return float(max(each))
        return float(np.sum(new) / np.sum(old))


def _fits(batch, spec):
    try:
        tf.nest.assert_same_structure(batch, spec)
    except (TypeError, ValueError):
        return False
    pairs = zip(tf.nest.flatten(batch), tf.nest.flatten(spec), strict=True)
    return all(isinstance(one, tf.TensorSpec) and one.is_compatible_with(part) for part, one in pairs)


def real_data(data: tuple[Any, ...]) -> tuple[Any, ...]:
    """Copies of the data sets in `data`, so that reading does not change the order of the user's epochs.

    The copies are read without autotuning, as deleting an iterator that TensorFlow tunes may take a minute. Their
    shuffles hold few elements: a step costs the same, and filling takes no time. Where TensorFlow would by itself add a
    prefetch at the end or parallel calls to plain maps, the copies have them.
    """
    return tuple(_copied(one) if isinstance(one, tf.data.Dataset) else one for one in data)


def _copied(dataset):
    copy = fresh_copy(dataset, SHUFFLED)
    if is_parallelized_by_itself(dataset) and cores() > 1:
        with contextlib.suppress(ValueError):  # a data set whose maps cannot be rebuilt stays as it is
            copy = with_calls(copy, cores(), serial_only=True)
    if is_prefetched_by_itself(dataset):  # without autotuning TensorFlow adds none
        copy = copy.prefetch(_AHEAD)
    return without_autotune(copy)
