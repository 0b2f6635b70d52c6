"""Any data set as batches in a fixed order, for work that reads it without training on it."""

import os
import re
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import graph_pb2

from recipes.common.input_shapes import check_inputs
from recipes.common.models import model_input_rank
from recipes.common.types import Data, Images

# Where these operations take the handle of the generator that gives every iteration its own seed.
_SEED_INPUT = {"ShuffleDatasetV3": 4, "ShuffleAndRepeatDatasetV2": 5, "RandomDatasetV2": 2}

# How the examples of a data set can be read in another order, and what they are, for as long as the data set lives.
_READERS = weakref.WeakKeyDictionary()
_IDENTITIES = weakref.WeakKeyDictionary()
_FILES: weakref.WeakKeyDictionary[Any, Sequence[str]] = weakref.WeakKeyDictionary()
_KEEPS_ORDER = re.compile(r"_?(Take|Batch|ParallelBatch|Prefetch|Cache|Options)Dataset")


def remember_reader(
    dataset: tf.data.Dataset,
    reader: Callable[..., tf.data.Dataset],
    identity: Callable[[], dict[str, Any]] | None = None,
) -> None:
    """Remember how the examples of a data set are read by their numbers.

    To shuffle, the numbers can then be shuffled, at 8 bytes per example, before an image is read.

    Args:
        dataset: `tf.data.Dataset` of examples, `0..n-1`.
        reader: function `(tf.data.Dataset of int64 numbers in 0..n-1, first=0) -> tf.data.Dataset of those examples`,
            where `first` is how many numbers of the epoch were left out before. It must not refer to `dataset`, which
            would then never be freed.
        identity: function without arguments that tells these examples from others without reading them, as a dict for
            JSON; it must not refer to `dataset` either.
    """
    _READERS[dataset] = reader
    if identity is not None:
        _IDENTITIES[dataset] = identity


def identity_of(dataset: tf.data.Dataset) -> dict[str, Any] | None:
    """What distinguishes the examples of exactly this data set from others without reading them, or None.

    Args:
        dataset: `tf.data.Dataset`.
    """
    tell = _IDENTITIES.get(dataset)
    return None if tell is None else tell()


def remember_files(dataset: tf.data.Dataset, files: Sequence[str]) -> None:
    """Remember the file that each example of a data set was read from.

    Args:
        dataset: `tf.data.Dataset` of examples, not batches.
        files: Paths, in the order of the examples.
    """
    _FILES[dataset] = files


def files_of(dataset: Any) -> Sequence[str]:
    """The paths that `remember_files` was given for exactly this data set; none for anything else.

    Args:
        dataset: `tf.data.Dataset`, or arrays.
    """
    return _FILES.get(dataset, ()) if isinstance(dataset, tf.data.Dataset) else ()


def files_in_order(data: Any) -> Sequence[str]:
    """The path of each example of a data set that was made from one that `remember_files` was given.

    It looks through `take`, `batch`, `prefetch`, `cache` and options, which leave the order as it is. There may be
    paths of further examples; there are none for anything else.

    Args:
        data: `tf.data.Dataset`, or arrays.
    """
    while isinstance(data, tf.data.Dataset):
        if files := files_of(data):
            return files
        if not _KEEPS_ORDER.fullmatch(type(data).__name__):
            return ()
        data = data._inputs()[0]
    return ()


def reader_of(dataset: tf.data.Dataset) -> Callable[..., tf.data.Dataset] | None:
    """The reader that `remember_reader` was given for exactly this data set; None for anything made from it.

    Args:
        dataset: `tf.data.Dataset`.
    """
    return _READERS.get(dataset)


_SHARE = "recipes: the share of one worker"


