"""A training run under measurement: with its data, on one batch from memory, and with changed settings, in turns."""

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
    """What rules and trials look at.

    Attributes:
        model: Compiled and built, inside `kept`.
        data: What `fit` takes as positional arguments.
        options: And by name.
        batch: One batch, `(inputs, labels)` or with weights, as tensors.
        callbacks: The user's.
        stages: Of the input; empty for arrays.
        real: Steps of the real training.
        alone: Steps on one batch that lies in memory.
        input_seconds: Clock time a batch of the input, read alone.
        validation: Seconds of validation, spread over the steps of an epoch.
        epoch_steps: Steps of an epoch, or None.
        deadline: When measuring should end, of `time.perf_counter`.
        trial_seconds: Time for one trial.
        busy: Whether other programs wanted the processors meanwhile.
        functions: Train functions by settings, each traced once.
        traced: Seconds of first steps, which trace and compile.
        filling: Seconds that the input takes to its first batch, with shuffles that hold few elements.
        refilling: Seconds until the first batch of each epoch, beyond those of another, spread over the epoch's steps:
            of filling a shuffle, of what a generator does first.
        best: Seconds a step that the graph needs at this machine's peak; 0 where that is not known.
        prefetched_by_itself: Whether TensorFlow adds a prefetch to the end of the user's data set.
        parallelized_by_itself: Whether TensorFlow lets its plain maps without state make several calls at a time.
        unknown: Code -> why it was not tried, of what only a trial would tell.
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
        """Computing alone, seconds a step."""
        alone = self.alone.median if self.busy else self.alone.typical
        return min(alone, self.with_data)  # the same step: on one batch it may have had a bad moment

    @property
    def with_data(self) -> float:
        """Waiting and computing, seconds a step; on a busy machine the median, as the others' bursts say nothing."""
        return self.real.median if self.busy else self.real.mean

    @property
    def beside(self) -> float:
        """What a step takes longer with the real data: waiting for input, or for its shapes to be compiled.

        Where batches are made while no step runs, and other programs make the clock say little, the processors tell.
        """
        longer = max(0.0, self.with_data - self.step)
        if self.busy and self.stages and not self.is_prefetched and self.real.processor > 0:
            share = 1.0 - self.alone.processor / self.real.processor
            longer = max(longer, share * self.with_data)
        return longer

    @property
    def is_prefetched(self) -> bool:
        """Whether batches of a `tf.data` pipeline are made ahead: little is done behind its last prefetch.

        TensorFlow adds one to the end, unless options forbid it.
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
        """What of it can be waiting: no more than the input takes alone. Of arrays that is not known."""
        return min(self.beside, 1.2 * self.input_seconds) if self.input_seconds else self.beside

    @property
    def computes(self) -> bool:
        """Whether computing is half of a step or more, by the clock or, on a busy machine, by the processors."""
        if self.step + self.real.between >= 0.5 * self.total:
            return True
        return self.busy and 0 < 0.5 * self.real.processor <= self.alone.processor

    @property
    def in_callbacks(self) -> float:
        """Seconds a step in the user's callbacks."""
        return sum(self.real.callbacks.values())

    @property
    def total(self) -> float:
        """Everything, seconds a step."""
        return self.with_data + self.in_callbacks + self.real.between + self.validation + self.refilling

    @property
    def examples(self) -> int:
        """Examples in the batch."""
        return int(tf.nest.flatten(self.batch)[0].shape[0])

    @property
    def compute_dtype(self) -> str:
        """What most layers with weights compute in."""
        kinds = [layer.compute_dtype for layer in self.model.layers if layer.weights] or ["float32"]
        return max(set(kinds), key=kinds.count)

    @property
    def time_left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.perf_counter()

    def may_try(self, *, real: bool) -> bool:
        """Whether the time suffices for one more trial: four fits, which fill the input's buffers on real data."""
        return self.time_left >= self.trial_seconds + (4 * self.filling if real else 0.0)

    def from_memory(self, times: int = 1) -> tuple[tf.data.Dataset]:
        """The batch, again and again, `times` as large."""
        batch = self.batch
        if times > 1:
            batch = tf.nest.map_structure(lambda part: tf.concat([part] * times, 0), batch)
        memory = tf.data.Dataset.from_tensors(batch).repeat().prefetch(2)
        if self.stages and _fits(batch, self.data[0].element_spec):
            # Told to be of the same shapes as the real data, it needs no trace of its own.
            variant = tf.data.experimental.to_variant(memory)
            memory = tf.data.experimental.from_variant(variant, self.data[0].element_spec)
        return (without_autotune(memory),)

    def share(self, function: Any, memory: tuple[tf.data.Dataset]) -> None:
        """Let steps on a batch from memory use the function that was traced for the real data, where it takes them."""
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
        """Some seconds of training with settings of the model such as `jit_compile`, whose function is kept.

        Args:
            data: What `fit` takes as positional arguments.
            seconds: Time after the first step.
            model: Another model; None takes the run's.
            fewest: Steps after the first, at least.
            real: Whether it is the real data, whose buffers the first step waits for.
            settings: Attributes of the model meanwhile.
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
                # Tracing and compiling are beyond the time that was given; filling a shuffle is not.
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
        """How long a changed step takes, as a share of an unchanged one, both measured twice in turns.

        By the clock; on a busy machine by the time of the processors, which other programs leave alone.

        Args:
            changed, unchanged: Functions of seconds that measure.
            filled: Steps to leave out at the beginning of each measurement by the clock.
            least: Share of the step that has to be gained both times; else what was gained once was chance, and the
                worse of the two is the answer.
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
    """The data with iterators of their own, so that reading leaves the order of the user's epochs alone.

    They are not tuned: an iterator that TensorFlow tunes may be waited for for a minute when it is deleted. Their
    shuffles hold few elements, which costs a step the same and takes no time to fill; and they end with a prefetch, as
    TensorFlow would add one itself, and plain maps make as many calls as it would let them.
    """
    return tuple(_copied(one) if isinstance(one, tf.data.Dataset) else one for one in data)


def _copied(dataset):
    copy = fresh_copy(dataset, SHUFFLED)
    if is_parallelized_by_itself(dataset) and cores() > 1:
        with contextlib.suppress(ValueError):  # it stays as it is where it cannot be copied
            copy = with_calls(copy, cores(), serial_only=True)
    if is_prefetched_by_itself(dataset):  # which goes with tuning
        copy = copy.prefetch(_AHEAD)
    return without_autotune(copy)
