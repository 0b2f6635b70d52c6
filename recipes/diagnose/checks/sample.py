"""Read a few batches of any data, without a change of the order in which the user reads it."""

import dataclasses
import time
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from recipes.common.datasets import fresh_copy, is_batched, without_autotune
from recipes.common.input_shapes import check_inputs
from recipes.common.validation import is_whole
from recipes.diagnose.checks.output_task import own_step

_MOST_ARRAY_EXAMPLES = 1 << 20
# Bytes of inputs that checks of the data keep, per data set; of further examples they keep labels and a hash.
MOST_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Sample:
    """Some batches of a data set as numpy arrays.

    Attributes:
        batches: Tuples `(inputs, labels, weights)`: inputs and labels are arrays or structures of arrays; labels and
            weights may be None.
        ordered: True when the examples are in the order in which `fit` would train on them; False for arrays, which
            `fit` shuffles itself.
        whole: True when the data set has no more batches than these.
        batch: Examples in the largest batch that `fit` would get, among those that were read; None for arrays, and for
            data sets that are not batched.
        further: Tuples `(hashes, labels)` of batches that were read after these, whose inputs were not kept.
    """

    batches: list
    ordered: bool
    whole: bool
    batch: int | None = None
    further: list = dataclasses.field(default_factory=list)

    @property
    def labeled(self) -> bool:
        """Whether there are labels; with a custom training step, there may be none."""
        return self.batches[0][1] is not None and bool(keras.tree.flatten(self.batches[0][1]))

    @property
    def inputs(self) -> np.ndarray:
        """The first input of all batches, one array of shape `(n, ...)`."""
        return np.concatenate([keras.tree.flatten(batch[0])[0] for batch in self.batches])

    @property
    def labels(self) -> np.ndarray:
        """The first target of all batches, one array of shape `(n,)` or `(n, ...)`."""
        return np.concatenate([keras.tree.flatten(batch[1])[0] for batch in self.batches])

    @property
    def labels_read(self) -> np.ndarray:
        """As `labels`, followed by the labels in `further`."""
        return np.concatenate([self.labels, *(labels for _, labels in self.further)])

    @property
    def hashes_read(self) -> np.ndarray:
        """One hash per example that was read, over all its inputs and with those in `further`: uint64 `(n,)`."""
        kept = [hashes_of(batch[0]) for batch in self.batches]
        return np.concatenate([*kept, *(hashes for hashes, _ in self.further)])


def read_sample(
    data: Any,
    model: keras.Model,
    *,
    batch_size: int = 32,
    batches: int = 1,
    seconds: float = 2.0,
    most_bytes: int | None = None,
    name: str = "train",
) -> "Sample":
    """Read some batches of a data set from a copy, so that its own order does not change.

    Args:
        data: `tf.data.Dataset` of `(inputs, labels)` or `(inputs, labels, weights)`, batched or not; a
            `keras.utils.PyDataset`; or a tuple of arrays, from which random rows are taken. For a custom training step,
            or a loss that is added inside the model, it may be inputs alone. A `Sample` is only cut into new batches.
        model: The `keras.Model` that will get the data; its input shape tells batches from examples.
        batch_size: Examples per batch, >= 1. The batches of a batched data set are cut or joined to this size.
        batches: Largest number of batches to read, >= 1.
        seconds: Reading stops after this time in seconds, but not before one batch is read.
        most_bytes: Once the kept inputs have this size in bytes, those of further batches are not kept; None keeps all.
        name: Name of the argument, for errors.

    Returns:
        A `Sample` of at least one batch.

    Raises:
        ValueError: for an empty data set, one without labels, arrays that are not numbers or differ in length, inputs
            that the model cannot take, or `batch_size` or `batches` below 1.
        TypeError: for data that is neither a data set nor arrays.
    """
    for argument, value in (("batch_size", batch_size), ("batches", batches)):
        if not is_whole(value) or value < 1:
            raise ValueError(
                f"recipes.diagnose expects {argument} to be a whole number, at least 1. Received {argument}={value!r}. "
                "Leave it out for the default."
            )
    if isinstance(data, Sample):
        return _recut(data, batch_size, batches)
    own = own_step(model)
    alone = own or getattr(model, "loss", None) is None
    sample = _read(data, alone, model, batch_size, batches, seconds, most_bytes, name)
    if not own:  # such a step may give the model something else
        check_inputs("recipes.diagnose", name, model, sample.batches[0][0])
    return sample


