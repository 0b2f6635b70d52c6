"""Which images are trained on, and which are held back for validation."""

import numpy as np

from recipes.data.image_set import ImageSet
from recipes.data.listing import PARTS


def train_validation_rows(
    images: ImageSet, part: str, validation: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """`(train rows, validation rows)` of a data set, by its own parts or by `stratified_split`."""
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
            f"data.load expects training images in {images.source!r}. Received none. Check the names of the parts."
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


def _enough(count, validation):
    """How many images would do, of which one is then held back from a class of two or more."""
    needed = max(count, int(0.5 / validation))  # `round` decides between this number and the next
    while round(needed * validation) < 1:
        needed += 1
    if needed == count:
        return "Give two or more images of a class"
    return f"Give at least {needed} images, two or more of them of one class"


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
            f"{_enough(len(labels), validation)}, raise validation, or type validation=0 and train on all of them."
        )
    held_back = np.zeros(len(labels), bool)
    for label, count in enumerate(quota):
        held_back[np.flatnonzero(labels[order] == label)[:count]] = True
    return order[~held_back], order[held_back]