def as_share(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The data set with a mark that data sets made from it keep: its batches are this worker's parts of each batch."""
    options = tf.data.Options()
    options.dataset_name = _SHARE
    return dataset.with_options(options)


def is_share(dataset: Any) -> bool:
    """Whether a data set has the mark of `as_share`."""
    return isinstance(dataset, tf.data.Dataset) and dataset.options().dataset_name == _SHARE


def pairs_of(data: Any) -> Any:
    """A data set of dictionaries with `image` and `label`, as TFDS and parsed TFRecords give them, as one of pairs.

    Where there is no label, a mask takes its place.

    Args:
        data: Anything; what is not such a data set is returned as it is.
    """
    spec = data.element_spec if isinstance(data, tf.data.Dataset) else None
    if not isinstance(spec, dict):
        return data
    image = next((key for key in ("image", "images") if key in spec), None)
    names = ("label", "labels", "segmentation_mask", "mask", "masks")
    label = next((key for key in names if key in spec), None)
    if image is None or label is None:
        return data
    return data.map(lambda example: (example[image], example[label]))


def as_batches(
    data: "Data | Images", model: keras.Model, *, batch_size: int, caller: str, name: str = "data"
) -> tf.data.Dataset:
    """Turn arrays or a data set, batched or not, into a `tf.data.Dataset` of batches.

    Args:
        data: `tf.data.Dataset` of images, of `(image, label)` or of `(image, label, weight)`, batched or not; or
            arrays `x`, `(x, y)` or `(x, y, weight)`. It is not consumed.
        model: The `keras.Model` that will read it; the rank of its first input tells batched from not.
        batch_size: Examples per batch where the data comes un-batched.
        caller: The public function, named in errors.
        name: The argument of that function, named in errors.

    Returns:
        `tf.data.Dataset` of tuples `(images,)`, `(images, labels)` or `(images, labels, weights)`.

    Raises:
        ValueError: for an empty data set, an endless one, arrays of different lengths.
        TypeError: for anything else, such as a generator.
    """
    data = pairs_of(data)
    if isinstance(data, tf.data.Dataset):
        return _from_dataset(data, model, batch_size, caller, name)
    if isinstance(data, (str, os.PathLike)):
        raise TypeError(
            f"{caller} expects {name} to be a tf.data.Dataset or arrays (x, y). Received the path {data!r}. "
            f"Read it: train, validation, info = recipes.data.load({str(data)!r}, image_size=...)."
        )
    arrays = data if isinstance(data, (tuple, list)) else (data,)
    if not all(hasattr(array, "shape") and hasattr(array, "dtype") for array in arrays) or len(arrays) > 3:
        raise TypeError(
            f"{caller} expects {name} to be a tf.data.Dataset, an array x, or arrays (x, y). "
            f"Received {type(data).__name__}. Stack lists with np.stack; wrap generators with "
            "tf.data.Dataset.from_generator."
        )
    lengths = {len(array) for array in arrays}
    if len(lengths) > 1:
        raise ValueError(
            f"{caller} expects arrays of the same length in {name}. Received lengths {sorted(lengths)}. "
            "Check that the arrays belong together."
        )
    if not lengths.pop():
        raise ValueError(_empty(caller, name))
    check_inputs(caller, name, model, arrays[0], trained=True)
    slices = tf.data.Dataset.from_tensor_slices(tuple(np.asarray(array) for array in arrays))
    return without_autotune(slices.batch(batch_size))


def _from_dataset(dataset, model, batch_size, caller, name):
    if not isinstance(dataset.element_spec, tuple):
        dataset = dataset.map(lambda images: (images,))
    dataset = without_autotune(dataset)
    cardinality = int(dataset.cardinality())
    if cardinality == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            f"{caller} expects {name} to end. Received a data set that repeats for ever. "
            "Leave repeat() out, or take the number of steps of one pass: dataset.take(steps)."
        )
    if cardinality == 0 or (cardinality < 0 and next(iter(dataset), None) is None):
        raise ValueError(_empty(caller, name))
    dataset = dataset if is_batched(dataset.element_spec, model) else dataset.batch(batch_size)
    check_inputs(caller, name, model, dataset.element_spec[0], trained=True)
    return dataset


