"""crop_and_resize: one image to one size without distorting it."""

import tensorflow as tf


def crop_and_resize(image, size):
    """Cut the largest centered part that has the aspect ratio of `size`, and resize it.

    Source: Krizhevsky et al. 2012, section 2 (rescale the shorter side, take the central patch), in the other
    order, which spares resizing what is cut away. Bilinear with antialiasing.

    Args:
        image: `(height, width, channels)`, uint8.
        size: `(height, width)` wanted, in pixels.

    Returns:
        `(*size, channels)`, uint8, rounded.
    """
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    # The part's height at full width, and its width at full height, each no more than there is.
    crop_height = tf.clip_by_value(_round(width * size[0], size[1]), 1, height)
    crop_width = tf.clip_by_value(_round(height * size[1], size[0]), 1, width)
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    part = image[top : top + crop_height, left : left + crop_width]
    resized = tf.image.resize(part, size, antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)


def _round(numerator, denominator):
    return (2 * numerator + denominator) // (2 * denominator)
