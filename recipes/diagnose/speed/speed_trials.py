"""Remedies that can be tried without a change of the user's program, each measured in turns with the unchanged run."""

from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from recipes.common.datasets import function_of, with_calls, without_autotune
from recipes.common.models import loss_weights_of, rebuild
from recipes.diagnose.checks.model_copy import copied
from recipes.diagnose.speed.measured_run import MeasuredRun
from recipes.diagnose.speed.processors import cores, machine_is_busy
from recipes.diagnose.speed.slowdown import Slowdown
from recipes.diagnose.speed.speed_rules import GAINS, many_calls, share_of, waits

_SMALL_BATCH = 16
_SHORT_STEP = 0.005  # seconds
_LARGE_GAIN = 0.2  # share that a change of compiler, dtype or execution has to gain in both measurements
_START = 5e-4  # seconds that Keras takes to start a step, about
_FILLED = 3  # first steps on a data set, which do not wait, as its buffers are still full
_LARGER = 4
_PER_EXECUTION = 8
_NO_TIME = "there was no time to try it"
_BUSY = "other programs keep this machine busy"


def tried(run: MeasuredRun) -> tuple[list[Slowdown], list[str], dict[str, str]]:
    """Try the remedies one after another, the cheapest first, as long as there is time.

    Returns:
        `(found, late, unknown)`. `found` holds the remedies that gain a tenth of the time or more, and every
        "too_many_threads". `late` holds the codes of those in `found` that there was no time to try, so that their
        gain is predicted. `unknown` maps the codes whose gain only a trial can tell to the reason why there was none.
    """
    found, late = [], []
    run.unknown = {}
    trials = (
        _eager,
        _prefetch,
        _steps_per_execution,
        _serial_map,
        _threads,
        _batch,
        _dtype,
        _mixed_precision,
        _xla,
    )
    for trial in trials:
        enough = run.may_try(real=trial not in (_batch, _dtype, _mixed_precision))
        for one in trial(run):
            if one.gain >= GAINS or one.code == "too_many_threads":
                found.append(one)
                late += [] if one.tried or enough else [one.code]
    return found, late, run.unknown


def _measured(
    run: MeasuredRun, measure: Callable[[], float], predicted: float, *, real: bool = True
) -> tuple[float, bool]:
    """`(ratio of a changed step to an unchanged one, whether it was measured)`; it is predicted where time is short."""
    return (measure(), True) if run.may_try(real=real) else (predicted, False)


def _after(run, ratio):
    """Total seconds per step, if waiting and computing together take `ratio` times as long as before."""
    return run.total - run.with_data * (1.0 - ratio)


def _trained(run: MeasuredRun, *, least: float = 0.05, **settings: object) -> float:
    """Ratio of the time of a step with other settings to that of an unchanged one, both on the real data."""
    return run.ratio(
        lambda time: run.time(run.data, time, fewest=_FILLED + 3, real=True, **settings),
        lambda time: run.time(run.data, time, fewest=_FILLED + 3, real=True),
        filled=_FILLED,
        least=least,
    )


def _eager(run: MeasuredRun) -> Iterator[Slowdown]:
    if run.model.run_eagerly:
        # In all our measurements, a compiled step took a third of an eager one or less.
        ratio, measured = _measured(run, lambda: _trained(run, run_eagerly=False), 1 / 3)
        yield Slowdown(
            "run_eagerly",
            f"Every operation of the step is called from Python: {run.step * 1e3:.3g} ms.",
            "Compile with run_eagerly=False, the default.",
            run.total,
            _after(run, ratio),
            tried=measured,
        )


def _prefetch(run: MeasuredRun) -> Iterator[Slowdown]:
    if not waits(run) or not run.stages or run.is_prefetched:
        return
    ready = run.data[0].prefetch(2)
    # At best it hides the step behind the input; on a busy machine a trial cannot show the gain of overlapping.
    busy = run.busy or machine_is_busy() or not run.may_try(real=True)
    saved = run.waiting if busy else run.with_data * (1.0 - _with_data(run, ready))
    yield Slowdown(
        "no_prefetch",
        f"Batches are made while no step runs: {run.input_seconds * 1e3:.3g} ms of input, then "
        f"{run.step * 1e3:.3g} ms of computing.",
        "End the data set with .prefetch(tf.data.AUTOTUNE): its options keep TensorFlow from adding that itself.",
        run.total,
        run.total - min(saved, run.step),
        tried=not busy,
    )