def is_batched(element_spec: Any, model: keras.Model) -> bool:
    """Whether the elements of a data set are batches.

    Args:
        element_spec: The `element_spec` of the data set: inputs, or a tuple that begins with them.
        model: The model that will read the data. The rank of its first input decides. Where that is not known, the
            labels decide, as the label of a single example is a number. Where neither decides, elements are taken for
            batches.
    """
    parts = element_spec if isinstance(element_spec, tuple) else (element_spec,)
    rank, expected = tf.nest.flatten(parts[0])[0].shape.rank, model_input_rank(model)
    if expected is not None and rank is not None:
        return rank >= expected
    return len(parts) == 1 or tf.nest.flatten(parts[1])[0].shape.rank != 0


def _empty(caller, name):
    return (
        f"{caller} expects at least one example in {name}. Received an empty data set. "
        "Check the path or the filter it was made with."
    )


def fresh_copy(dataset: tf.data.Dataset, most_shuffled: int | None = None) -> tf.data.Dataset:
    """A copy of a data set that shares nothing with it, so that reading it changes nothing.

    `shuffle` gives every iteration another order, drawn from a generator that all iterators of one data set
    share: looking at its first batch would change the order of the user's first epoch. The copy has generators of its
    own. A data set without such operations, or one that cannot be copied (its graph is over 2 GB), is returned as it
    is.

    Args:
        dataset: `tf.data.Dataset`.
        most_shuffled: Elements that the copy's shuffles hold at most, so that none has to be filled for long before the
            first element comes; None leaves them as they are.
    """
    if not any("Shuffle" in stage or "Random" in stage for stage in _stages(dataset)):
        return dataset
    try:
        graph = _graph_of(dataset)
        for number, node in enumerate(list(graph.node)):
            if node.op in _SEED_INPUT:
                generator = graph.node.add(op="DummySeedGenerator", name=f"recipes_generator_{number}")
                node.input[_SEED_INPUT[node.op]] = generator.name
            if most_shuffled is not None and node.op.startswith("Shuffle"):
                _set_input(graph, node, 1, most_shuffled)
        return _from_graph(graph, dataset)
    except (tf.errors.OpError, ValueError, AttributeError):
        return dataset


def comes_in_new_order(data: Any) -> bool:
    """Whether a data set gives its examples in another order at every reading, so that numbers do not identify them.

    Only `shuffle` (unless `reshuffle_each_iteration=False`) is seen, not what Python code or threads reorder.

    Args:
        data: Anything; arrays always have one order.
    """
    if not isinstance(data, tf.data.Dataset):
        return False
    anew = "Shuffle" in type(data).__name__ and getattr(data, "_reshuffle_each_iteration", True) is not False
    return anew or any(comes_in_new_order(before) for before in data._inputs())


def with_calls(dataset: tf.data.Dataset, calls: int, *, serial_only: bool = False) -> tf.data.Dataset:
    """A copy of a data set whose maps make so many calls of their function at a time.

    Args:
        dataset: `tf.data.Dataset`.
        calls: Number of calls, for plain maps and parallel ones alike.
        serial_only: Only for plain maps whose function has no state: those that TensorFlow lets make several calls
            itself.

    Raises:
        ValueError: when the data set cannot be copied (its graph is over 2 GB).
    """
    try:
        graph = _graph_of(dataset)
        stateful = {one.signature.name for one in graph.library.function if one.signature.is_stateful}
        for node in list(graph.node):
            if node.op not in ("MapDataset", "ParallelMapDatasetV2"):
                continue
            if serial_only and (node.op != "MapDataset" or node.attr["f"].func.name in stateful):
                continue
            given = [name for name in node.input if not name.startswith("^")]
            control = [name for name in node.input if name.startswith("^")]
            if node.op == "MapDataset":
                node.op = "ParallelMapDatasetV2"
                node.attr["deterministic"].s = b"default"
                given.append("")
            del node.input[:]
            node.input.extend([*given, *control])
            _set_input(graph, node, len(given) - 1, calls)
        return _from_graph(graph, dataset)
    except (tf.errors.OpError, AttributeError) as error:
        raise ValueError(f"TensorFlow cannot copy this data set ({type(error).__name__})") from error


