"""A few batches of any data, read without moving the reader's own iteration on."""

import dataclasses
import time
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from recipes.checks import fresh_copy
from recipes.feed import model_input_rank

_MOST_ARRAY_EXAMPLES = 1 << 20


@dataclass(frozen=True)
class Sample:
    """Batches of a data set as numpy, in the order `fit` would see them.

    Attributes:
        batches: list of `(inputs, labels, weights)`: inputs an array or a structure of them, weights or None.
        ordered: True when the order of the examples is the one `fit` would train on; False for arrays, which
            `fit` shuffles itself.
        whole: True when the batches are all there is.
        batch: Examples in the largest batch that `fit` would get, as far as was seen; None for arrays.
    """

    batches: list
    ordered: bool
    whole: bool
    batch: int | None = None

    @property
    def inputs(self):
        """The first input of all batches, one array of shape `(n, ...)`."""
        return np.concatenate([keras.tree.flatten(batch[0])[0] for batch in self.batches])

    @property
    def labels(self):
        """The first target of all batches, one array of shape `(n,)` or `(n, ...)`."""
        return np.concatenate([keras.tree.flatten(batch[1])[0] for batch in self.batches])


def read_sample(data, model, *, batch_size=32, batches=1, seconds=2.0, name="train"):
    """Read some batches through an iterator of their own.

    Args:
        data: `tf.data.Dataset` of `(inputs, labels)` or `(inputs, labels, weights)`, batched or not; or a
            tuple of arrays, of which rows spread over the whole are taken.
        model: The `keras.Model` that will read it; its input tells batched from not.
        batch_size: Examples a batch. Batches of a batched data set are cut or joined to it.
        batches: Most batches to read.
        seconds: Stop after the batch during which this much time has passed.
        name: The argument's name, for errors.

    Returns:
        A `Sample` of at least one batch.

    Raises:
        ValueError: for an empty data set, or one that gives no labels.
        TypeError: for anything that is neither a data set nor arrays.
    """
    if isinstance(data, Sample):
        return _recut(data, batch_size, batches)
    if isinstance(data, tf.data.Dataset):
        return _from_dataset(data, model, batch_size, batches, seconds, name)
    if isinstance(data, (tuple, list)) and len(data) in (2, 3):
        return _from_arrays(data, batch_size, batches, name)
    raise TypeError(
        f"recipes.diagnose expects {name} to be a tf.data.Dataset of (inputs, labels) or arrays (x, y). "
        "Received "
        f"{type(data).__name__}. Wrap a generator with "
        "tf.data.Dataset.from_generator(function_that_makes_it, ...)."
    )


def _from_dataset(dataset, model, batch_size, batches, seconds, name):
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) not in (2, 3):
        raise ValueError(
            f"recipes.diagnose expects {name} to give (inputs, labels) or (inputs, labels, weights). "
            "Received "
            f"elements {spec}. Add a map that returns such a tuple."
        )
    copy, batched = fresh_copy(dataset), _batched(spec, model)
    if not batched:
        copy = copy.batch(batch_size)
    taken, count, largest, start, whole = [], 0, 0, time.monotonic(), True
    for element in copy:
        if count >= batches * batch_size or (taken and time.monotonic() - start > seconds):
            whole = False
            break
        inputs, labels, *weights = keras.tree.map_structure(lambda tensor: tensor.numpy(), tuple(element))
        taken.append((inputs, labels, weights[0] if weights else None))
        largest = max(largest, len(keras.tree.flatten(inputs)[0]))
        count += len(keras.tree.flatten(inputs)[0])
    if not count:
        raise ValueError(_empty(name))
    sample = Sample(taken, ordered=True, whole=whole, batch=largest if batched else None)
    return _recut(sample, batch_size, batches)


def _from_arrays(data, batch_size, batches, name):
    parts = [keras.tree.map_structure(_as_array, part) for part in data if part is not None]
    count = len(keras.tree.flatten(parts[0])[0])
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
    taken = []
    for start in range(0, min(count, batches * batch_size), batch_size):
        chosen = np.sort(rows[start : start + batch_size])
        inputs, labels, *weights = (
            keras.tree.map_structure(lambda array, rows=chosen: array[rows], part) for part in parts
        )
        taken.append((inputs, labels, weights[0] if weights else None))
    return Sample(taken, ordered=False, whole=count <= batches * batch_size)


def _recut(sample, batch_size, batches):
    """The examples of a sample in batches of another size, as many as there are."""
    sizes = [len(keras.tree.flatten(batch[0])[0]) for batch in sample.batches]
    fits = all(size == batch_size for size in sizes[:-1]) and sizes[-1] <= batch_size
    aligned = all(
        len(keras.tree.flatten(batch[1])[0]) == size
        for batch, size in zip(sample.batches, sizes, strict=True)
    )
    if fits or not aligned:  # another number of labels than of inputs: left for the check that says so
        whole = sample.whole and len(sizes) <= batches
        return dataclasses.replace(sample, batches=sample.batches[:batches], whole=whole)
    needed = sample.batches[: int(np.searchsorted(np.cumsum(sizes), batches * batch_size)) + 1]
    joined = keras.tree.map_structure(
        lambda *arrays: np.concatenate(arrays), *(batch[:2] for batch in needed)
    )
    weights = None if needed[0][2] is None else np.concatenate([batch[2] for batch in needed])
    cut = []
    for start in range(0, sum(sizes[: len(needed)]), batch_size):
        rows = slice(start, start + batch_size)
        part = keras.tree.map_structure(lambda array, rows=rows: array[rows], joined)
        cut.append((*part, None if weights is None else weights[rows]))
    whole = sample.whole and len(needed) == len(sample.batches) and len(cut) <= batches
    return dataclasses.replace(sample, batches=cut[:batches], whole=whole)


def _batched(spec, model):
    image, expected = tf.nest.flatten(spec[0])[0], model_input_rank(model)
    if expected is not None and image.shape.rank is not None:
        return image.shape.rank >= expected
    labels = tf.nest.flatten(spec[1])[0]
    return bool(labels.shape.rank)


def _as_array(array):
    return keras.ops.convert_to_numpy(array) if keras.ops.is_tensor(array) else np.asarray(array)


def _empty(name):
    return (
        f"recipes.diagnose expects at least one example in {name}. Received an empty data set. "
        "Check the path or the filter it was made with."
    )
