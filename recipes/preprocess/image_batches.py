"""image_batches: datasets and arrays of images, as NumPy batches."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from recipes.common.datasets import without_autotune
from recipes.common.validation import looks_channels_first

_IMAGES_AT_ONCE = 256


def image_batches(
    images: Any, owner: str, *, channels: int | None = None
) -> tuple[Iterator[np.ndarray], int | None]:
    """Iterate once over a data set of images.

    Args:
        images: A `tf.data.Dataset` or an array, as `ImageStatistics.fit` describes.
        owner: Name of the calling function, for the error messages.
        channels: Number of channels of the images. None refuses shapes that look like channels first.

    Returns:
        `(batches, steps)`: an iterator of NumPy arrays `(batch, height, width, channels)` of a real dtype, and the
        number of batches, None if it is unknown.

    Raises:
        TypeError: when `images` is neither a dataset nor an array, its elements do not hold exactly one image, or the
            values are not real numbers.
        ValueError: when the shape is wrong or the dataset repeats without end.
    """
    if isinstance(images, tf.data.Dataset):
        return _from_dataset(images, owner, channels)
    if not hasattr(images, "__array__"):
        raise TypeError(
            f"{owner} expects a tf.data.Dataset or an array of images. Received {type(images).__name__}. "
            "From (images, labels), pass the images alone. Make an array with np.stack(images), or a dataset with "
            "tf.data.Dataset.from_generator, which can be read several times."
        )
    shape = np.shape(images)
    if len(shape) != 4:
        raise ValueError(
            f"{owner} expects an array of shape (n, height, width, channels). Received shape {shape}. "
            "Add the missing axis: images[..., None] for gray images, images[None] for a single image."
        )
    _check_order(shape[1:], channels, owner)
    starts = range(0, shape[0], _IMAGES_AT_ONCE)
    slices = (_real(np.asarray(images[start : start + _IMAGES_AT_ONCE]), owner) for start in starts)
    return slices, len(starts)


def _check_order(shape, channels, owner):
    """Refuse `(3, height, width)` in place of `(height, width, 3)`, and any number of channels but `channels`."""
    height, width, last = shape
    if channels is not None:
        if last is not None and last != channels:
            raise ValueError(
                f"{owner} expects images of {channels} channels, on the last axis. Received shape {tuple(shape)}. "
                "Move the channels to the last axis: np.transpose(images, (0, 2, 3, 1))."
            )
    elif looks_channels_first(height, width, last):
        raise ValueError(
            f"{owner} expects images of shape (height, width, channels). Received {tuple(shape)}, which looks like "
            f"channels first. Type np.transpose(images, (0, 2, 3, 1)); or channels={last} if an image really is "
            f"{height} pixels high and has {last} channels."
        )


def _from_dataset(dataset, owner, channels):
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            f"{owner} expects a dataset that ends. Received one that repeats for ever. "
            "Remove its .repeat(), or type dataset.take(steps)."
        )
    spec = dataset.element_spec
    position, image = _find_image(spec, owner)
    if image.shape.rank == 3:
        if image.shape[0] is None and image.shape[1] is not None:
            raise ValueError(
                f"{owner} expects images of shape (height, width, channels). Received {image.shape}, which looks like "
                "a batch of images without channels. Add them: dataset.map(lambda x, y: (x[..., None], y))."
            )
        dataset = dataset.batch(_IMAGES_AT_ONCE if image.shape.is_fully_defined() else 1)
    _check_order(image.shape[-3:].as_list(), channels, owner)
    steps = int(dataset.cardinality())
    # as_numpy_iterator gives arrays without copying them, as tensor.numpy() would.
    elements = without_autotune(dataset).as_numpy_iterator()
    batches = (_real(tf.nest.flatten(element)[position], owner) for element in elements)
    return batches, steps if steps >= 0 else None


def _find_image(spec, owner):
    """The position of the image in the flattened element, and its spec: the only input of rank 3 or 4."""
    leaves = tf.nest.flatten(spec)
    inputs = len(tf.nest.flatten(spec[0] if isinstance(spec, tuple) else spec))
    found = [
        (position, leaf)
        for position, leaf in enumerate(leaves[:inputs])
        if isinstance(leaf, tf.TensorSpec) and leaf.shape.rank in (3, 4)
    ]
    if len(found) == 1:
        return found[0]
    raise TypeError(
        f"{owner} expects elements with one image of rank 3 or 4. Received {len(found)} of them in {spec}. "
        "Pick the image with dataset.map; use tf.ensure_shape(image, (None, None, 3)) where the rank is unknown."
    )


def _real(batch, owner):
    if batch.dtype == "bfloat16":
        return batch.astype(np.float32)
    if batch.dtype.kind in "buif":
        return batch
    raise TypeError(
        f"{owner} expects real numbers. Received dtype {batch.dtype}. Convert with images.astype('float32')."
    )
