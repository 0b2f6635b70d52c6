"""What data `recipes.train` takes: any data set, checked, and how it is read batch by batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from recipes.common.datasets import fresh_copy, reader_of, without_autotune
from recipes.common.input_shapes import check_inputs, first_input, what_to_do
from recipes.common.models import model_input_rank
from recipes.common.types import Data
from recipes.data.shard import bounds_of_part
from recipes.training.data_checks import check_labels, empty_message, not_finite_message, peek, sizes_message
from recipes.training.epoch_order import epoch_orders, shuffled, shuffled_places, without_first
from recipes.training.epoch_stream import blank_batch as blank_batch
from recipes.training.epoch_stream import stream as stream

_SHUFFLE_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Source:
    """A data set as it came, with what was learned by looking at its first examples.

    Attributes:
        name: The argument it was given as, for errors ("train", "validation").
        batches: function `(epoch, skip=0) -> tf.data.Dataset` of the batches of an epoch without the first `skip`;
            `epoch` is an int64 tensor, `skip` an integer or an int64 tensor.
        steps: Batches per epoch, or None where the data set does not say.
        examples: Images per epoch, or None where that is not known.
        element_spec: Structure, shape and dtype of one batch.
        batched: True when the batches are the user's own.
        pixels: Smallest and largest float pixel that was looked at; None for integers.
        endless: True for a data set that repeats for ever; it is then iterated once, across epochs.
        preview: The same source for looking at it: reading it leaves the order of the user's next epoch as it is.
        order: function `epoch -> int64 (examples,)`: the numbers of the examples as that epoch reads them, where the
            order is ours; None where it is the user's own.
        kept: Numbers of the examples in the data set that the user gave, int64, where some were dropped; else None.
        parts: function `(epoch, skip, (index, count)) -> tf.data.Dataset` of `(part of a batch, its first row, rows of
            the batch)`, the share of one of several processes, where the examples of others need not be read; or None.
    """

    name: str
    batches: Callable[..., tf.data.Dataset]
    steps: int | None
    examples: int | None
    element_spec: tuple[Any, ...]
    batched: bool
    pixels: tuple[float, float] | None
    endless: bool = False
    preview: Source | None = None
    order: Callable[[int], np.ndarray] | None = None
    kept: np.ndarray | None = None
    parts: Callable[..., tf.data.Dataset] | None = None

    def parts_of(self, epoch: Any, skip: Any, share: tuple[int, int]) -> tf.data.Dataset:
        """Like `parts`; without it, whole batches are read and cut."""
        if self.parts is not None:
            return self.parts(epoch, skip, share)

        def cut(*batch):
            size = tf.shape(tf.nest.flatten(batch)[0], tf.int64)[0]
            first, end = bounds_of_part(size, *share)
            return tf.nest.map_structure(lambda rows: rows[first:end], batch), first, size

        return self.batches(epoch, skip).map(cut)

    @property
    def label_spec(self) -> tf.TensorSpec:
        """Shape and dtype of one batch of labels."""
        return self.element_spec[1]

    @property
    def image_shape(self) -> tuple[int | None, ...] | None:
        """`(height, width, channels)` of one image, or None for a structure of several inputs."""
        spec = self.element_spec[0]
        return tuple(spec.shape[1:]) if isinstance(spec, tf.TensorSpec) else None


def open_source(
    data: Data,
    name: str,
    *,
    model: keras.Model,
    batch_size: int,
    classes: int | None,
    shuffle: bool,
    seed: int,
    maps: tuple[int | None, int | None] | None = None,
) -> Source:
    """Look at a data set without consuming it and say how to read it, epoch by epoch.

    Args:
        data: `tf.data.Dataset` of `(image, label)` or `(image, label, weight)`, batched or not, or a tuple of
            arrays. Images of any shape the model takes.
        name: The argument's name, used in errors.
        model: The `keras.Model` that will read it; the rank of its first input tells batched from not.
        batch_size: Images per batch, for data that comes un-batched.
        classes: Number of classes when labels are class numbers or one-hot rows; None leaves labels unchecked.
        shuffle: Reshuffle un-batched data in every epoch.
        seed: Integer; together with the number of the epoch it fixes the order of the examples.
        maps: `(height, width)` where labels are maps of classes, with None for a side that is open; else None.

    Returns:
        A `Source`.

    Raises:
        ValueError: for one-shot generators, empty data, labels that do not fit, images of several sizes, NaN.
        TypeError: for anything that is neither a data set nor arrays.
    """
    how = {"model": model, "batch_size": batch_size, "classes": classes, "shuffle": shuffle, "seed": seed}
    if isinstance(data, tf.data.Dataset):
        return _open_dataset(data, name, maps=maps, **how)
    if isinstance(data, (tuple, list)) and len(data) in (2, 3):
        return _open_arrays(data, name, maps=maps, **how)
    if hasattr(data, "__next__"):
        raise ValueError(
            f"recipes.train expects {name} to be something that can be read once per epoch. Received a "
            f"one-shot {type(data).__name__}, which is empty after the first epoch. "
            "Wrap it: tf.data.Dataset.from_generator(function_that_makes_it, output_signature=...)."
        )
    raise TypeError(
        f"recipes.train expects {name} to be a tf.data.Dataset of (image, label) or a tuple of arrays (x, y). "
        f"Received {type(data).__name__}. For images on disk use recipes.data.load(folder)."
    )


def _open_arrays(arrays, name, *, model, batch_size, classes, shuffle, seed, maps):
    arrays = tuple(
        _as_array(array, name, what)
        for array, what in zip(arrays, ("images", "labels", "weights"), strict=False)
    )
    count = len(arrays[0])
    lengths = [len(array) for array in arrays]
    if count == 0:
        raise ValueError(empty_message(name))
    if len(set(lengths)) > 1:
        raise ValueError(
            f"recipes.train expects as many labels as images in {name}. Received lengths {lengths}. "
            "Check that the arrays belong together."
        )
    check_inputs("recipes.train", name, model, arrays[0])
    expected = model_input_rank(model)
    if expected is not None and arrays[0].ndim != expected:
        raise ValueError(
            f"recipes.train expects {name} images of shape {model.inputs[0].shape}. Received shape "
            f"{arrays[0].shape}. Add the missing axis, for gray images: x[..., None]."
        )
    if np.issubdtype(arrays[0].dtype, np.floating) and not np.isfinite(arrays[0]).all():
        bad = int(np.argmax(~np.isfinite(arrays[0].reshape(count, -1)).all(axis=1)))
        raise ValueError(not_finite_message(name, f"image {bad} holds NaN or infinity"))
    check_labels(arrays[1], name, classes, maps)
    tensors = tuple(tf.constant(array) for array in arrays)
    floats = np.issubdtype(arrays[0].dtype, np.floating)
    pixels = (float(arrays[0].min()), float(arrays[0].max())) if floats else None

    def rows_of(epoch, skip):
        order = tf.data.Dataset.range(count)
        if shuffle:
            order = shuffled(order, count, seed, epoch)
        return without_first(order.batch(batch_size), skip)

    def read(rows):
        return tuple(tf.gather(tensor, rows) for tensor in tensors)

    def batches(epoch, skip=0):
        return rows_of(epoch, skip).map(read, num_parallel_calls=2)

    def parts(epoch, skip, share):
        def own(rows):
            size = tf.shape(rows, tf.int64)[0]
            first, end = bounds_of_part(size, *share)
            return read(rows[first:end]), first, size

        return rows_of(epoch, skip).map(own, num_parallel_calls=2)

    spec = tuple(tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in arrays)
    source = Source(
        name,
        batches,
        -(-count // batch_size),
        count,
        spec,
        batched=False,
        pixels=pixels,
        order=epoch_orders(lambda epoch: shuffled(tf.data.Dataset.range(count), count, seed, epoch), count)
        if shuffle
        else lambda epoch: np.arange(count),
        parts=parts,
    )
    return dataclasses.replace(source, preview=source)


def _open_dataset(dataset, name, *, model, batch_size, classes, shuffle, seed, maps):
    spec = dataset.element_spec
    _refuse_undecoded(spec, name)
    if isinstance(spec, dict):
        raise ValueError(
            f"recipes.train expects {name} to give (image, label). Received dictionaries of {sorted(spec)}, without "
            "image and label. Map them: dataset.map(lambda example: (example['photo'], example['species']))."
        )
    if not isinstance(spec, tuple) or len(spec) not in (2, 3):
        raise ValueError(
            f"recipes.train expects {name} to give (image, label) or (image, label, weight). "
            f"Received elements {spec}. Add a map that returns such a tuple."
        )
    image = first_input(model, spec[0])
    expected = model_input_rank(model)
    short = image.shape.rank == (expected or 0) - 1 and _open_first(image) and _open_first(spec[1])  # batches
    if expected is None or image.shape.rank is None:
        batched = spec[1].shape.rank is not None and spec[1].shape.rank > 0
    elif image.shape.rank in (expected, expected - 1) and not short:
        batched = image.shape.rank == expected
    else:
        several = spec[1].shape.rank if isinstance(spec[1], tf.TensorSpec) else None
        remedy = what_to_do(tuple(model.inputs[0].shape[1:]), tuple(image.shape[1 if several else 0 :]))
        raise ValueError(
            f"recipes.train expects {name} images of rank {expected - 1}, or {expected} when batched, for a model "
            f"whose input is {model.inputs[0].shape}. Received {image.shape}. {remedy}"
        )
    copy = fresh_copy(dataset)
    pixels = peek(copy, name, batched=batched, classes=classes, maps=maps)
    facts = {"name": name, "batched": batched, "pixels": pixels}
    shapes = None if batched else _first_shapes(copy)
    how = {"batch_size": batch_size, "shapes": shapes, "shuffle": shuffle, "seed": seed, **facts}
    return _source(dataset, preview=_source(copy, preview=None, **how), **how)


def _open_first(spec):
    """Whether a data set gives any number of such things at once: batches."""
    return isinstance(spec, tf.TensorSpec) and spec.shape.rank and spec.shape[0] is None


def _refuse_undecoded(spec, name):
    image = spec[0] if isinstance(spec, tuple) and spec else spec
    if isinstance(image, tf.TensorSpec) and image.dtype == tf.string:
        raise ValueError(
            f"recipes.train expects {name} to give decoded images. Received strings, as TFRecord files hold them. Load "
            "the files with recipes.data.load('photos.tfrecord', image_size=224), or decode them in a map."
        )


def _source(dataset, *, name, batched, pixels, batch_size, shapes, shuffle, seed, preview):
    """A `Source` of a data set that was looked at."""
    cardinality = int(dataset.cardinality())
    endless = cardinality == tf.data.INFINITE_CARDINALITY
    known = cardinality >= 0
    if batched:
        return Source(
            name,
            lambda _epoch, skip=0: without_first(dataset, skip),
            cardinality if known else None,
            _batched_examples(dataset, cardinality) if known else None,
            dataset.element_spec,
            batched=True,
            pixels=pixels,
            endless=endless,
            preview=preview,
        )
    in_order = reader_of(dataset)
    image = tf.nest.flatten(dataset.element_spec[0])[0]
    bytes_each = max(1, int(np.prod([side or 256 for side in image.shape])) * image.dtype.size)
    room = max(1024, _SHUFFLE_BYTES // bytes_each)
    buffer = min(cardinality, room) if known else room
    fixed = dataset.map(_one_size(name, shapes))

    def places(epoch):
        if in_order is not None:
            return shuffled_places(cardinality, seed, epoch)
        return shuffled(tf.data.Dataset.range(cardinality), buffer, seed, epoch)

    order = epoch_orders(places, cardinality) if shuffle else lambda epoch: np.arange(cardinality)

    def batches(epoch, skip=0):
        if not shuffle:
            return without_first(fixed.batch(batch_size), skip)
        if in_order is not None:  # images of `data.load`: they are shuffled before they are read
            places = shuffled_places(cardinality, seed, epoch)
            return in_order(without_first(places, skip, batch_size), skip * batch_size).batch(batch_size)
        return without_first(shuffled(fixed, buffer, seed, epoch).batch(batch_size), skip)

    def parts(epoch, skip, share):
        """For images of `data.load`: the numbers are dealt out, so that no worker reads the images of another."""

        def own(place, _):
            row, size = (
                place % batch_size,
                tf.minimum(cardinality - place // batch_size * batch_size, batch_size),
            )
            first, end = bounds_of_part(size, *share)
            return (row >= first) & (row < end)

        skipped = tf.cast(skip * batch_size, tf.int64)
        places = without_first(shuffled_places(cardinality, seed, epoch), skip, batch_size)
        mine = places.enumerate(start=skipped).filter(own).map(lambda _, place: place)
        most = bounds_of_part(batch_size, *share)
        batches = in_order(mine, skip * batch_size).batch(most[1] - most[0]).enumerate(start=skip)

        def numbered(step, batch):
            size = tf.minimum(cardinality - step * batch_size, batch_size)
            return batch, bounds_of_part(size, *share)[0], size

        return batches.map(numbered)

    return Source(
        name,
        batches,
        -(-cardinality // batch_size) if known else None,
        cardinality if known else None,
        fixed.batch(batch_size).element_spec,
        batched=False,
        pixels=pixels,
        endless=endless,
        preview=preview,
        order=order if known else None,
        parts=parts if shuffle and in_order is not None else None,
    )


def _batched_examples(dataset, batches):
    """How many examples a batched data set holds, where all batches but the last are of one known size."""
    size = tf.nest.flatten(dataset.element_spec)[0].shape[0]
    return None if size is None else batches * size


def _as_array(array, name, what):
    if isinstance(array, (list, tuple)):
        shapes = {np.shape(entry) for entry in array}
        if len(shapes) > 1:
            raise ValueError(sizes_message(name, " and ".join(str(shape) for shape in sorted(shapes)[:2])))
    array = keras.ops.convert_to_numpy(array) if keras.ops.is_tensor(array) else np.asarray(array)
    if array.dtype == object or array.ndim == 0:
        raise ValueError(
            f"recipes.train expects the {what} of {name} to be one array of numbers. Received {array.dtype} of "
            f"shape {array.shape}. Stack them: np.stack(list_of_arrays)."
        )
    return array


def _first_shapes(dataset):
    return tf.nest.map_structure(lambda tensor: tensor.shape, next(iter(without_autotune(dataset))))


def _one_size(name, shapes):
    """Fix the static shapes to the shapes of the first element, and raise in words when another size comes."""

    def fix(*element):
        def one(tensor, shape):
            same = tf.reduce_all(tf.equal(tf.shape(tensor), tf.constant(shape.as_list(), tf.int32)))
            message = sizes_message(name, f"{tuple(shape)} and then")
            with tf.control_dependencies([tf.debugging.Assert(same, [message, tf.shape(tensor)])]):
                return tf.ensure_shape(tf.identity(tensor), shape)

        needs = [not tensor.shape.is_fully_defined() for tensor in tf.nest.flatten(element)]
        return tf.nest.map_structure(one, element, shapes) if any(needs) else element

    return fix
