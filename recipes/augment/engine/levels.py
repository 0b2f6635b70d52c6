"""Arithmetic on levels 0 to 255 as PIL does it, on float32 images `(batch, height, width, channels)`."""

from typing import Any

import tensorflow as tf


def keep_bits(levels: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """Round levels, then round them down to a multiple of 2^(8 - bits); `bits` `(batch,)` are whole floats, 0 to 8."""
    step = tf.pow(2.0, 8 - bits)[:, None, None, None]
    return tf.floor(tf.round(levels) / step) * step


def invert_from(levels: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """`255 - level` where the level is at least `threshold`, `(batch,)`, with a tolerance for rounding errors."""
    return tf.where(levels >= threshold[:, None, None, None] - 1e-3, 255 - levels, levels)


def stretch_levels(levels: tf.Tensor) -> tf.Tensor:
    """`(level - lowest) * 255 / (highest - lowest)` of each channel of each image, in whole levels."""
    return stretched(levels, *extremes(levels))


def stretched(levels: tf.Tensor, lowest: tf.Tensor, highest: tf.Tensor) -> tf.Tensor:
    """`(level - lowest) * 255 / (highest - lowest)` in whole levels; `levels` where a channel has only one level."""
    span = highest - lowest
    # Rounding errors can give a little less than a whole level; the tolerance keeps floor from losing a level.
    moved = tf.floor((levels - lowest) * 255 / tf.maximum(span, 1e-6) + 1e-3)
    return tf.where(span > 0, moved, levels)


def extremes(levels: tf.Tensor, block: int = 16) -> tuple[tf.Tensor, tf.Tensor]:
    """Lowest and highest level of each channel, `(batch, 1, 1, channels)`; compared in blocks, which is faster."""
    height, width, channels = levels.shape[1:]
    count = block if height * width % block == 0 else 1
    lines = tf.reshape(levels, (-1, height * width // count, count * channels))
    pairs = []
    for reduce in (tf.reduce_min, tf.reduce_max):
        rows = tf.reshape(reduce(lines, 1), (-1, count, channels))
        pairs.append(reduce(rows, 1)[:, None, None])
    return pairs[0], pairs[1]


def equalized(levels: tf.Tensor) -> tf.Tensor:
    """Equalize the histogram of each channel with `flat_curve`; levels are rounded before they are counted."""
    height, width, channels = levels.shape[1:]
    whole = tf.cast(tf.round(levels), tf.int32)
    row = tf.range(tf.shape(levels)[0])[:, None, None, None] * channels + tf.range(channels)
    place = row * 256 + whole
    counts = tf.math.unsorted_segment_sum(
        tf.ones_like(tf.reshape(place, (-1,))), tf.reshape(place, (-1,)), tf.shape(levels)[0] * channels * 256
    )
    curve = tf.reshape(flat_curve(tf.reshape(counts, (-1, 256))), (-1,))
    return tf.ensure_shape(tf.cast(tf.gather(curve, place), tf.float32), (None, height, width, channels))


def flat_curve(histogram: tf.Tensor) -> tf.Tensor:
    """New levels for each of the 256 levels, int32 `(n, 256)`, for histograms `(n, 256)`, int32.

    As in PIL's `equalize`, a step is 1/255 of all pixels except those of the brightest level, in whole pixels. Level i
    becomes the number of whole steps in the pixels below it, counted from half a step. With a step of 0 pixels, the
    levels stay unchanged.
    """
    levels = tf.range(256)[None]
    brightest = tf.reduce_max(tf.where(histogram > 0, levels, 0), 1, keepdims=True)
    last = tf.reduce_sum(tf.where(levels == brightest, histogram, 0), 1, keepdims=True)
    step = (tf.reduce_sum(histogram, 1, keepdims=True) - last) // 255
    below = tf.cumsum(histogram, axis=1, exclusive=True) + step // 2
    curve = tf.minimum(below // tf.maximum(step, 1), 255)
    return tf.where(step > 0, curve, levels)


def gray_levels(levels: tf.Tensor) -> tf.Tensor:
    """PIL's `convert("L")`: 0.299 red + 0.587 green + 0.114 blue in whole 65536ths, rounded; `(..., 1)`."""
    if levels.shape[-1] == 1:
        return levels
    red, green, blue = (tf.cast(levels[..., channel, None], tf.int32) for channel in range(3))
    return tf.cast((red * 19595 + green * 38470 + blue * 7471 + 0x8000) // 65536, tf.float32)


def smoothed(levels: tf.Tensor) -> tf.Tensor:
    """PIL's `SMOOTH` of one image `(height, width, channels)`: the mean over 3 x 3 pixels, the center weighted 5 times.

    The pixels at the border stay unchanged.
    """
    height, width = levels.shape[:2]
    if min(height, width) < 3:
        return levels
    rows = levels[:-2] + levels[1:-1] + levels[2:]
    around = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    middle = levels[1:-1, 1:-1]
    change = tf.floor((around + 4 * middle) / 13 + 0.5) - middle
    return levels + tf.pad(change, [[1, 1], [1, 1], [0, 0]])


def blend_bytes(background: Any, levels: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """PIL's `Image.blend`: `background + factor (levels - background)`, clipped to 0..255 and rounded down."""
    return tf.floor(tf.clip_by_value(background + factor * (levels - background), 0.0, 255.0))