def _with_data(run: MeasuredRun, dataset: tf.data.Dataset) -> float:
    fewest, data = _FILLED + 4, (without_autotune(dataset),)
    return run.ratio(
        lambda time: run.time(data, time, fewest=fewest, real=True),
        lambda time: run.time(run.data, time, fewest=fewest, real=True),
        filled=_FILLED,
    )


def _has_no_state(stage):
    function = function_of(stage.dataset)
    return function is not None and not function.function_def.signature.is_stateful


def _heavy_serial(run):
    return [
        stage
        for stage in run.stages
        if stage.calls == 1 and "Map" in stage.name and not stage.python and share_of(run, stage) >= 0.25
        if not (run.parallelized_by_itself and _has_no_state(stage))
    ]


def _serial_map(run: MeasuredRun) -> Iterator[Slowdown]:
    heavy = _heavy_serial(run) if waits(run) and cores() > 1 else []
    if not heavy:
        return
    busy = run.busy or machine_is_busy() or not run.may_try(real=True)
    try:
        ratio = 1.0 if busy else _with_data(run, with_calls(run.data[0], cores()))
    except ValueError:
        return
    # Where other programs use the processors, a trial cannot show the gain of parallel calls.
    share = sum(share_of(run, stage) for stage in heavy)
    saved = share * run.waiting * (1 - 1 / cores()) if busy else run.with_data * (1.0 - ratio)
    yield Slowdown(
        "serial_map",
        f"{heavy[0].name} makes one call at a time, {heavy[0].cost * 1e3:.3g} ms a batch, and {cores()} processors "
        "are there.",
        "Write .map(f, num_parallel_calls=tf.data.AUTOTUNE).",
        run.total,
        run.total - min(saved, run.beside),
        tried=not busy,
    )


def _threads(run: MeasuredRun) -> Iterator[Slowdown]:
    many = many_calls(run)
    if not many:
        return
    try:
        fewer = with_calls(run.data[0], cores())
        ratio, measured = _measured(run, lambda: min(1.0, _with_data(run, fewer)), 1.0)
    except ValueError:
        ratio, measured = 1.0, False
    yield Slowdown(
        "too_many_threads",
        f"{many} calls or threads at a time share {cores()} processors, and hold as many elements in memory.",
        "Write num_parallel_calls=tf.data.AUTOTUNE, and leave the thread pool as it is.",
        run.total,
        run.total - run.with_data * (1.0 - ratio),
        tried=measured,
    )


def _steps_per_execution(run: MeasuredRun) -> Iterator[Slowdown]:
    idle = run.model.run_eagerly or run.model.steps_per_execution > 1 or run.alone.processor > _SHORT_STEP
    together = min(_PER_EXECUTION, run.epoch_steps or _PER_EXECUTION)
    if idle or not run.computes or together < 2:
        return
    started = min(1.0, _START / max(run.with_data, 1e-9)) * (1 - 1 / together)
    ratio, measured = _measured(
        run, lambda: _trained(run, least=_LARGE_GAIN, steps_per_execution=together), 1.0 - started
    )
    yield from _if(
        _LARGE_GAIN,
        Slowdown(
            "steps_per_execution",
            f"A step takes {run.step * 1e3:.3g} ms, much of it for Keras to start it.",
            f"Compile with steps_per_execution={together}{' or more' if together == _PER_EXECUTION else ''}.",
            run.total,
            _after(run, ratio),
            tried=measured,
        ),
    )


def _if(least, finding):
    return [finding] if finding.gain >= least else []


def _batch(run: MeasuredRun) -> Iterator[Slowdown]:
    if run.examples > _SMALL_BATCH or run.model.run_eagerly or not run.computes:
        return
    larger = run.from_memory(_LARGER)
    ratio, measured = _measured(
        run,
        lambda: run.ratio(
            lambda time: run.time(larger, time), lambda time: run.time(run.from_memory(), time)
        ),
        1 + (_LARGER - 1) * min(1.0, run.best / run.step) if run.best else float(_LARGER),
        real=False,
    )
    verb = "takes" if measured else "would take, by its operations,"
    yield from _if(
        0.3,
        Slowdown(
            "small_batch",
            f"A step on {_LARGER * run.examples} examples {verb} {ratio:.2g} times one on {run.examples}.",
            f"Take batches of {_LARGER * run.examples} or more, and scale the learning rate: "
            "recipes.schedules.scale_for_batch.",
            _LARGER * run.total,
            run.total + run.step * (ratio - 1.0),
            tried=measured,
            unit=f"for {_LARGER * run.examples} examples",
        ),
    )


