"""Random parts of photos, decoded straight from their files."""

from typing import Any

import numpy as np
import tensorflow as tf

from recipes.common.validation import is_number
from recipes.data.jpeg_plans import DCT_SCALES, EXCHANGED, FROM_BELOW, FROM_RIGHT

_RATIOS = (3 / 4, 4 / 3)  # width to height, section 6 of the paper
_SALT = 2**40  # apart from the draws of `balance`


def check_random_crops(random_crops: Any, image_size: Any, cache: Any) -> tuple[float, float] | None:
    """`(low, high)`, shares of the area of an image, or None.

    Raises:
        ValueError: for anything else, without `image_size`, and together with a cache.
    """
    if random_crops is None:
        return None
    pair = tuple(random_crops) if isinstance(random_crops, (tuple, list)) else ()
    if len(pair) != 2 or not all(map(is_number, pair)) or not 0 < pair[0] <= pair[1] <= 1:
        raise ValueError(
            "data.load expects random_crops to be None or (low, high), shares of the area in (0, 1]. Received "
            f"random_crops={random_crops!r}. The paper's are random_crops=(0.08, 1)."
        )
    if image_size is None:
        raise ValueError(
            "data.load expects image_size with random_crops, the size that crops are resized to. Received None. "
            "Type for example image_size=224."
        )
    if cache is not None and not (isinstance(cache, str) and cache == "auto"):
        raise ValueError(
            "data.load expects cache=None with random_crops, which are decoded anew in every epoch. Received "
            f"cache={cache!r}. To cut them from decoded images, load 1.15 times the size with a cache, such as "
            "image_size=258, and use augment.RandomResizedCrop(224)."
        )
    return float(pair[0]), float(pair[1])


def draw_crop(step: tf.Tensor, row: tf.Tensor, seed: int) -> tf.Tensor:
    """Four numbers in [0, 1), float32 `(4,)`, that determine a crop: its area, its shape, its top and its left.

    Args:
        step: Place of the image in the epoch, int64 scalar.
        row: Number of the image, int64 scalar.
        seed: Integer.
    """
    seeds = tf.stack([row * 2**31 + step, tf.constant(seed + _SALT, tf.int64)])
    return tf.random.stateless_uniform((4,), seeds)


def crop_window(draws: Any, areas: tuple[float, float], height: Any, width: Any) -> tf.Tensor:
    """The part that is cut out of an image.

    Source: Szegedy et al. 2014, "Going deeper with convolutions", section 6, https://arxiv.org/abs/1409.4842: areas
    uniform, ratios uniform in the logarithm. As in `augment.RandomResizedCrop`, a window longer than the image is
    cut to the image; here its sides and its place are whole pixels.

    Args:
        draws: From `draw_crop`.
        areas: `(low, high)`, shares of the image's area.
        height: Height of the image as it is seen, in pixels, int32.
        width: Width of the image as it is seen, in pixels, int32.

    Returns:
        int32 `(top, left, height, width)`.
    """
    low, high = np.log(_RATIOS)
    ratio = tf.exp(low + (high - low) * draws[1])
    pixels = (areas[0] + (areas[1] - areas[0]) * draws[0]) * tf.cast(height * width, tf.float32)
    whole = tf.stack([height, width])
    sides = tf.cast(tf.round(tf.stack([tf.sqrt(pixels / ratio), tf.sqrt(pixels * ratio)])), tf.int32)
    sides = tf.clip_by_value(sides, 1, whole)
    places = tf.cast(draws[2:] * tf.cast(whole - sides + 1, tf.float32), tf.int32)
    return tf.concat([tf.minimum(places, whole - sides), sides], 0)


def plan_of_window(part: Any, full: Any, orientation: Any, size: tuple[int, int]) -> tf.Tensor:
    """A row as `jpeg_plans` gives it, for any part of a JPEG: what is decoded at which scale, as it lies in the file.

    Args:
        part: int32 `(top, left, height, width)` of the upright image.
        full: int32 `(height, width)` of the file.
        orientation: EXIF's number, 1 to 8, int32.
        size: `(height, width)` that the part becomes.

    Returns:
        int32 `(13,)`.
    """
    first, extent, inner = part[:2], part[2:], tf.constant(size)
    exchanged = tf.gather(EXCHANGED, orientation) == 1
    first, extent, inner = (tf.where(exchanged, pair[::-1], pair) for pair in (first, extent, inner))
    from_end = tf.stack([tf.gather(FROM_BELOW, orientation), tf.gather(FROM_RIGHT, orientation)]) == 1
    first = tf.where(from_end, full - first - extent, first)
    number = tf.reduce_sum(tf.cast(tf.reduce_min(extent // inner) >= DCT_SCALES[1:], tf.int32))
    scale = tf.gather(DCT_SCALES, number)
    begin = first // scale
    end = tf.minimum(-(-(first + extent) // scale), -(-full // scale))
    eighths = DCT_SCALES[-1] // scale
    ends = [(first - begin * scale) * eighths, extent * eighths]
    return tf.concat([begin, end - begin, inner, full, number[None], *ends], 0)


def upright(full: Any, orientation: Any) -> tf.Tensor:
    """int32 `(height, width)` of an image after turning it upright, from the `(height, width)` stored in its file."""
    return tf.where(tf.gather(EXCHANGED, orientation) == 1, full[::-1], full)
