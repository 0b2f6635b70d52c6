"""What `load` has found, from whatever source: labels, and how to read some of the images in any order."""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from recipes.common.datasets import remember_reader
from recipes.data.balance import balanced_places


@dataclasses.dataclass(frozen=True)
class Reading:
    """How files become images: the checked arguments of `load`."""

    size: tuple[int, int] | None
    fit: str
    background: tuple[int, int, int]
    skip: bool
    check: bool
    verbose: int
    random_crops: tuple[float, float] | None = None


#: From the rows of some images to a function `(places: tf.data.Dataset of int64) -> tf.data.Dataset of images`, in that
#: order. The function may be called while another is traced, so the tensors of what it needs to know about each image
#: are made before: made while tracing, they would become part of the graph, of which there are many copies.
Read = Callable[[np.ndarray], Callable[..., tf.data.Dataset]]


@dataclasses.dataclass
class ImageSet:
    """All images of a data set, and how to read some of them.

    Attributes:
        read: See `Read`.
        read_crops: The same for a random part of each, with `(places, first, seed)`, or None; `first` is how many
            places of the epoch were left out before.
        labels: int64 `(n,)`, float32 `(n, classes)` or uint8 `(n, height, width)`.
        parts: int8 `(n,)` or None, as in `Listing`.
        files: function `(rows) -> tuple of paths`, or None where there are none.
        identity: function `(rows) -> dict` of facts that tell these files from others without reading them, or None.
    """

    read: Read
    labels: np.ndarray
    class_names: list
    shape: tuple
    source: str
    kind: str
    task: str = "classification"
    parts: np.ndarray | None = None
    cache: str | None = None
    on_disk: bool = True
    notes: list = dataclasses.field(default_factory=list)
    skipped: list = dataclasses.field(default_factory=list)
    identity: Callable[[np.ndarray], dict[str, Any]] | None = None
    files: Callable[[np.ndarray], tuple[str, ...]] | None = None
    read_crops: Read | None = None

    def count_classes(self, rows: np.ndarray) -> list[int]:
        labels, classes = self.labels[rows], len(self.class_names)
        if self.task == "classification":
            return np.bincount(labels, minlength=classes).tolist()
        if self.task == "multi_label":
            return labels.sum(axis=0).astype(int).tolist()
        return [int((labels == number).any(axis=(1, 2)).sum()) for number in range(classes)]

    def dataset(
        self, rows: np.ndarray, balance: str | None = None, seed: int = 0, crops: bool = False
    ) -> tf.data.Dataset:
        """Some of the images, or random parts of them, with their labels, in that order."""
        labels = tf.constant(self.labels[rows])
        in_memory = isinstance(self.read, InMemory) and not crops
        image = self.read.image_at(rows) if in_memory else None
        images_at = None if in_memory else (self.read_crops if crops else self.read)(rows)

        def read(places, first=0):
            if in_memory:
                # One function per place: for images in memory, the call is what reading costs.
                return places.map(lambda place: (image(place), self._label(tf.gather(labels, place))))
            answers = places.map(lambda place: self._label(tf.gather(labels, place)))
            images = images_at(places, first, seed) if crops else images_at(places)
            return tf.data.Dataset.zip((images, answers))

        reader = read
        if balance is not None:
            balanced = balanced_places(self.labels[rows], balance, seed)
            reader = lambda places, first=0: read(balanced(places, first), first)  # noqa: E731

        def an_epoch(key):
            if balance is None:  # in order, and with other crops
                return read(tf.data.Dataset.range(len(rows)), key % 2**30)
            seeds = tf.stack([tf.constant(seed, tf.int64), key])
            order = tf.random.experimental.stateless_shuffle(tf.range(len(rows), dtype=tf.int64), seeds)
            return reader(tf.data.Dataset.from_tensor_slices(order))

        if balance is None and not crops:
            examples = read(tf.data.Dataset.range(len(rows)))
        else:
            examples = _another_number_each_time(seed).flat_map(an_epoch)
        examples = examples.apply(tf.data.experimental.assert_cardinality(len(rows)))
        # Shuffled before the images are read, an epoch costs no memory; recipes.train asks for this.
        remember_reader(examples, reader, self._identity(rows, balance, crops))
        return examples

    def _identity(self, rows, balance, crops):
        """What `remember_reader` keeps to tell these examples from others: names, sizes and labels, nothing decoded."""
        if self.identity is None:
            return None
        labels, identity = np.ascontiguousarray(self.labels[rows]), self.identity

        def tell():
            return {**identity(rows), "labels": hashlib.sha256(labels).hexdigest(), "balance": balance} | (
                {"random_crops": True} if crops else {}
            )

        return tell

    def _label(self, label):
        return tf.cast(label, tf.int64) if self.task == "segmentation" else label


def _another_number_each_time(seed):
    """A data set of one number, the n-th of `seed` when it is iterated for the n-th time.

    `tf.data.Dataset.random` would mix the user's `tf.random.set_seed` into it.
    """
    number = tf.TensorSpec((), tf.int64)
    drawn = tf.raw_ops.RandomDatasetV2(
        seed=seed,
        seed2=1,
        seed_generator=tf.raw_ops.DummySeedGenerator(),
        rerandomize_each_iteration=True,
        output_types=[number.dtype],
        output_shapes=[number.shape],
    )
    return tf.data.experimental.from_variant(drawn, number).take(1)


@dataclasses.dataclass(frozen=True)
class InMemory:
    """How images of one tensor are read: `read` of an `ImageSet`.

    Attributes:
        images: uint8 `(n, height, width, channels)`.
    """

    images: tf.Tensor

    def __call__(self, rows: np.ndarray) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
        image = self.image_at(rows)
        return lambda places: places.map(image)

    def image_at(self, rows: np.ndarray) -> Callable[[tf.Tensor], tf.Tensor]:
        """Function from a place among `rows` to its image."""
        numbers_of_images = tf.constant(rows, tf.int64)
        return lambda place: tf.gather(self.images, tf.gather(numbers_of_images, place))


def as_tensor(array: np.ndarray) -> tf.Tensor:
    """A tensor in the memory of the processor, wherever the model is."""
    with tf.device("CPU"):
        return tf.constant(array)