def _dtype(run: MeasuredRun) -> Iterator[Slowdown]:
    dtype = run.compute_dtype
    code = {"float64": "float64", "float16": "mixed_precision", "bfloat16": "mixed_precision"}.get(dtype)
    if code is None:
        return
    twin = _in_dtype(run.model, "float32")
    if twin is None:
        return
    memory = run.from_memory()
    ratio, measured = _measured(
        run,
        lambda: run.ratio(
            lambda time: run.time(memory, time, model=twin), lambda time: run.time(memory, time)
        ),
        0.5 if code == "float64" else 1.0,  # half the bytes; the cost of half precision cannot be predicted
        real=False,
    )
    verb = "takes" if measured else "should take"
    setting = "keras.config.set_floatx('float32')" if code == "float64" else "dtype_policy='float32'"
    yield Slowdown(
        code,
        f"The model computes in {dtype}, {run.step * 1e3:.3g} ms a step; in float32 it {verb} {ratio:.2g} times that.",
        f"Build the model in float32: {setting}.",
        run.total,
        _after(run, ratio),
        tried=measured,
    )


def _mixed_precision(run: MeasuredRun) -> Iterator[Slowdown]:
    """Try half precision, which helps on some processors only."""
    if run.compute_dtype != "float32" or run.model.run_eagerly or not run.computes:
        return
    if run.alone.processor < _SHORT_STEP:
        return  # for products of that size, casting costs more than half precision gains
    if _is_left_out(run, "mixed_precision", trials=2, real=False):
        return  # only clock time shows what it gains
    dtype = "mixed_float16" if tf.config.list_physical_devices("GPU") else "mixed_bfloat16"
    twin = _in_dtype(run.model, dtype)
    if twin is None:
        return
    memory = run.from_memory()
    ratio = run.ratio(
        lambda time: run.time(memory, time, model=twin),
        lambda time: run.time(memory, time),
        least=_LARGE_GAIN,
    )
    yield from _if(
        _LARGE_GAIN,
        Slowdown(
            "mixed_precision",
            f"The model computes in float32, {run.step * 1e3:.3g} ms a step; with {dtype} it takes {ratio:.2g} times "
            "that.",
            f"Build the model after keras.config.set_dtype_policy({dtype!r}).",
            run.total,
            _after(run, ratio),
            tried=True,
        ),
    )


def _is_left_out(run, code, *, trials, real):
    """Whether a trial that needs reliable clock times is left out; the reason is noted in `run.unknown`."""
    if run.busy or machine_is_busy():
        run.unknown[code] = _BUSY
    elif run.time_left < trials * run.trial_seconds or not run.may_try(real=real):
        run.unknown[code] = _NO_TIME
    return code in run.unknown


def _in_dtype(model: keras.Model, dtype: str) -> keras.Model | None:
    try:
        twin = rebuild(model, dtype)
        twin.compile(
            optimizer=copied(model.optimizer),
            loss=model.loss,
            loss_weights=loss_weights_of(model),
            jit_compile=model.jit_compile,
            run_eagerly=model.run_eagerly,
        )
    except (TypeError, ValueError):
        return None
    return twin


def _xla(run: MeasuredRun) -> Iterator[Slowdown]:
    if run.model.run_eagerly or not run.computes:
        return
    on = bool(run.model.jit_compile)
    if on:  # where XLA is slower, it is so by so much that CPU time shows it too
        if not run.may_try(real=True):
            run.unknown["xla"] = _NO_TIME
            return
    elif _is_left_out(run, "xla", trials=2, real=True):
        return  # compiling may take long, and only clock time shows the gain, as XLA uses fewer threads
    least = GAINS if on else _LARGE_GAIN
    try:
        after = _after(run, _trained(run, least=least, jit_compile=not on))
    except Exception:
        return
    words = "slower" if on else "faster"
    yield from _if(
        least,
        Slowdown(
            "xla",
            f"XLA makes this step {words} here: {run.step * 1e3:.3g} ms {'with' if on else 'without'} it.",
            f"Compile with jit_compile={not on}.",
            run.total,
            after,
            tried=True,
        ),
    )
