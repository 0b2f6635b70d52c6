"""What `load` has found, wherever it comes from: labels, and how to read some of the images in any order."""

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


@dataclasses.dataclass
class ImageSet:
    """All images of a data set, and how to read some of them.

    Attributes:
        read: function `(rows, places: tf.data.Dataset of int64) -> tf.data.Dataset of images`, in that order.
        labels: int64 `(n,)`, float32 `(n, classes)` or uint8 `(n, height, width)`.
        parts: int8 `(n,)` or None, as in `Listing`.
        files: function `(rows) -> tuple of paths`, or None where there are none.
        identity: function `(rows) -> dict` of what tells these files from others without reading them, or None.
    """

    read: Callable
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

    def count_classes(self, rows: np.ndarray) -> list[int]:
        labels, classes = self.labels[rows], len(self.class_names)
        if self.task == "classification":
            return np.bincount(labels, minlength=classes).tolist()
        if self.task == "multi_label":
            return labels.sum(axis=0).astype(int).tolist()
        return [int((labels == number).any(axis=(1, 2)).sum()) for number in range(classes)]

    def dataset(self, rows: np.ndarray, balance: str | None = None, seed: int = 0) -> tf.data.Dataset:
        """Some of the images with their labels, in that order."""
        labels = tf.constant(self.labels[rows])

        def read(places, first=0):  # noqa: ARG001 - nothing here depends on where in the epoch a place comes
            answers = places.map(lambda place: self._label(tf.gather(labels, place)))
            return tf.data.Dataset.zip((self.read(rows, places), answers))

        if balance is None:
            examples = read(tf.data.Dataset.range(len(rows)))
            reader = read
        else:
            balanced = balanced_places(self.labels[rows], balance, seed)
            reader = lambda places, first=0: read(balanced(places, first))  # noqa: E731

            def an_epoch(key):
                seeds = tf.stack([tf.constant(seed, tf.int64), key])
                order = tf.random.experimental.stateless_shuffle(tf.range(len(rows), dtype=tf.int64), seeds)
                return reader(tf.data.Dataset.from_tensor_slices(order))

            keys = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).take(1)
            examples = keys.flat_map(an_epoch)
        examples = examples.apply(tf.data.experimental.assert_cardinality(len(rows)))
        # Shuffled before the images are read, an epoch costs no memory; recipes.train asks for this.
        remember_reader(examples, reader, self._identity(rows, balance))
        return examples

    def _identity(self, rows, balance):
        """What `remember_reader` keeps to tell these examples from others: names, sizes and labels, nothing decoded."""
        if self.identity is None:
            return None
        labels, identity = np.ascontiguousarray(self.labels[rows]), self.identity

        def tell():
            return {**identity(rows), "labels": hashlib.sha256(labels).hexdigest(), "balance": balance}

        return tell

    def _label(self, label):
        return tf.cast(label, tf.int64) if self.task == "segmentation" else label


def in_memory(images: tf.Tensor) -> Callable[[np.ndarray, tf.data.Dataset], tf.data.Dataset]:
    """How images of one tensor `(n, height, width, channels)` are read."""

    def read(rows, places):
        numbers_of_images = tf.constant(rows, tf.int64)
        return places.map(lambda place: tf.gather(images, tf.gather(numbers_of_images, place)))

    return read


def as_tensor(array: np.ndarray) -> tf.Tensor:
    """A tensor in the memory of the processor, wherever the model is."""
    with tf.device("CPU"):
        return tf.constant(array)
