"""throughput: where the time of a training step goes, why, and what would help."""

import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import keras
import numpy as np
import tensorflow as tf

from recipes.common.backends import require_tensorflow
from recipes.common.datasets import is_parallelized_by_itself, is_prefetched_by_itself
from recipes.common.types import Data
from recipes.common.validation import is_number, is_whole
from recipes.diagnose.checks.output_task import own_step
from recipes.diagnose.speed.graph_work import Machine, Work, measure_machine, work_of
from recipes.diagnose.speed.input_stages import Stage, as_text, measure_stages
from recipes.diagnose.speed.measured_data import batches_of, first_batch, opened, reading
from recipes.diagnose.speed.measured_run import MeasuredRun, real_data
from recipes.diagnose.speed.processors import machine_is_busy
from recipes.diagnose.speed.slowdown import Slowdown
from recipes.diagnose.speed.speed_rules import predicted, recompiles
from recipes.diagnose.speed.speed_trials import tried
from recipes.diagnose.speed.step_times import StepTimes, kept, time_steps

_BUSY = "Other programs keep this machine busy, so times are longer than they need be. Measure again on an idle one."
_FEW = 6  # steps; with fewer, a single slow one changes the result


@dataclass(frozen=True)
class Throughput:
    """Outcome of `throughput`.

    Attributes:
        step_seconds: Clock time per training step in seconds, with its share of validation and of the start of an
            epoch.
        examples: Examples in a batch.
        parts: Where that time goes, in seconds per step: "input" (waiting for it), "transfer" (to a GPU), "step"
            (computing), "callbacks", "validation", "tracing", "garbage" (Python's collector), "keras" (its loop).
        stages: Stages of the input pipeline, with their CPU time in seconds per batch; empty for arrays.
        findings: `Slowdown` objects, the largest gain first.
        not_tried: Codes of findings that there was no time to try, so that their gain is predicted.
        unknown: Code -> why it was not tried, for "xla" and "mixed_precision": only a trial can tell whether they help.
        work: Operations and bytes of a step, estimated from the graph; None where the model could not be traced.
        machine: Measured peak performance of this machine.
        first_step: Seconds of the first step, with its tracing.
        seconds: Clock time of the whole call of `throughput`, in seconds.
        tracing: The part of `seconds` spent on tracing: by the first step of each train function, and by `evaluate`.
        note: Sentences on what makes the measurements less certain, or "".
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
    unknown: Mapping[str, str] = field(default_factory=dict)

    @property
    def examples_per_second(self) -> float:
        """Training examples per second."""
        return self.examples / self.step_seconds if self.step_seconds > 0 else 0.0

    @property
    def input_parts(self) -> dict[str, float]:
        """CPU time of the input by kind of work, in seconds per batch.

        The kinds are "read", "decode", "map", "augment", "batch", "shuffle", "prefetch", "cache", "python" and "other".
        A function that reads and decodes counts as "decode".
        """
        parts: dict[str, float] = {}
        for stage in self.stages:
            parts[stage.kind] = parts.get(stage.kind, 0.0) + stage.seconds
        return parts

    def __str__(self) -> str:
        several = "s" if self.examples != 1 else ""
        lines = [
            f"A step of {self.examples} example{several} takes {self.step_seconds * 1e3:.3g} ms, "
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
        for why in dict.fromkeys(self.unknown.values()):
            codes = ", ".join(code for code, reason in self.unknown.items() if reason == why)
            lines.append(f"Whether it would help is not known, as {why}: {codes}.")
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
            f"Memory (an estimate from the graph): {shown}. With {machine.memory / 1e9:.1f} GB free, memory "
            f"alone would do for a batch of about {work.largest_batch(machine):,}.",
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
    """Measure where the time of a training step goes, what causes it, and what the remedies gain.

    It trains for a few seconds with `model.fit` itself, in turns on the real data and on one batch that lies in
    memory; the extra time on the real data is waiting for input. A `tf.data` pipeline is also read alone, up to each
    of its stages. Remedies that need no change of your program are tried in turns with the unchanged run, the cheapest
    first. The gain of the others is predicted, and marked as such. Weights, optimizer, metrics and random generators
    are restored afterwards. Run it on a machine that does nothing else.

    Args:
        model: Built and compiled, as for `fit`.
        train: As for `fit`: `(x, y)` arrays, a `tf.data.Dataset` of batches (or of examples, which are then batched)
            or a `keras.utils.PyDataset`. A copy is read, so that its order does not change; the copy of a PyDataset
            shares the largest arrays and what cannot be copied. While it is measured, a shuffle holds few elements;
            the time to fill it in each epoch is calculated from the time per element.
        validation: Validation data of the same kinds, or None. The time of validation is spread over the steps of an
            epoch.
        batch_size: Examples per batch, >= 1, where `train` is not batched.
        callbacks: Callbacks that `fit` would get. They run with all their effects: the files that they write are
            written, and so are those of a `.cache(file)` in the pipeline.
        seconds: Time for all measurements in seconds, > 0; tracing comes on top.
        verbose: 0 prints nothing, 1 prints the result.

    Returns:
        A `Throughput`; print it, or draw it with `recipes.plot.throughput`.

    Raises:
        ValueError: for a model that is not built and compiled, data without a batch, inputs without labels for a model
            that has a loss, or `batch_size` or `seconds` out of range.
        TypeError: for data that can be read only once, such as a generator, or that is of another kind.

    Example:
        >>> found = recipes.diagnose.throughput(model, train, validation)
        >>> found.findings[0].remedy
    """
    require_tensorflow("diagnose.throughput", "whose fit it measures")
    _check(model, train, batch_size, seconds)
    if verbose:
        compiles = ", which XLA may take minutes for" if model.jit_compile else ""
        print(f"Measuring for about {seconds:g} s, beyond what tracing takes{compiles}.", flush=True)
    gc.collect()  # so that garbage of earlier work is not counted
    began = time.perf_counter()
    data, options, stages = opened(train, model, batch_size)
    with kept(model):
        run = _measured(model, data, options, stages, callbacks, seconds)
        _add_validation(run, validation, batch_size, seconds)
        # The time limit does not include tracing.
        start = time.perf_counter()
        work = work_of(model, run.batch[0])
        run.traced += time.perf_counter() - start
        machine = measure_machine()
        run.best = work.best_seconds(machine) if work is not None else 0.0
        # Trials get half of the time, or more where the measurements left some of theirs.
        left = began + 0.9 * seconds + run.traced - time.perf_counter()
        run.deadline, run.trial_seconds = time.perf_counter() + max(0.5 * seconds, left), 0.1 * seconds
        shown, late, unknown = tried(run)
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
        run.real.first + (run.stages[-1].filling if run.stages else 0.0),
        time.perf_counter() - began,
        _notes(run, validation),
        run.traced,
        unknown,
    )
    if verbose:
        print(result)
    return result


def _check(model, train, batch_size, seconds):
    is_model = isinstance(model, keras.Model)
    if not is_model or not model.compiled or not model.built:
        received = repr(model) if is_model else f"an object of class {type(model).__name__}"
        raise ValueError(
            f"throughput expects a built and compiled keras.Model as its first argument. Received {received}. "
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
            f"{type(train).__name__}, which can be read only once, or is none of these. Wrap a generator with "
            "tf.data.Dataset.from_generator."
        )
    if not known and len(arrays) == 1 and model.loss is not None and not own_step(model):
        raise ValueError(
            f"throughput expects (x, y) for a model that was compiled with a loss. Received x alone, of shape "
            f"{np.shape(keras.tree.flatten(arrays)[0])}. Give labels as well: throughput(model, (x, y))."
        )


def _measured(model, data, options, stages, callbacks, seconds):
    batch = first_batch(data, options)
    examples = int(tf.nest.flatten(batch)[0].shape[0])
    stages = measure_stages(stages, examples, 0.15 * seconds) if stages else []
    empty = StepTimes(np.zeros(1))
    steps = batches_of(data, options, 0.05 * seconds)
    run = MeasuredRun(
        model, real_data(data), options, batch, list(callbacks), stages, empty, empty, epoch_steps=steps
    )
    if isinstance(data[0], tf.data.Dataset):
        run.prefetched_by_itself = is_prefetched_by_itself(data[0])
        run.parallelized_by_itself = is_parallelized_by_itself(data[0])
    if stages:
        run.filling = stages[-1].first - stages[-1].filling
        run.refilling = max(0.0, stages[-1].first - stages[-1].wall) / steps if steps else 0.0
    memory, rounds = run.from_memory(), []
    for _ in range(2 if run.filling < 0.1 * seconds else 1):
        real = time_steps(
            model,
            run.data,
            0.08 * seconds,
            callbacks=callbacks,
            function=rounds[0][0].compiled if rounds else None,
            **options,
        )
        run.share(real.compiled, memory)
        rounds.append((real, run.time(memory, 0.06 * seconds)))
    run.real, run.alone = (_joined([pair[number] for pair in rounds]) for number in (0, 1))
    run.traced += max(0.0, run.real.first - run.filling)
    run.busy = machine_is_busy()
    run.input_seconds = stages[-1].wall if stages else reading(data, 0.05 * seconds)
    return run


def _joined(times):
    """Several measurements as one: the steps of all, mean times, and the traces of the first, which alone traced."""
    function = np.concatenate([one.function for one in times])
    names = {name for one in times for name in one.callbacks}
    return StepTimes(
        function,
        {name: float(np.mean([one.callbacks.get(name, 0.0) for one in times])) for name in names},
        float(np.mean([one.between for one in times])),
        float(np.mean([one.garbage for one in times])),
        float(np.mean([one.garbage_inside for one in times])),
        max(one.traces for one in times),
        tuple(dict.fromkeys(name for one in times for name in one.retraced)),
        times[0].first,
        float(np.mean([one.processor for one in times])),
        times[-1].compiled,
    )


def _add_validation(run, validation, batch_size, seconds):
    """Time some batches of `evaluate`, and spread the time of a whole pass over the steps of an epoch."""
    if validation is None or not run.epoch_steps:
        return
    data, options, _ = opened(validation, run.model, batch_size)
    options.pop("shuffle", None)  # evaluate takes no such argument
    steps = batches_of(data, options, 0.1 * seconds)
    if not steps:
        return
    data = real_data(data)

    def timed(count):
        start = time.perf_counter()
        run.model.evaluate(*data, steps=count, verbose=0, **options)
        return time.perf_counter() - start

    run.traced += timed(1)
    # Starting `evaluate` takes long, but `fit` starts it only once: the cost is what each further batch adds.
    begin, count, spent = min(timed(1) for _ in range(2)), 1, 0.0
    while spent < 0.05 * seconds and count < steps:
        count = min(4 * count, steps)
        spent = timed(count)
    each = (spent - begin) / (count - 1) if count > 1 else begin
    run.validation = max(0.0, each) * steps / run.epoch_steps


def _notes(run, validation):
    """Sentences on what makes the measurements less certain, or ""."""
    notes = [_BUSY] if machine_is_busy() else []
    if len(run.real.function) < _FEW:
        notes.append(
            f"There was time for only {len(run.real.function)} of its steps: a larger seconds= measures more of them."
        )
    if run.refilling > 0.1 * run.total:
        notes.append(
            f"Every epoch waits {run.refilling * run.epoch_steps:.3g} s for its first batch: for a shuffle to fill, or "
            "for what its source does at the start."
        )
    if run.epoch_steps == 1 and run.real.between > 0.2 * run.total:
        notes.append("An epoch is a single step, so that Keras ends one and begins another at every step.")
    if validation is not None and not run.validation:
        notes.append(
            "Validation is not included, as one of the data sets does not say how many batches it has: "
            "data.apply(tf.data.experimental.assert_cardinality(n))."
        )
    return " ".join(notes)


def _parts(run):
    tracing = run.beside if recompiles(run) else 0.0
    transfer = _transfer(run.batch)
    waiting = 0.0 if tracing else run.waiting
    return {
        "input": waiting + run.refilling,
        "transfer": transfer,
        "step": max(0.0, run.with_data - tracing - waiting - transfer - run.real.garbage_inside),
        "callbacks": max(0.0, run.in_callbacks - (run.real.garbage - run.real.garbage_inside)),
        "validation": run.validation,
        "tracing": tracing,
        "garbage": run.real.garbage,
        "keras": run.real.between,
    }


def _transfer(batch):
    """Seconds to bring a batch to the first GPU; 0 without one."""
    devices = tf.config.list_logical_devices("GPU")
    if not devices:
        return 0.0
    times = []
    for _ in range(3):
        start = time.perf_counter()
        with tf.device(devices[0].name):
            moved = [tf.identity(part) for part in tf.nest.flatten(batch)]
        np.asarray(tf.reduce_sum(tf.cast(moved[0], tf.float32)))
        times.append(time.perf_counter() - start)
    return min(times)
