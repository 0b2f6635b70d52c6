"""The pointing game over a folder of photos with masks, class by class."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import distance_transform_edt

from recipes.explain.attribution.attribution_task import at_least_one
from recipes.explain.attribution.grad_cam import grad_cam
from recipes.explain.engine.errors import UsageError
from recipes.explain.trust.pointing_game import pointing_game


@dataclasses.dataclass(frozen=True)
class Pointing:
    """The result of `pointing_over`: how often maps point at the object.

    Args:
        accuracy: Mean over the classes of the share of maps that hit, in 0..1.
        chance: The accuracy of maps with a random maximum: the mean share of the image that is a hit.
        of_class: `{class number in the masks: (hits, maps)}`; a single entry with the key None if `classes` is None.
        hits: bool `(maps,)`, in the order of the data, and of the classes within an image.
        without_object: Number of images with an empty mask, which are left out.
    """

    accuracy: float
    chance: float
    of_class: dict[int | None, tuple[int, int]]
    hits: NDArray[np.bool_]
    without_object: int

    def __str__(self) -> str:
        left = f"; {self.without_object} images without an object left out" if self.without_object else ""
        return f"pointing game: {self.accuracy:.1%} of {len(self.hits)} maps hit, {self.chance:.1%} by chance{left}"


def pointing_over(
    model: keras.Model,
    data: "str | os.PathLike[str] | tf.data.Dataset",
    method: Callable[..., ArrayLike] = grad_cam,
    *,
    classes: Mapping[int, int] | None = None,
    tolerance: float = 0,
    batch_size: int = 16,
    **options: Any,
) -> Pointing:
    """Play the pointing game on every image of a folder with masks, or of a data set.

    Source: Zhang et al. 2016, "Top-down Neural Attention by Excitation Backprop", section 4.2,
    https://arxiv.org/abs/1608.00507. For each class in an image, the maximum of its map has to lie on an object of the
    class; the accuracy is averaged over the classes. In the paper, up to 15 pixels from the object are a hit.

    Args:
        model: A built `keras.Model` that takes the images of the data unchanged.
        data: The path of a folder with `images/` and `masks/`, whose files have the same names (see `data.load`; images
            are then resized to the model's input), or a `tf.data.Dataset` of `(image, mask)`, batched or not: images
            `(height, width, channels)`, masks `(height, width)` of class numbers, 0 for the background.
        method: An attribution such as `explain.grad_cam`.
        classes: `{class in the masks: class of the model}`. None treats every pixel that is not 0 as the object, and
            takes the map of the predicted class.
        tolerance: Distance from the object in pixels that is still a hit, >= 0.
        batch_size: Number of images explained at once, >= 1.
        options: Passed to `method`.

    Returns:
        A `Pointing`.

    Raises:
        ValueError: when the data have no images or masks, or no mask has an object.

    Example:
        >>> print(explain.pointing_over(model, "voc", explain.layer_cam, classes={8: 281, 12: 207}, tolerance=15))
    """
    at_least_one("pointing_over", "batch_size", batch_size)
    hits: dict[int | None, list[bool]] = {}
    chances: dict[int | None, list[float]] = {}
    ordered, empty = [], 0
    for images, masks in _batches(model, data, batch_size):
        rows, objects, asked = _questions(masks, classes)
        empty += len(images) - len(set(rows))
        if not rows:
            continue
        target = None if classes is None else [classes[number] for number in asked]
        maps = np.asarray(method(model, images[rows], target, **options))
        found = pointing_game(maps, objects, tolerance=tolerance)
        for number, hit, mask in zip(asked, found, objects, strict=True):
            hits.setdefault(number, []).append(bool(hit))
            chances.setdefault(number, []).append(share_that_hits(mask, tolerance))
        ordered += found.tolist()
    if not ordered:
        raise UsageError(
            f"pointing_over expects masks with an object. Received {empty} images whose masks are 0 everywhere, or "
            f"have none of classes={classes}. Give the class numbers of the masks, which begin at 1."
        )
    return Pointing(
        float(np.mean([np.mean(one) for one in hits.values()])),
        float(np.mean([np.mean(one) for one in chances.values()])),
        {number: (sum(one), len(one)) for number, one in hits.items()},
        np.array(ordered, bool),
        empty,
    )


def share_that_hits(mask: NDArray[np.bool_], tolerance: float) -> float:
    """Share of the image in which a maximum is a hit: on the mask or up to `tolerance` pixels from it."""
    return float(np.mean(distance_transform_edt(~mask) <= tolerance))


def _questions(masks, classes):
    """`(rows, objects, numbers)`: for each class in each image, the row of the image, the class's mask and number."""
    rows, objects, asked = [], [], []
    for row, mask in enumerate(masks):
        for number in [None] if classes is None else classes:
            place = mask != 0 if number is None else mask == number
            if place.any():
                rows.append(row)
                objects.append(place)
                asked.append(number)
    return rows, objects, asked


def _batches(model, data, batch_size) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images `(n, height, width, channels)` and their masks `(n, height, width)`."""
    if isinstance(data, (str, os.PathLike)):
        from recipes.data import load  # noqa: PLC0415 - reads files, which no other explanation needs

        height, width = model.inputs[0].shape[1:3]
        size = None if height is None or width is None else (height, width)
        data, _, info = load(os.fspath(data), size, validation=0, cache=None, verbose=0)
        if info.task != "segmentation":
            raise UsageError(
                f"pointing_over expects a folder with images/ and masks/. Received {info.source}, of task "
                f"{info.task}. Save for each image a mask of the same name."
            )
    spec = getattr(data, "element_spec", None)
    if not isinstance(spec, tuple) or len(spec) != 2 or spec[1].shape.rank not in (2, 3):
        raise UsageError(
            "pointing_over expects the path of a folder or a tf.data.Dataset of (image, mask). Received "
            f"{type(data).__name__} of {spec}. For arrays write tf.data.Dataset.from_tensor_slices((images, masks))."
        )
    data = data.unbatch() if spec[1].shape.rank == 3 else data
    yield from data.batch(batch_size).as_numpy_iterator()