def without_autotune(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The same data set, whose iterators are deleted at once when they are not needed any more.

    TensorFlow 2.21 may wait up to a minute for the thread that tunes an iterator, which sleeps ever longer, when the
    iterator is deleted. Without that thread nothing waits; AUTOTUNE then means one call per core.

    Args:
        dataset: `tf.data.Dataset`.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def is_prefetched_by_itself(dataset: tf.data.Dataset) -> bool:
    """Whether TensorFlow adds a `prefetch` to the end of a data set: it does, unless options forbid it.

    Args:
        dataset: `tf.data.Dataset`.
    """
    return _is_rewritten(dataset, "inject_prefetch")


def is_parallelized_by_itself(dataset: tf.data.Dataset) -> bool:
    """Whether TensorFlow lets maps make several calls at a time: those without state, unless options forbid it.

    Args:
        dataset: `tf.data.Dataset`.
    """
    return _is_rewritten(dataset, "map_parallelization")


def _is_rewritten(dataset, name):
    options = dataset.options()
    rewriting = options.experimental_optimization
    told = (options.autotune.enabled, getattr(rewriting, name), rewriting.apply_default_optimizations)
    return all(one is not False for one in told)


def stages_of(dataset: tf.data.Dataset) -> list[tf.data.Dataset]:
    """The data sets from which one was made, from its source on; along the first one where several are joined."""
    row = [dataset]
    while row[-1]._inputs():
        row.append(row[-1]._inputs()[0])
    return row[::-1]


def function_of(stage: tf.data.Dataset) -> Any:
    """The concrete function that a stage applies to every element, or None."""
    return getattr(getattr(stage, "_map_func", None), "function", None)


def reads_generator(dataset: tf.data.Dataset) -> bool:
    """Whether a data set is what Keras made of a Python generator, which gives each of its batches once."""
    functions = [getattr(getattr(stage, "_map_func", None), "_func", None) for stage in stages_of(dataset)]
    names = {type(value).__name__ for function in functions for value in _closed_over(function, 4)}
    return "GeneratorDataAdapter" in names


def _closed_over(function, depth):
    """What a Python function holds, and the functions in it."""
    for cell in getattr(function, "__closure__", None) or () if depth else ():
        try:
            value = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
        yield value
        yield from _closed_over(value, depth - 1)
        yield from _closed_over(getattr(value, "_generator", None), depth - 1)


def calls_of(stage: tf.data.Dataset) -> int | None:
    """How many calls of its function a stage makes at a time: -1 for AUTOTUNE; None where it has no function."""
    if function_of(stage) is None:
        return None
    return int(getattr(stage, "_num_parallel_calls", 1))


def _graph_of(dataset):
    ignore = tf.data.experimental.ExternalStatePolicy.IGNORE
    return graph_pb2.GraphDef.FromString(dataset._as_serialized_graph(external_state_policy=ignore).numpy())


def _set_input(graph, node, place, number):
    """Give an operation of a graph a whole number for one of its inputs."""
    wanted = graph.node.add(op="Const", name=f"recipes_number_{len(graph.node)}")
    wanted.attr["dtype"].type = tf.int64.as_datatype_enum
    wanted.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(number, tf.int64))
    node.input[place] = wanted.name


def _from_graph(graph, dataset):
    variant = tf.raw_ops.DatasetFromGraph(graph_def=graph.SerializeToString())
    return tf.data.experimental.from_variant(variant, dataset.element_spec)


def _stages(dataset):
    return [type(dataset).__name__, *(stage for before in dataset._inputs() for stage in _stages(before))]
