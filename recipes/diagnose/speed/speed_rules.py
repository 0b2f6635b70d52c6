"""Causes of slow training that the measurements show, each with the predicted gain of its remedy."""

import keras
import tensorflow as tf

from recipes.data.packed import free_memory
from recipes.diagnose.speed.input_stages import Stage
from recipes.diagnose.speed.measured_run import MeasuredRun
from recipes.diagnose.speed.processors import cores
from recipes.diagnose.speed.slowdown import Slowdown

WAITS = 0.15  # share of a step; where waiting takes more, the input is examined
GAINS = 0.1  # share of a step; smaller gains are not reported
_LARGE_BUFFER = 64 * 2**20
_SMALL_ELEMENT = 2**20
_MANY_CALLS = 8  # per core
_MOST_WORKERS = 4


def predicted(run: MeasuredRun) -> list[Slowdown]:
    """Causes whose remedies need a change of the user's program, so that their gain is predicted, not measured."""
    found = [
        *_retracing(run),
        *(_stages(run) if waits(run) else []),
        *_shuffle(run),
        *_starts(run),
        *_validation(run),
        *_callbacks(run),
    ]
    return [one for one in found if one.gain >= GAINS]


def waits(run: MeasuredRun) -> bool:
    """Whether steps wait for their input: for more than `WAITS` of a step, while the input alone is slow as well."""
    least = WAITS * run.total
    # A step and its input together use all processors, so other programs slow them down more than either alone.
    alone = 0.2 if run.busy else 0.5
    return not recompiles(run) and run.beside > least and run.input_seconds > alone * run.beside


def recompiles(run: MeasuredRun) -> bool:
    """Whether steps take longer on the real data because of tracing or compiling."""
    several = run.real.traces > 3 or bool(run.model.jit_compile and _shapes_vary(run))
    return several and run.input_seconds < 0.5 * run.beside


def share_of(run: MeasuredRun, stage: Stage) -> float:
    """A stage's share of the input's cost, in [0, 1]."""
    total = sum(one.cost for one in run.stages)
    return stage.cost / total if total > 0 else 0.0


def _shapes_vary(run):
    if not run.stages:
        return False
    spec = tf.nest.flatten(run.stages[-1].dataset.element_spec)[0]
    return spec.shape.rank is None or None in spec.shape.as_list()[1:]


def _found(run, code, evidence, remedy, saved, tried=False):
    return Slowdown(code, evidence, remedy, run.total, max(run.total - saved, 0.0), tried)


def _retracing(run):
    names = ", ".join(run.real.retraced)
    if names:
        return [
            _found(
                run,
                "retracing",
                f"TensorFlow traced {names} again and again while callbacks took {run.in_callbacks * 1e3:.3g} ms a "
                "step.",
                "Give it tensors instead of Python numbers: f(tf.constant(step)); or make it once, outside the loop.",
                0.9 * run.in_callbacks if run.in_callbacks > run.beside else run.beside,
            )
        ]
    if not recompiles(run):
        return []
    what = (
        f"The training step was traced {run.real.traces} times"
        if run.real.traces > 3
        else "XLA compiles the step anew for every shape of batch"
    )
    return [
        _found(
            run,
            "retracing",
            f"{what}: a step takes {run.with_data * 1e3:.3g} ms, and {run.step * 1e3:.3g} ms on one batch.",
            "Give every batch one shape: padded_batch or bucket_by_sequence_length with a few lengths, "
            "batch(drop_remainder=True); or compile(jit_compile=False).",
            run.beside,
        )
    ]


def _callbacks(run):
    if run.real.retraced or not run.real.callbacks:
        return []
    name, seconds = max(run.real.callbacks.items(), key=lambda pair: pair[1])
    return [
        _found(
            run,
            "batch_callback",
            f"{name} takes {seconds * 1e3:.3g} ms after every batch, beside {run.with_data * 1e3:.3g} ms of a step.",
            "Do its work every hundredth batch, or in on_epoch_end.",
            seconds,
            tried=True,  # the same steps were timed with and without it
        )
    ]


def _stages(run):
    if isinstance(run.data[0], keras.utils.PyDataset):
        return [_pydataset(run)]
    found, cached = [], False
    for stage in reversed(run.stages):
        cached = cached or stage.kind == "cache"
        share = share_of(run, stage)
        rule = None if share < 0.25 or cached else _rule_of(stage)
        if rule is not None:
            code, evidence, remedy = rule
            found.append(
                _found(run, code, f"{evidence} {_of_input(run, share)}", remedy, share * run.waiting)
            )
    return found


def _pydataset(run):
    remedy, saved = "Do its work once and keep the arrays, or write it with tf.data.", run.waiting
    if cores() > 1:
        workers = min(cores(), _MOST_WORKERS)
        remedy = f"Give it workers={workers}, use_multiprocessing=True; or write it with tf.data."
        # The workers and the training step share the processors.
        together = (run.input_seconds + max(run.alone.processor, run.step)) / cores()
        saved = run.with_data - max(run.step, run.input_seconds / workers, together)
    return _found(
        run,
        "python_map",
        f"{type(run.data[0]).__name__}.__getitem__ makes a batch in Python: {run.input_seconds * 1e3:.3g} ms, "
        f"for which a step of {run.total * 1e3:.3g} ms waits {run.waiting * 1e3:.3g} ms.",
        remedy,
        min(saved, run.waiting),
    )


