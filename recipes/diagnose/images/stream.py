"""Read the images of any data set or of arrays, batch by batch."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from recipes.common.class_numbers import class_numbers
from recipes.common.datasets import fresh_copy, pairs_of, without_autotune

_BATCH = 64


def image_batches(
    data: Any, caller: str, name: str = "data"
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Batches `(images, labels)` of a data set or of arrays, read from a copy, so that the data is not used up.

    Args:
        data: `tf.data.Dataset` of images or `(image, label, ...)`, batched or not, of one size or of several; or arrays
            `x` or `(x, y)`. Images `(height, width)` or `(height, width, channels)` of 1, 3 or 4 channels.
        caller: Name of the public function, for errors.
        name: Name of its argument, for errors.

    Yields:
        `(images, labels)`: images `(n, height, width, channels)` without an alpha channel, one at a time where sizes
        differ; labels `(n,)` as class numbers, or None where there are none or they are not classes.

    Raises:
        ValueError: for an empty or endless data set, arrays that are not images, or labels of another number.
        TypeError: for data of another kind, such as a generator.
    """
    import tensorflow as tf  # noqa: PLC0415 - arrays are looked at without it

    data = pairs_of(data)
    if isinstance(data, tf.data.Dataset):
        batches = _of_dataset(fresh_copy(data), caller, name)
    else:
        batches = _of_arrays(data, caller, name)
    count = 0
    for images, labels in batches:
        count += len(images)
        yield images, labels
    if not count:
        raise ValueError(
            f"{caller} expects at least one image in {name}. Received an empty data set. "
            "Check the path or the filter it was made with."
        )


def _of_arrays(data, caller, name):
    parts = data if isinstance(data, (tuple, list)) else (data,)
    parts = [keras.ops.convert_to_numpy(part) if keras.ops.is_tensor(part) else part for part in parts]
    if not parts or len(parts) > 3 or not all(hasattr(part, "shape") for part in parts):
        raise TypeError(
            f"{caller} expects {name} to be a tf.data.Dataset, an array of images, or arrays (images, labels). "
            f"Received {type(data).__name__}. Stack lists with np.stack; load folders with recipes.data.load."
        )
    if getattr(getattr(parts[0], "dtype", None), "kind", "f") in "OSU":
        raise TypeError(
            f"{caller} expects pixels in {name}. Received file names or other objects. Load files with "
            "recipes.data.load, or tf.data and tf.io.decode_image."
        )
    if len(parts) > 1 and all(np.ndim(part) == 3 and np.shape(part)[-1] in (1, 3, 4) for part in parts[:2]):
        raise TypeError(
            f"{caller} expects one array of images, or (images, labels), in {name}. Received a row of single images of "
            f"shape {np.shape(parts[0])}. Stack them with np.stack, or give images of each size to a tf.data.Dataset."
        )
    images, labels = parts[0], parts[1] if len(parts) > 1 else None
    if labels is not None and len(labels) != len(images):
        raise ValueError(
            f"{caller} expects as many labels as images in {name}. Received {len(labels)} and {len(images)}. "
            "Check that the arrays belong together."
        )
    for start in range(0, len(images), _BATCH):
        part = slice(start, start + _BATCH)
        yield _with_channels(np.asarray(images[part]), caller, name), _numbers(labels, part)


def _numbers(labels, part):
    return None if labels is None else class_numbers(np.asarray(labels[part]))


def _with_channels(images, caller, name):
    images = images[..., None] if images.ndim == 3 else images
    if images.ndim != 4 or images.shape[-1] not in (1, 3, 4):
        raise ValueError(
            f"{caller} expects images (height, width, channels) with 1, 3 or 4 channels in {name}. Received shape "
            f"{images.shape[1:]}. Put the channels last: numpy.moveaxis(images, 1, -1)."
        )
    return images[..., :3]


def _of_dataset(dataset, caller, name):
    import tensorflow as tf  # noqa: PLC0415 - arrays are looked at without it

    if int(dataset.cardinality()) == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            f"{caller} expects {name} to end. Received a data set that repeats for ever. Leave repeat() out."
        )
    spec = dataset.element_spec
    parts = spec if isinstance(spec, tuple) else (spec,)
    image = parts[0]
    if not isinstance(image, tf.TensorSpec) or image.shape.rank not in (2, 3, 4):
        raise ValueError(
            f"{caller} expects {name} to give images, or (image, label). Received {spec}. Map it to such pairs."
        )
    # A scalar label shows that rank 3 is one color image, not a batch of gray images.
    scalar = len(parts) > 1 and isinstance(parts[1], tf.TensorSpec) and parts[1].shape.rank == 0
    batched = image.shape.rank == 4 or (image.shape.rank == 3 and image.shape[-1] not in (None, 1, 3, 4))
    batched = batched and not scalar
    if not batched and image.shape.is_fully_defined():
        dataset, batched = dataset.batch(_BATCH), True
    for element in without_autotune(dataset).as_numpy_iterator():
        element = element if isinstance(element, tuple) else (element,)
        images = element[0] if batched else element[0][None]
        labels = element[1] if len(element) > 1 and isinstance(element[1], np.ndarray | np.generic) else None
        if labels is not None:
            labels = class_numbers(np.asarray(labels) if batched else np.asarray(labels)[None])
        yield _with_channels(images, caller, name), labels


def gray_levels(images: np.ndarray) -> np.ndarray:
    """Gray levels, float32 `(n, height, width)`, of images `(n, height, width, channels)`, in their value range.

    Args:
        images: Images with 1 or 3 channels (red, green, blue), of any value range.
    """
    if images.shape[-1] == 1:
        return images[..., 0].astype("float32")
    return images.astype("float32") @ np.array([0.299, 0.587, 0.114], "float32")