def _read(data, alone, model, batch_size, batches, seconds, most_bytes, name):
    if isinstance(data, tf.data.Dataset):
        return _from_dataset(data, alone, model, batch_size, batches, seconds, most_bytes, name)
    if isinstance(data, keras.utils.PyDataset):
        return _from_py_dataset(data, batch_size, batches, seconds, most_bytes, name)
    if alone and isinstance(data, (tuple, list)) and len(data) > 1 and data[1] is None:
        data = data[0]
    if isinstance(data, (tuple, list)) and len(data) in (2, 3):
        return _from_arrays(data, alone, batch_size, batches, most_bytes, name)
    if alone and (hasattr(data, "shape") or isinstance(data, (dict, tuple, list))):
        data = data[0] if isinstance(data, (tuple, list)) and len(data) == 1 else data
        return _from_arrays((data,), alone, batch_size, batches, most_bytes, name)
    raise TypeError(
        f"recipes.diagnose expects {name} to be a tf.data.Dataset of (inputs, labels) or arrays (x, y). Received "
        f"{type(data).__name__}. Wrap a generator with tf.data.Dataset.from_generator(function_that_makes_it, ...)."
    )


def _from_dataset(dataset, alone, model, batch_size, batches, seconds, most_bytes, name):
    spec = dataset.element_spec
    if alone and (not isinstance(spec, tuple) or len(spec) == 1):
        spec = spec if isinstance(spec, tuple) else (spec,)
    elif not isinstance(spec, tuple) or len(spec) not in (2, 3):
        raise ValueError(
            f"recipes.diagnose expects {name} to give (inputs, labels) or (inputs, labels, weights). Received "
            f"elements {spec}. Add a map that returns such a tuple."
        )
    copy, batched = fresh_copy(dataset), is_batched(spec, model)
    if not batched:
        copy = copy.batch(batch_size)
    taken, further, count, largest, start, whole = [], [], 0, 0, time.monotonic(), True
    for element in without_autotune(copy):
        if count >= batches * batch_size or (taken and time.monotonic() - start > seconds):
            whole = False
            break
        element = element if isinstance(element, tuple) else (element,)
        inputs, *others = keras.tree.map_structure(lambda tensor: tensor.numpy(), element)
        labels, weights = [*others, None, None][:2]
        _keep(taken, further, (inputs, labels, weights), most_bytes)
        largest = max(largest, len(keras.tree.flatten(inputs)[0]))
        count += len(keras.tree.flatten(inputs)[0])
    if not count:
        raise ValueError(_empty(name))
    sample = Sample(taken, ordered=True, whole=whole, batch=largest if batched else None, further=further)
    return _recut(sample, batch_size, batches)


def _from_py_dataset(data, batch_size, batches, seconds, most_bytes, name):
    """Read the first batches of a `keras.utils.PyDataset` by their index, which changes no iteration."""
    taken, further, count, largest, start, whole = [], [], 0, 0, time.monotonic(), True
    for number in range(data.num_batches or 0):
        if count >= batches * batch_size or (taken and time.monotonic() - start > seconds):
            whole = False
            break
        batch = data[number]
        batch = batch if isinstance(batch, tuple) else (batch,)
        inputs, *others = (keras.tree.map_structure(_as_array, part) for part in batch)
        labels, weights = [*others, None, None][:2]
        _keep(taken, further, (inputs, labels, weights), most_bytes)
        size = len(keras.tree.flatten(inputs)[0])
        largest, count = max(largest, size), count + size
    if not count:
        raise ValueError(_empty(name))
    return _recut(
        Sample(taken, ordered=True, whole=whole, batch=largest, further=further), batch_size, batches
    )


def _from_arrays(data, alone, batch_size, batches, most_bytes, name):
    parts = [keras.tree.map_structure(_as_array, part) for part in data if part is not None]
    leaves = keras.tree.flatten(parts)
    if (
        len(parts) < (1 if alone else 2)
        or any(not keras.tree.flatten(part) for part in parts)
        or any(array.dtype.kind not in "buif" or not array.ndim for array in leaves)
    ):
        received = [f"{array.dtype} of shape {array.shape}" for array in leaves]
        raise ValueError(
            f"recipes.diagnose expects {name} to be arrays of numbers (x, y). Received {', '.join(received)}. "
            "Stack images of one size with np.stack, and give class numbers or rows."
        )
    count = len(leaves[0])
    if count == 0:
        raise ValueError(_empty(name))
    lengths = {len(array) for part in parts for array in keras.tree.flatten(part)}
    if len(lengths) > 1:
        raise ValueError(
            f"recipes.diagnose expects as many labels as inputs in {name}. Received lengths "
            f"{sorted(lengths)}. "
            "Check that the arrays belong together."
        )
    rows = np.random.default_rng(0).permutation(min(count, _MOST_ARRAY_EXAMPLES))
    taken, further = [], []
    for start in range(0, min(count, batches * batch_size), batch_size):
        chosen = np.sort(rows[start : start + batch_size])
        inputs, *others = (
            keras.tree.map_structure(lambda array, rows=chosen: array[rows], part) for part in parts
        )
        labels, weights = [*others, None, None][:2]
        _keep(taken, further, (inputs, labels, weights), most_bytes)
    return Sample(taken, ordered=False, whole=count <= batches * batch_size, further=further)


