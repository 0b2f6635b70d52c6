"""Any data set as batches in a fixed order, for work that reads it without training on it."""

import numpy as np
import tensorflow as tf

from recipes.checks import let_go_at_once
from recipes.feed import model_input_rank


def as_batches(data, model, *, batch_size, caller, name="data"):
    """Turn arrays or a data set, batched or not, into a `tf.data.Dataset` of batches.

    Args:
        data: `tf.data.Dataset` of images, of `(image, label)` or of `(image, label, weight)`, batched or not; or
            arrays `x`, `(x, y)` or `(x, y, weight)`. It is not consumed.
        model: The `keras.Model` that will read it; the rank of its first input tells batched from not.
        batch_size: Examples a batch where the data comes un-batched.
        caller: The public function, named in errors.
        name: Its argument, named in errors.

    Returns:
        `tf.data.Dataset` of tuples `(images,)`, `(images, labels)` or `(images, labels, weights)`.

    Raises:
        ValueError: for an empty data set, an endless one, arrays of different lengths.
        TypeError: for anything else, such as a generator.
    """
    if isinstance(data, tf.data.Dataset):
        return _from_dataset(data, model, batch_size, caller, name)
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
            f"{caller} expects arrays of one length in {name}. Received lengths {sorted(lengths)}. "
            "Check that the arrays belong together."
        )
    if not lengths.pop():
        raise ValueError(_empty(caller, name))
    slices = tf.data.Dataset.from_tensor_slices(tuple(np.asarray(array) for array in arrays))
    return let_go_at_once(slices.batch(batch_size))


def _from_dataset(dataset, model, batch_size, caller, name):
    if not isinstance(dataset.element_spec, tuple):
        dataset = dataset.map(lambda images: (images,))
    dataset = let_go_at_once(dataset)
    cardinality = int(dataset.cardinality())
    if cardinality == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            f"{caller} expects {name} to end. Received a data set that repeats for ever. "
            "Leave repeat() out, or take what one pass shall be: dataset.take(steps)."
        )
    if cardinality == 0 or (cardinality < 0 and next(iter(dataset), None) is None):
        raise ValueError(_empty(caller, name))
    rank = tf.nest.flatten(dataset.element_spec[0])[0].shape.rank
    expected = model_input_rank(model)
    if expected is not None and rank == expected - 1:
        return dataset.batch(batch_size)
    return dataset


def _empty(caller, name):
    return (
        f"{caller} expects at least one example in {name}. Received an empty data set. "
        "Check the path or the filter it was made with."
    )
