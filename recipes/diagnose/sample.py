"""A few batches of any data, read without moving the reader's own iteration on."""

import time
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import graph_pb2

from recipes.feed import model_input_rank

# Where these operations take the handle of the generator that gives every iteration its own seed.
_SEED_INPUT = {"ShuffleDatasetV3": 4, "ShuffleAndRepeatDatasetV2": 5, "RandomDatasetV2": 2}
_MOST_ARRAY_EXAMPLES = 1 << 20


@dataclass(frozen=True)
class Sample:
    """Batches of a data set as numpy, in the order `fit` would see them.

    Attributes:
        batches: list of `(inputs, labels, weights)`: inputs an array or a structure of them, weights or None.
        ordered: True when the order of the examples is the one `fit` would train on; False for arrays, which
            `fit` shuffles itself.
        whole: True when the batches are all there is.
    """

    batches: list
    ordered: bool
    whole: bool

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
        batch_size: Examples a batch. Larger batches of a batched data set are cut to it.
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


def fresh_copy(dataset):
    """A copy of a data set that shares nothing with it, so that reading it changes nothing.

    `shuffle` gives every iteration another order, drawn from a generator that all iterators of one data set
    share: looking at its first batch would change the order of the reader's first epoch. The copy has
    generators of its own. A data set without such operations, or one that cannot be copied (its
    graph is over 2 GB), is returned as it is.

    Args:
        dataset: `tf.data.Dataset`.
    """
    if not any("Shuffle" in stage or "Random" in stage for stage in _stages(dataset)):
        return dataset
    try:
        ignore = tf.data.experimental.ExternalStatePolicy.IGNORE
        graph = graph_pb2.GraphDef.FromString(
            dataset._as_serialized_graph(external_state_policy=ignore).numpy()
        )
        for number, node in enumerate(list(graph.node)):
            if node.op in _SEED_INPUT:
                generator = graph.node.add(op="DummySeedGenerator", name=f"recipes_generator_{number}")
                node.input[_SEED_INPUT[node.op]] = generator.name
        variant = tf.raw_ops.DatasetFromGraph(graph_def=graph.SerializeToString())
        return tf.data.experimental.from_variant(variant, dataset.element_spec)
    except (tf.errors.OpError, ValueError, AttributeError):
        return dataset


def _stages(dataset):
    return [type(dataset).__name__, *(stage for before in dataset._inputs() for stage in _stages(before))]


def _from_dataset(dataset, model, batch_size, batches, seconds, name):
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) not in (2, 3):
        raise ValueError(
            f"recipes.diagnose expects {name} to give (inputs, labels) or (inputs, labels, weights). "
            "Received "
            f"elements {spec}. Add a map that returns such a tuple."
        )
    copy = fresh_copy(dataset)
    if not _batched(spec, model):
        copy = copy.batch(batch_size)
    taken, start, whole = [], time.monotonic(), True
    for element in copy:
        if len(taken) >= batches or (taken and time.monotonic() - start > seconds):
            whole = False
            break
        element = keras.tree.map_structure(lambda tensor: tensor.numpy(), element)
        whole = whole and len(keras.tree.flatten(element[0])[0]) <= batch_size
        taken.append(_cut(element, batch_size))
    if not taken or not len(keras.tree.flatten(taken[0][0])[0]):
        raise ValueError(_empty(name))
    return Sample(taken, ordered=True, whole=whole)


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
        taken.append(
            _cut(
                tuple(keras.tree.map_structure(lambda a, r=chosen: a[r], part) for part in parts), batch_size
            )
        )
    return Sample(taken, ordered=False, whole=count <= batches * batch_size)


def _recut(sample, batch_size, batches):
    """The examples of a sample in batches of another size, as many as there are."""
    first = len(keras.tree.flatten(sample.batches[0][0])[0])
    if first == batch_size:
        return Sample(
            sample.batches[:batches], sample.ordered, sample.whole and len(sample.batches) <= batches
        )
    needed = sample.batches[: -(-batches * batch_size // first)]
    joined = keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *(b[:2] for b in needed))
    weights = None if needed[0][2] is None else np.concatenate([batch[2] for batch in needed])
    count = len(keras.tree.flatten(joined[0])[0])
    cut = [
        (
            *keras.tree.map_structure(lambda array, s=start: array[s : s + batch_size], joined),
            None if weights is None else weights[start : start + batch_size],
        )
        for start in range(0, count, batch_size)
    ]
    whole = sample.whole and len(needed) == len(sample.batches) and len(cut) <= batches
    return Sample(cut[:batches], sample.ordered, whole)


def _batched(spec, model):
    image, expected = tf.nest.flatten(spec[0])[0], model_input_rank(model)
    if expected is not None and image.shape.rank is not None:
        return image.shape.rank >= expected
    labels = tf.nest.flatten(spec[1])[0]
    return bool(labels.shape.rank)


def _cut(element, size):
    inputs, labels, *weights = keras.tree.map_structure(lambda array: array[:size], tuple(element))
    return inputs, labels, weights[0] if weights else None


def _as_array(array):
    return keras.ops.convert_to_numpy(array) if keras.ops.is_tensor(array) else np.asarray(array)


def _empty(name):
    return (
        f"recipes.diagnose expects at least one example in {name}. Received an empty data set. "
        "Check the path or the filter it was made with."
    )
