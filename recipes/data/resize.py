"""One image to one size: which part is taken, and how it is resampled."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

FITS = ("crop", "pad", "stretch")


def window(
    height: Any, width: Any, size: tuple[int, int], fit: str, clip: Callable = tf.clip_by_value
) -> tuple[tuple[Any, ...], tuple[Any, Any]]:
    """Which part of an image is taken, and what size it becomes.

    Source of "crop": Krizhevsky et al. 2012, section 2 (rescale the shorter side, take the central patch), in the other
    order, so that nothing is resized that is cut away.

    Args:
        height: Height of the image in pixels: an int, an int32 tensor or an array, as `width`.
        width: Width of the image in pixels, of the same kind as `height`.
        size: `(height, width)` wanted, in pixels.
        fit: "crop" takes the largest centered part of the aspect ratio of `size`; "stretch" takes all of it; "pad" also
            takes all of it, and makes it as large as fits into `size` undistorted.
        clip: function `(value, lowest, highest)`; numpy's for arrays of the sides of many images.

    Returns:
        `((top, left, height, width) of the part, (height, width) of the resized part)`, int32.
    """
    if fit == "crop":
        # The part's height at full width, and its width at full height, each no more than there is.
        crop_height = clip(_round(width * size[0], size[1]), 1, height)
        crop_width = clip(_round(height * size[1], size[0]), 1, width)
        return ((height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width), size
    if fit == "stretch":
        return (0, 0, height, width), size
    inner_height = clip(_round(height * size[1], width), 1, size[0])
    inner_width = clip(_round(width * size[0], height), 1, size[1])
    return (0, 0, height, width), (inner_height, inner_width)


def resample(pixels: Any, start: tuple[Any, Any], extent: tuple[Any, Any], size: tuple[Any, Any]) -> Any:
    """Bilinear interpolation with antialiasing, as Pillow does it, of a part whose ends may lie between pixels.

    Rows first, then, turned over, columns: TensorFlow's operation is fast where it adds whole rows, three times as fast
    as where it adds three numbers per pixel, and both passes give the same.

    Args:
        pixels: `(height, width, channels)`, uint8, channels known.
        start: Row and column where the part begins, float or int.
        extent: Height and width of the part, in pixels.
        size: `(height, width)` wanted.

    Returns:
        `(*size, channels)`, uint8, rounded.
    """
    channels = pixels.shape[2]
    rows, columns = tf.shape(pixels)[0], tf.shape(pixels)[1]
    tall = _resample_rows(tf.reshape(pixels, (rows, columns * channels)), start[0], extent[0], size[0])
    turned = tf.transpose(tf.reshape(tall, (size[0], columns, channels)), (1, 0, 2))
    wide = _resample_rows(tf.reshape(turned, (columns, size[0] * channels)), start[1], extent[1], size[1])
    resized = tf.transpose(tf.reshape(wide, (size[1], size[0], channels)), (1, 0, 2))
    return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)


def _resample_rows(matrix, start, extent, size):
    """The rows of a matrix, those from `start` to `start + extent`, as `size` rows of float32."""
    scale = tf.cast(size, tf.float32) / tf.cast(extent, tf.float32)
    resized = tf.raw_ops.ScaleAndTranslate(
        images=matrix[None, :, None, :],
        size=tf.stack([size, 1]),
        scale=tf.stack([scale, 1.0]),
        translation=tf.stack([-tf.cast(start, tf.float32) * scale, 0.0]),
        kernel_type="triangle",
        antialias=True,
    )
    return resized[0, :, 0]


def pad_to(image: Any, size: tuple[int, int], background: Any) -> Any:
    """Put an image into the middle of a larger image of a single color.

    Args:
        image: `(height, width, channels)`, uint8, no larger than `size`.
        size: `(height, width)` wanted.
        background: uint8 `(channels,)`.
    """
    missing = [size[axis] - tf.shape(image)[axis] for axis in range(2)]
    around = [[side // 2, side - side // 2] for side in missing] + [[0, 0]]
    outside = tf.pad(tf.zeros_like(image[..., :1]), around, constant_values=1)
    return tf.pad(image, around) + outside * background


def fitted(image: Any, size: tuple[int, int], fit: str = "crop", background: Any = 255) -> Any:
    """Give a whole image the size wanted.

    Args:
        image: `(height, width, channels)`, uint8, channels known.
        size: `(height, width)` wanted, in pixels.
        fit: As in `window`.
        background: uint8 `(channels,)` that "pad" fills with.

    Returns:
        `(*size, channels)`, uint8, rounded.
    """
    part, inner = window(tf.shape(image)[0], tf.shape(image)[1], size, fit)
    top, left, height, width = part
    resized = resample(image[top : top + height, left : left + width], (0, 0), (height, width), inner)
    if fit == "pad":
        resized = pad_to(resized, size, tf.cast(background, tf.uint8))
    return tf.ensure_shape(resized, (*size, image.shape[2]))


def _round(numerator, denominator):
    return (2 * numerator + denominator) // (2 * denominator)