def _of_input(run, share):
    return (
        f"It is {share:.0%} of the input, for which a step of {run.total * 1e3:.3g} ms waits "
        f"{run.waiting * 1e3:.3g} ms."
    )


def _rule_of(stage):
    each = f"{stage.cost * 1e3:.3g} ms a batch"
    if stage.kind == "python":
        return (
            "python_map",
            f"{stage.name} calls Python for every element: {each}, one call at a time.",
            "Write it with TensorFlow operations, or do it once and save what comes out: tf.data.Dataset.save, "
            "recipes.data.pack.",
        )
    if stage.variables:
        draws = stage.kind == "augment"
        kept = "its random seed" if draws else "its weights"
        instead = ", or use recipes.augment.Pipeline, which draws without variables" if draws else ""
        return (
            "keras_layer_in_map",
            f"{stage.name} calls a Keras layer that keeps variables ({kept}): {each}.",
            f"Put the layer into the model{instead}.",
        )
    if stage.kind == "decode":
        fits = _size_of_all(stage)
        if fits is None or fits > free_memory() / 4:
            remedy = "Decode once into a file: recipes.data.pack(folder, 'photos.packed'), or .cache('file')."
        else:
            remedy = f"Add .cache() behind it; it holds {fits / 1e6:,.0f} MB."
        return "decoded_every_epoch", f"{stage.name} decodes every image in every epoch: {each}.", remedy
    small = not stage.batched and stage.bytes <= _SMALL_ELEMENT and stage.operations >= 4
    if small and stage.kind in ("map", "augment"):
        return (
            "map_per_example",
            f"{stage.name} runs {stage.operations} operations for every example of {stage.bytes / 1e3:.3g} kB: {each}.",
            "Batch first and map batches: .batch(n).map(f)"
            + ("; recipes.augment.Pipeline works so." if stage.kind == "augment" else "."),
        )
    return None


def _size_of_all(stage):
    count = int(stage.dataset.cardinality())
    return count * stage.bytes if count >= 0 else None


def _shuffle(run):
    found, computing = [], False
    for before, stage in zip([None, *run.stages], run.stages, strict=False):
        if stage.kind == "shuffle" and computing and run.epoch_steps:
            held = stage.held * stage.bytes
            filling = max(0.0, stage.first - before.first) / run.epoch_steps
            rest = run.total - run.refilling
            if held > _LARGE_BUFFER or filling > GAINS * run.total:
                found.append(
                    Slowdown(
                        "shuffle_decoded",
                        f"shuffle({stage.buffer}) holds {held / 1e6:,.0f} MB of elements that were made before, and "
                        f"every epoch waits {filling * run.epoch_steps:.3g} s until they are there.",
                        "Shuffle file names or numbers first, and decode what comes out: "
                        "files.shuffle(n).map(decode).",
                        rest + filling,
                        rest,
                        tried=False,
                    )
                )
        computing = computing or stage.kind in ("decode", "python", "augment")
    return found


def _starts(run):
    """Report a stage in Python that takes long to give its first element in every epoch."""
    for before, stage in zip([None, *run.stages], run.stages, strict=False):
        start = stage.first - stage.filling - (0.0 if before is None else before.first - before.filling)
        if stage.python and run.epoch_steps and start - stage.cost > GAINS * run.total * run.epoch_steps:
            each = (start - stage.cost) / run.epoch_steps
            return [
                _found(
                    run,
                    "python_map",
                    f"{stage.name} takes {start:.3g} s until its first element, and every epoch waits for it.",
                    "Do once, outside of it, what it does at its start; or let it go on for ever, and give fit "
                    "steps_per_epoch.",
                    min(each, run.refilling),
                )
            ]
    return []


def _validation(run):
    if run.validation < 0.3 * run.total:
        return []
    epoch = (run.epoch_steps or 0) * run.validation
    return [
        _found(
            run,
            "long_validation",
            f"Validation takes {epoch:.3g} s of an epoch, {run.validation / run.total:.0%} of its time.",
            "Validate every fifth epoch, fit(validation_freq=5), or on a part: fit(validation_steps=...).",
            0.8 * run.validation,
        )
    ]


def many_calls(run: MeasuredRun) -> int:
    """The largest number of parallel calls or threads of the pipeline, if it is more than 8 per processor; else 0."""
    most = max((stage.calls or 0 for stage in run.stages), default=0)
    threads = 0
    if run.stages:
        threads = run.stages[-1].dataset.options().threading.private_threadpool_size or 0
    most = max(most, threads)
    return most if most > _MANY_CALLS * cores() else 0
