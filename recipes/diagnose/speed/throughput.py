"""throughput: where the time of a training step goes, why, and what would help."""

import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from recipes.common.backends import require_tensorflow
from recipes.common.datasets import fresh_copy, is_batched, pairs_of, without_autotune
from recipes.common.types import Data
from recipes.common.validation import is_number, is_whole
from recipes.diagnose.speed.graph_work import Machine, Work, measure_machine, work_of
from recipes.diagnose.speed.input_stages import Stage, as_text, describe_stages, measure_stages
from recipes.diagnose.speed.measured_run import MeasuredRun, real_data
from recipes.diagnose.speed.processors import machine_is_busy
from recipes.diagnose.speed.slowdown import Slowdown
from recipes.diagnose.speed.speed_rules import predicted, recompiles
from recipes.diagnose.speed.speed_trials import tried
from recipes.diagnose.speed.step_times import StepTimes, kept, time_steps

_BUSY = "Other programs keep this machine busy, so times are longer than they need be. Measure again on an idle one."


@dataclass(frozen=True)
class Throughput:
    """Outcome of `throughput`.

    Attributes:
        step_seconds: Clock time of a training step, all included.
        examples: Examples in a batch.
        parts: Where it goes, seconds a step: "input" (waiting for it), "transfer" (to a GPU), "step" (computing),
            "callbacks", "validation", "tracing", "garbage" (Python's collector), "keras" (its loop).
        stages: Of the input, with CPU seconds a batch; empty for arrays.
        findings: list of `Slowdown`, the largest gain first.
        not_tried: Codes of findings for whose trial the time did not suffice, so that their gain is predicted.
        work: What the graph says of a step; None where the model could not be traced.
        machine: What this machine does at best.
        first_step: Seconds of the first step, with its tracing.
        seconds: Clock time that all this took.
        tracing: What of it were traces: the first step of each train function that was tried, and of `evaluate`.
        note: What to bear in mind about the machine, or "".
    """

    step_seconds: float
    examples: int
    parts: Mapping[str, float]
    stages: Sequence[Stage]
    findings: Sequence[Slowdown]
    not_tried: Sequence[str]
    work: Work | None
    machine: Machine
    first_step: float
    seconds: float
    note: str = ""
    tracing: float = 0.0

    @property
    def examples_per_second(self) -> float:
        """Training examples a second."""
        return self.examples / self.step_seconds if self.step_seconds > 0 else 0.0

    @property
    def input_parts(self) -> dict[str, float]:
        """Where the time of the input goes, CPU seconds a batch by what is done: "read", "decode", "map", "augment",
        "batch", "shuffle", "prefetch", "cache", "python", "other". A function that reads and decodes is "decode".
        """
        parts: dict[str, float] = {}
        for stage in self.stages:
            parts[stage.kind] = parts.get(stage.kind, 0.0) + stage.seconds
        return parts

    def __str__(self) -> str:
        lines = [
            f"A step of {self.examples} examples takes {self.step_seconds * 1e3:.3g} ms, "
            f"{self.examples_per_second:,.0f} examples a second:"
        ]
        for name, seconds in self.parts.items():
            if seconds > 0.005 * self.step_seconds:
                lines.append(
                    f"  {name:<10} {seconds * 1e3:8.2f} ms  {seconds / max(self.step_seconds, 1e-9):4.0%}"
                )
        if self.stages:
            lines += ["The input, CPU time a batch:", *as_text(list(self.stages))]
        if self.work is not None:
            lines += self._of_the_graph()
        lines += [f"- {finding}" for finding in self.findings] or ["Nothing found that would gain a tenth."]
        if self.not_tried:
            lines.append(f"There was no time to try: {', '.join(self.not_tried)}.")
        return "\n".join([*lines, *([self.note] if self.note else [])])

    def _of_the_graph(self):
        work, machine = self.work, self.machine
        best = work.best_seconds(machine)
        held = {
            "weights": work.weights,
            "gradients": work.gradients,
            "optimizer": work.optimizer,
            "activations": work.activations * work.batch,
        }
        shown = ", ".join(f"{name} {size / 1e6:,.1f} MB" for name, size in held.items())
        return [
            f"At best, by {work.flops / 1e9:.3g} GFLOP and {work.bytes / 1e6:,.0f} MB of the graph against this "
            f"machine's peak ({machine.flops / 1e9:.0f} GFLOP/s, {machine.bandwidth / 1e9:.0f} GB/s): "
            f"{best * 1e3:.3g} ms.",
            f"Memory (an estimate from the graph): {shown}. With {machine.memory / 1e9:.1f} GB free, the largest batch "
            f"is about {work.largest_batch(machine):,} examples.",
        ]