def built(model: keras.Model, sample: "Sample") -> None:
    """Build a model that has no variables yet, as the first step of `fit` would do.

    A model whose custom training step calls only its layers, and never the model itself, is not built.

    Args:
        model: The model.
        sample: Data for it, of which the first batch is used.
    """
    if not model.built and not (own_step(model) and not _callable_model(model)):
        model(keras.tree.map_structure(keras.ops.convert_to_tensor, sample.batches[0][0]))


def _callable_model(model):
    return type(model).call is not keras.Model.call


def hashes_of(inputs: Any) -> np.ndarray:
    """A 64-bit hash of the bytes of each example, over all inputs of the model, `(n,)`.

    Args:
        inputs: An array `(n, ...)`, or a structure of such arrays.
    """
    parts = [_hashes_of(leaf) for leaf in keras.tree.flatten(inputs)]
    if len(parts) == 1:
        return parts[0]
    mixed = np.zeros(len(parts[0]), np.uint64)
    for part in parts:  # the order counts: an example with two inputs exchanged gets another hash
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + part.astype("int64").view(np.uint64)
    return mixed


def _hashes_of(inputs):
    rows = np.ascontiguousarray(inputs.reshape(len(inputs), -1))
    if rows.dtype == object:
        return np.array([hash(tuple(row)) for row in rows])
    data = rows.view(np.uint8).reshape(len(rows), -1)
    width = data.shape[1]
    padded = np.zeros((len(data), -(-width // 8) * 8), np.uint8)
    padded[:, :width] = data
    words = padded.view(np.uint64)
    odd = np.random.default_rng(0).integers(1, 2**63, words.shape[1], dtype=np.uint64) * np.uint64(
        2
    ) + np.uint64(1)
    mixed = words ^ (words >> np.uint64(29))
    return (mixed * odd).sum(axis=1, dtype=np.uint64)


def _keep(taken, further, batch, most_bytes):
    """Add a batch to those that are kept whole, or, above the limit, only its hashes and labels to the others."""
    held = sum(leaf.nbytes for inputs, *_ in taken for leaf in keras.tree.flatten(inputs))
    if most_bytes is None or held < most_bytes:
        taken.append(batch)
    else:
        labels = keras.tree.flatten(batch[1])[0] if batch[1] is not None else np.zeros(0)
        further.append((hashes_of(batch[0]), labels))


def _recut(sample, batch_size, batches):
    """The examples of a sample in batches of another size, at most as many as given."""
    sizes = [len(keras.tree.flatten(batch[0])[0]) for batch in sample.batches]
    fits = all(size == batch_size for size in sizes[:-1]) and sizes[-1] <= batch_size
    labeled = sample.labeled
    aligned = all(
        not labeled or len(keras.tree.flatten(batch[1])[0]) == size
        for batch, size in zip(sample.batches, sizes, strict=True)
    )
    if fits or not aligned:  # a wrong number of labels is not changed here, as data_check reports it
        whole = sample.whole and len(sizes) <= batches
        return dataclasses.replace(sample, batches=sample.batches[:batches], whole=whole)
    needed = sample.batches[: int(np.searchsorted(np.cumsum(sizes), batches * batch_size)) + 1]
    joined = keras.tree.map_structure(
        lambda *arrays: np.concatenate(arrays), *(batch[: 2 if labeled else 1] for batch in needed)
    )
    weights = None if needed[0][2] is None else np.concatenate([batch[2] for batch in needed])
    cut = []
    for start in range(0, sum(sizes[: len(needed)]), batch_size):
        rows = slice(start, start + batch_size)
        part = keras.tree.map_structure(lambda array, rows=rows: array[rows], joined)
        labels = part[1] if labeled else None
        cut.append((part[0], labels, None if weights is None else weights[rows]))
    whole = sample.whole and len(needed) == len(sample.batches) and len(cut) <= batches
    return dataclasses.replace(sample, batches=cut[:batches], whole=whole)


def _as_array(array):
    if keras.ops.is_tensor(array):
        return keras.ops.convert_to_numpy(array)
    try:
        return np.asarray(array)
    except ValueError:  # rows of different lengths
        return np.empty(0, object)


def _empty(name):
    return (
        f"recipes.diagnose expects at least one example in {name}. Received an empty data set. "
        "Check the path or the filter it was made with."
    )
