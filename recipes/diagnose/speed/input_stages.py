"""The stages of a tf.data pipeline: what each does, and what it costs per batch."""

import time
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import tensorflow as tf

from recipes.common.datasets import calls_of, fresh_copy, function_of, stages_of, without_autotune
from recipes.diagnose.speed.processors import machine_is_busy

Kind: TypeAlias = Literal[
    "read", "decode", "map", "augment", "batch", "shuffle", "prefetch", "cache", "python", "other"
]
_READING = {"ReadFile", "ParseExampleV2", "ParseSingleExample", "DecodeRaw", "DecodeCSV", "TFRecordDataset"}
_DECODING = {
    *("DecodeJpeg", "DecodePng", "DecodeImage", "DecodeBmp", "DecodeGif", "DecodeWebP"),
    "DecodeAndCropJpeg",
}
_PYTHON = {"PyFunc", "EagerPyFunc", "PyFuncStateless"}
_RANDOM = ("Random", "StatelessRandom", "StatelessTruncated", "Multinomial", "ImageProjective")


# Elements in a shuffle's buffer while it is measured: each element costs the same, and filling takes no time.
SHUFFLED = 16


@dataclass(frozen=True)
class Stage:
    """One stage of a pipeline.

    Attributes:
        name: Its kind and the name of the tf.data class, such as "decode (map)".
        kind: What it does, told from the operations in its function and from its class.
        dataset: The data set up to and including this stage.
        batched: Whether it works on batches.
        python: Whether it calls Python for every element.
        variables: Whether its function reads variables, as a Keras layer with random numbers or weights does.
        waits: Whether it may wait for a disk, a network or Python, which takes clock time but no CPU time.
        calls: Parallel calls of a map: 1 for a plain one, -1 for AUTOTUNE, None for a stage without calls.
        buffer: Elements that a shuffle or prefetch holds; None for others.
        operations: Number of operations in its function.
        examples: Examples in one of its elements.
        bytes: Size of one of its elements, in bytes.
        seconds: CPU time of this stage alone, in seconds per training batch; NaN until it is measured.
        wall: Clock time of the pipeline up to and including this stage, read alone, in seconds per training batch.
        own_wall: The part of `wall` that this stage adds.
        filling: The part of `first` in which shuffles fill their buffers, in seconds: calculated from the time per
            element, not measured.
        first: Seconds to its first element.
    """

    name: str
    kind: Kind
    dataset: tf.data.Dataset
    batched: bool
    python: bool = False
    variables: bool = False
    waits: bool = False
    calls: int | None = None
    buffer: int | None = None
    operations: int = 0
    examples: float = 1.0
    bytes: float = 0.0
    seconds: float = float("nan")
    wall: float = float("nan")
    own_wall: float = 0.0
    first: float = 0.0
    filling: float = 0.0

    @property
    def held(self) -> int:
        """Elements that a shuffle holds: its buffer size, or the size of the data set where that is smaller."""
        count = int(self.dataset.cardinality())
        return min(self.buffer or 0, count) if count >= 0 else self.buffer or 0

    @property
    def cost(self) -> float:
        """Seconds per batch: CPU time, or clock time with waiting for a disk or Python, whichever is more."""
        return max(self.seconds, self.own_wall)


def describe_stages(dataset: tf.data.Dataset) -> list[Stage]:
    """The stages of a pipeline, from its source on; where it joins several data sets, those of the first."""
    chain = [(one, type(one).__name__.strip("_").removesuffix("Dataset")) for one in stages_of(dataset)]
    batched = not any("Batch" in name for _, name in chain)  # a source may give batches
    stages = []
    for one, name in chain:
        batched = batched or "Batch" in name
        if name != "Options":
            stages.append(_described(one, name, batched))
    return stages


def _described(dataset, name, batched):
    function, operations, found = function_of(dataset), [], set()
    if function is not None:
        graph = function.graph.as_graph_def()
        operations = [node.op for node in graph.node]
        inner = [node.op for one in graph.library.function for node in one.node_def]
        found = {*operations, *inner}
        operations += inner
    python = bool(found & _PYTHON) or name == "Generator"
    variables = function is not None and bool(function.graph.variables)  # lookup tables are none
    buffer = getattr(dataset, "_buffer_size", None)
    return Stage(
        name=name,
        kind=_kind(name, found, python),
        dataset=dataset,
        batched=batched,
        python=python,
        variables=variables,
        waits=python or bool(found & _READING) or name in ("TFRecord", "TextLine"),
        calls=calls_of(dataset),
        buffer=None if buffer is None or name == "FlatMap" else int(buffer),
        operations=len(operations),
    )