def throughput(
    model: keras.Model,
    train: "Data | keras.utils.PyDataset",
    validation: "Data | None" = None,
    *,
    batch_size: int = 32,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    seconds: float = 20.0,
    verbose: int = 1,
) -> Throughput:
    """Say where the time of training goes, what causes it, and what the remedies gain.

    It trains for a few seconds with `model.fit` itself, in turns on the real data and on one batch that lies in
    memory: what the real data takes longer is waiting. Each stage of a `tf.data` pipeline is read alone. Remedies
    that need no other program are tried beside the unchanged run, cheapest first; for the others the gain is
    predicted, and marked so. Weights, optimizer, metrics and random generators are put back. Run it on a machine that
    does nothing else.

    Args:
        model: Built and compiled, as for `fit`.
        train: As for `fit`: `(x, y)` arrays, a `tf.data.Dataset` of batches (or of examples, which are then batched)
            or a `keras.utils.PyDataset`. Its order is left alone.
        validation: The same for validation data; then its share of an epoch is part of a step.
        batch_size: Examples a batch, where `train` does not say.
        callbacks: What `fit` would get. They run, with all they do: files that they write are written.
        seconds: Time for all measuring, beyond what tracing takes.
        verbose: 0 prints nothing.

    Returns:
        A `Throughput`; print it, or draw it with `recipes.plot.throughput`.

    Raises:
        ValueError: for a model that is not built and compiled, or data without a batch.
        TypeError: for data that can be read but once.

    Example:
        >>> found = recipes.diagnose.throughput(model, train, validation)
        >>> found.findings[0].remedy
    """
    require_tensorflow("diagnose.throughput", "whose fit it measures")
    _check(model, train, batch_size, seconds)
    gc.collect()  # what earlier work left behind is none of this training's
    began = time.perf_counter()
    data, options, stages = _opened(train, model, batch_size)
    with kept(model):
        run = _measured(model, data, options, stages, callbacks, seconds)
        _add_validation(run, validation, batch_size, seconds)
        # Tracing is beyond the time that was given.
        start = time.perf_counter()
        work = work_of(model, run.batch[0])
        run.traced += time.perf_counter() - start
        machine = measure_machine()
        run.best = work.best_seconds(machine) if work is not None else 0.0
        run.deadline, run.trial_seconds = time.perf_counter() + 0.5 * seconds, 0.1 * seconds
        shown, late = tried(run)
        found = [*predicted(run), *shown]
    result = Throughput(
        run.total,
        run.examples,
        _parts(run),
        run.stages,
        sorted(found, key=lambda one: -one.gain),
        late,
        work,
        machine,
        run.real.first,
        time.perf_counter() - began,
        _BUSY if machine_is_busy() else "",
        run.traced,
    )
    if verbose:
        print(result)
    return result


def _check(model, train, batch_size, seconds):
    if not isinstance(model, keras.Model) or not getattr(model, "compiled", False) or not model.built:
        raise ValueError(
            f"throughput expects a built and compiled keras.Model. Received {model!r}. "
            "Call model.compile(...), and model.build(...) where it has no Input."
        )
    if not is_whole(batch_size) or batch_size < 1 or not is_number(seconds) or seconds <= 0:
        raise ValueError(
            "throughput expects batch_size to be a whole number >= 1 and seconds a number above 0. Received "
            f"batch_size={batch_size!r}, seconds={seconds!r}. Leave them out for 32 and 20."
        )
    known = isinstance(train, (tf.data.Dataset, keras.utils.PyDataset))
    arrays = train if isinstance(train, (tuple, list)) else (train,)
    if not known and not all(hasattr(leaf, "shape") for leaf in keras.tree.flatten(arrays)):
        raise TypeError(
            "throughput expects arrays (x, y), a tf.data.Dataset or a keras.utils.PyDataset. Received "
            f"{type(train).__name__}, which can be read but once or is none. Wrap a generator with "
            "tf.data.Dataset.from_generator."
        )


def _opened(train, model, batch_size):
    """`(arguments of fit, options of fit, stages)`."""
    if isinstance(train, tf.data.Dataset):
        train = pairs_of(train)
        if not is_batched(train.element_spec, model):
            train = train.batch(batch_size)
        return (train,), {"shuffle": False}, describe_stages(train)
    if isinstance(train, keras.utils.PyDataset):
        return (train,), {}, []
    arrays = tuple(train) if isinstance(train, (tuple, list)) else (train,)
    options = {"batch_size": batch_size}
    if len(arrays) == 3:  # the third argument of fit is another
        options["sample_weight"] = arrays[2]
    return arrays[:2], options, []


