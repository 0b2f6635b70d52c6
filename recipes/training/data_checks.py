"""The checks of a data set before and while `recipes.train` reads it, and the messages about what is wrong."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from recipes.common.datasets import without_autotune
from recipes.training.maps import check_maps, map_range_message, plain_maps

PEEK_SECONDS = 2.0


def checked(
    name: str, classes: int | None, maps: tuple[int | None, int | None] | None = None
) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """A function on batches that stops the run, with a message, at labels or pixels that cannot be right.

    Args:
        name: The argument's name, used in errors.
        classes: Number of classes, or None.
        maps: As in `open_source`; masks of one channel lose it.
    """

    def check(batch):
        if maps is not None:
            batch = (batch[0], plain_maps(batch[1]), *batch[2:])
        images, labels = batch[0], batch[1]
        checks = []
        numbers = labels.shape.rank == (1 if maps is None else 3) and labels.dtype != tf.bool
        if classes is not None and numbers and (labels.dtype.is_integer or maps is not None):
            low, high = tf.reduce_min(labels), tf.reduce_max(labels)
            says = label_range_message if maps is None else map_range_message
            message = says(name, classes, "labels outside that range, [smallest, largest]:")
            inside = tf.logical_and(low >= 0, high < tf.cast(classes, labels.dtype))
            checks.append(tf.debugging.Assert(inside, [message, low, high]))
        for image in tf.nest.flatten(images):
            if image.dtype.is_floating:
                finite = tf.reduce_all(tf.math.is_finite(image))
                checks.append(
                    tf.debugging.Assert(finite, [not_finite_message(name, "a batch with NaN or infinity")])
                )
        with tf.control_dependencies([check for check in checks if check is not None]):
            return tf.nest.map_structure(tf.identity, batch)

    return check


def peek(
    dataset: tf.data.Dataset,
    name: str,
    *,
    batched: bool,
    classes: int | None,
    maps: tuple[int | None, int | None] | None = None,
) -> tuple[float, float] | None:
    """Read at most two seconds of examples through an iterator of its own and check them.

    Args:
        dataset: `tf.data.Dataset` of `(image, label, ...)`; a `fresh_copy` of the user's.
        name: The argument's name, used in errors.
        batched: Whether elements are batches.
        classes: Number of classes, or None.
        maps: As in `open_source`.

    Returns:
        `(smallest, largest)` pixel seen, for float images; None for integers.

    Raises:
        ValueError: as `open_source`.
    """
    dataset = without_autotune(dataset)
    start, shape, seen, pixels = time.monotonic(), None, 0, None
    try:
        for element in dataset:
            image, labels = tf.nest.flatten(element[0])[0], element[1]
            now = tuple(image.shape)[1:] if batched else tuple(image.shape)
            if batched and image.shape[0] == 0:
                raise ValueError(empty_message(name))
            if shape is not None and now != shape:
                raise ValueError(sizes_message(name, f"{shape} and {now}"))
            shape, seen = now, seen + 1
            if image.dtype.is_floating:
                values = image.numpy().astype("float32")
                if not np.isfinite(values).all():
                    raise ValueError(not_finite_message(name, f"element {seen - 1} with NaN or infinity"))
                low, high = pixels or (np.inf, -np.inf)
                pixels = min(low, float(values.min())), max(high, float(values.max()))
            if not isinstance(labels, dict):
                check_labels(labels.numpy() if batched else labels.numpy()[None], name, classes, maps)
            if time.monotonic() - start > PEEK_SECONDS:
                break
    except tf.errors.InvalidArgumentError as error:
        if "different shapes" in str(error) or "Cannot batch" in str(error):
            raise ValueError(sizes_message(name, "batches that cannot be put together")) from error
        raise
    if seen == 0:
        raise ValueError(empty_message(name))
    if next(iter(dataset), None) is None:
        raise ValueError(
            f"recipes.train expects {name} to be readable once per epoch. Received a data set that is empty when "
            "it is read a second time. Build it with from_generator(a function that makes a new generator)."
        )
    return pixels


def check_labels(
    labels: np.ndarray,
    name: str,
    classes: int | None,
    maps: tuple[int | None, int | None] | None = None,
) -> None:
    """Refuse class numbers outside `0..classes-1`, floats for class numbers, and rows of another width.

    Args:
        labels: numpy array of shape `(n,)`, integers, or `(n, classes)`, one-hot or soft.
        name: The argument's name, used in errors.
        classes: Number of classes; None checks nothing.
        maps: As in `open_source`: labels are then maps `(n, height, width)`.

    Raises:
        ValueError: for such labels.
    """
    if classes is None:
        return
    if maps is not None:
        check_maps(labels, name, classes, maps)
        return
    if labels.ndim > 2:
        raise ValueError(
            f"recipes.train expects one label per image in {name}, as the model gives one answer per image. Received "
            f"labels of shape {labels.shape[1:]}, like masks. Build recipes.models.unet(image_shape, classes), which "
            "gives a class for every pixel."
        )
    if labels.ndim == 1 and not np.issubdtype(labels.dtype, np.integer) and labels.dtype != bool:
        raise ValueError(
            f"recipes.train expects integer class numbers or one-hot rows as labels of {name}. Received "
            f"{labels.dtype}, for example {labels.ravel()[:3]}. Turn them into integers with y.astype('int64'), "
            "or, for a regression, give loss='mse' and metrics."
        )
    if labels.ndim == 1 and len(labels) and (labels.min() < 0 or labels.max() >= classes):
        wrong = labels[(labels < 0) | (labels >= classes)]
        raise ValueError(label_range_message(name, classes, f"label {wrong[0]}."))
    if labels.ndim == 2 and labels.shape[1] not in (1, classes):
        raise ValueError(
            f"recipes.train expects rows of {classes} numbers, as the model has {classes} outputs, as labels of "
            f"{name}. Received shape {labels.shape}. Build the model with classes={labels.shape[1]}."
        )


def empty_message(name: str) -> str:
    return (
        f"recipes.train expects at least one example in {name}. Received an empty data set. "
        "Check the path or the filter it was made with."
    )


def sizes_message(name: str, received: str) -> str:
    return (
        f"recipes.train expects images of one size in {name}. Received {received}. "
        "Resize them first, for a folder or TFRecord files with recipes.data.load(path, image_size=(height, width)), "
        "else with tf.image.resize in a map."
    )


def not_finite_message(name: str, received: str) -> str:
    return (
        f"recipes.train expects finite pixels in {name}. Received {received}. "
        "Look for a division by zero in the preprocessing, or drop those images."
    )


def label_range_message(name: str, classes: int, received: str) -> str:
    return (
        f"recipes.train expects labels of {name} in 0..{classes - 1}, as the model has {classes} outputs. Number "
        f"classes from 0, or build the model with more outputs. Received {received}"
    )