def _kind(name, found, python):
    if python:
        return "python"
    if found & _DECODING:
        return "decode"
    if found & _READING or name in ("TFRecord", "TextLine"):
        return "read"
    for word in ("Shuffle", "Prefetch", "Cache", "Batch"):
        if word in name:
            return word.lower()
    if any(operation.startswith(_RANDOM) for operation in found):
        return "augment"
    return "map" if "Map" in name or "Interleave" in name else "other"


def measure_stages(stages: list[Stage], batch: int, seconds: float) -> list[Stage]:
    """Measure the stages: read the pipeline up to each one; what this costs more than up to the one before is its own.

    Args:
        stages: What `describe_stages` returns.
        batch: Examples in a training batch.
        seconds: Time for all stages together.

    Returns:
        The same stages with `examples`, `bytes`, `seconds`, `wall`, `own_wall`, `first` and `filling` measured.
    """
    measured: list[Stage] = []
    before, share, busy = 0.0, seconds / max(len(stages), 1), machine_is_busy()
    filling = 0.0
    for stage in stages:
        if measured and stage.kind == "prefetch":
            measured.append(_as_before(stage, measured[-1], batch))
            continue
        cost = _read(stage, batch, share)
        if stage.kind == "shuffle" and measured:
            last = measured[-1]
            filling += max(0, stage.held - SHUFFLED) * last.wall * last.examples / batch
        cost |= {"filling": filling, "first": cost["first"] + filling}
        own = max(0.0, cost.pop("cpu", before) - before)
        before += own
        waited = max(0.0, cost["wall"] - (measured[-1].wall if measured else 0.0))
        if busy and not stage.waits:
            waited = 0.0  # it waited for processors that other programs use: no cost of this stage
        measured.append(replace(stage, seconds=own, own_wall=waited, **cost))
    return measured


def _as_before(stage, last, batch):
    same = {name: getattr(last, name) for name in ("bytes", "wall", "first", "filling")}
    examples = float(batch) if stage.batched and not last.batched else last.examples
    return replace(stage, seconds=0.0, examples=examples, **same)


def _read(stage, batch, seconds):
    """CPU and clock time per training batch, the size of an element, and the seconds to the first one."""
    copy = without_autotune(fresh_copy(stage.dataset, SHUFFLED))
    began = time.perf_counter()
    size = examples = 0.0
    elements, made = iter(copy), time.perf_counter()
    first = next(elements, None)
    filled, alone = time.perf_counter() - began, time.perf_counter() - made
    if first is not None:
        leaves = [leaf for leaf in tf.nest.flatten(first) if isinstance(leaf, tf.Tensor)]
        size = float(sum(_bytes_of(leaf) for leaf in leaves))
        rank = leaves[0].shape.rank if leaves else 0
        examples = float(leaves[0].shape[0] or 1) if stage.batched and rank else 1.0
    found = {"examples": examples, "bytes": size, "first": filled}
    if stage.batched:
        elements, together = iter(copy), examples
    else:  # taking examples out one by one, or giving them to a function, would cost more than many of them do
        counted = copy.window(batch).map(lambda *_: tf.zeros((), tf.int8))
        elements, together = iter(without_autotune(counted)), float(batch)
    if next(elements, None) is None:
        elements = iter(())
    count, start, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        if next(elements, None) is None:
            break
        count += 1
    share = batch / (max(count, 1) * max(together, 1.0))
    clock, spent = time.perf_counter() - start, time.process_time() - cpu
    if not count and stage.name == "Tensor":  # one tensor, repeated by a later stage or given to a generator
        return {**found, "cpu": 0.0, "wall": 0.0}
    if not count:  # the data set has one element only
        clock, spent, share = alone, alone, batch / max(examples, 1.0)
    return {**found, "cpu": spent * share, "wall": clock * share}


def _bytes_of(tensor):
    if tensor.dtype == tf.string:
        return float(tf.reduce_sum(tf.strings.length(tensor)))
    return float(np.prod(tensor.shape.as_list() or [1])) * tensor.dtype.size


def as_text(stages: list[Stage]) -> list[str]:
    """One line per stage: what it does, and its CPU time per batch in milliseconds."""
    return [
        f"  {stage.kind:<9} {stage.name:<16} {stage.seconds * 1e3:8.2f} ms"
        + ("  Python" if stage.python else "")
        + ("  one call at a time" if stage.calls == 1 else "")
        for stage in stages
    ]