def _measured(model, data, options, stages, callbacks, seconds):
    batch = _one_batch(data, options)
    examples = int(tf.nest.flatten(batch)[0].shape[0])
    stages = measure_stages(stages, examples, 0.15 * seconds) if stages else []
    empty = StepTimes(np.zeros(1))
    steps = _steps_of(data, options)
    run = MeasuredRun(
        model, real_data(data), options, batch, list(callbacks), stages, empty, empty, epoch_steps=steps
    )
    memory = run.from_memory()
    run.filling = stages[-1].first if stages else 0.0
    rounds: list[tuple[StepTimes, StepTimes]] = []
    for _ in range(2 if run.filling < 0.1 * seconds else 1):
        real = time_steps(
            model,
            run.data,
            0.08 * seconds,
            callbacks=callbacks,
            function=rounds[0][0].compiled if rounds else None,
            **options,
        )
        rounds.append((real, run.time(memory, 0.06 * seconds)))
    run.real, run.alone = (_joined([pair[number] for pair in rounds]) for number in (0, 1))
    run.traced += max(0.0, run.real.first - run.filling)
    run.busy = machine_is_busy()
    run.input_seconds = stages[-1].wall if stages else _reading(data, 0.05 * seconds)
    return run


def _joined(times):
    """Several measurements as one: traces and warnings of the first, which traced, and steps of all."""
    function = np.concatenate([one.function for one in times])
    names = {name for one in times for name in one.callbacks}
    return StepTimes(
        function,
        {name: float(np.mean([one.callbacks.get(name, 0.0) for one in times])) for name in names},
        float(np.mean([one.between for one in times])),
        float(np.mean([one.garbage for one in times])),
        max(one.traces for one in times),
        tuple(dict.fromkeys(name for one in times for name in one.retraced)),
        times[0].first,
        float(np.mean([one.processor for one in times])),
        times[-1].compiled,
    )


def _one_batch(data, options):
    """The first batch, as tensors."""
    first = data[0]
    if isinstance(first, tf.data.Dataset):
        batch = next(iter(without_autotune(fresh_copy(first))), None)
        if batch is None:
            raise ValueError(
                "throughput expects data with at least one batch. Received an empty data set. Check its filter."
            )
    elif isinstance(first, keras.utils.PyDataset):
        batch = first[0]
    else:
        count, weights = options["batch_size"], options.get("sample_weight")
        parts = data if weights is None else (*data, weights)
        batch = keras.tree.map_structure(lambda array: np.asarray(array[:count]), parts)
    batch = batch if isinstance(batch, tuple) else (batch,)
    return keras.tree.map_structure(tf.convert_to_tensor, batch)


def _reading(data, seconds):
    """Clock time a batch that reading arrays or a PyDataset takes."""
    if not isinstance(data[0], keras.utils.PyDataset):
        return 0.0
    start, count = time.perf_counter(), 0
    for number in range(len(data[0])):
        data[0][number]
        count += 1
        if time.perf_counter() - start > seconds:
            break
    return (time.perf_counter() - start) / max(count, 1)


def _steps_of(data, options):
    first = data[0]
    if isinstance(first, tf.data.Dataset):
        count = int(first.cardinality())
        return count if count > 0 else None
    if isinstance(first, keras.utils.PyDataset):
        return first.num_batches
    return -(-len(keras.tree.flatten(first)[0]) // options["batch_size"])


def _add_validation(run, validation, batch_size, seconds):
    """Time some batches of `evaluate`, and spread a whole pass over the steps of an epoch."""
    if validation is None or not run.epoch_steps:
        return
    data, options, _ = _opened(validation, run.model, batch_size)
    options.pop("shuffle", None)  # Keras warns of its own default with a data set
    steps = _steps_of(data, options)
    if not steps:
        return
    data = real_data(data)
    part = {"verbose": 0, **options}
    start = time.perf_counter()
    run.model.evaluate(*data, steps=min(steps, 2), **part)  # traces
    run.traced += time.perf_counter() - start
    count, spent = 2, 0.0
    while spent < 0.05 * seconds and count < 2 * steps:
        count = min(2 * count, 2 * steps)
        start = time.perf_counter()
        run.model.evaluate(*data, steps=min(count, steps), **part)
        spent = time.perf_counter() - start
    run.validation = spent / min(count, steps) * steps / run.epoch_steps


def _parts(run):
    tracing = run.beside if recompiles(run) else 0.0
    transfer = _transfer(run.batch)
    waiting = 0.0 if tracing else run.waiting
    return {
        "input": waiting,
        "transfer": transfer,
        "step": max(0.0, run.with_data - tracing - waiting - transfer - run.real.garbage),
        "callbacks": run.in_callbacks,
        "validation": run.validation,
        "tracing": tracing,
        "garbage": run.real.garbage,
        "keras": run.real.between,
    }


def _transfer(batch):
    """Seconds to bring a batch to the first GPU; 0 without one."""
    if not tf.config.list_logical_devices("GPU"):
        return 0.0
    times = []
    for _ in range(3):
        start = time.perf_counter()
        with tf.device("GPU:0"):
            moved = [tf.identity(part) for part in tf.nest.flatten(batch)]
        np.asarray(tf.reduce_sum(tf.cast(moved[0], tf.float32)))
        times.append(time.perf_counter() - start)
    return min(times)
