"""Gaussian blur of a batch of images."""

import tensorflow as tf


def gaussian_blur(images: tf.Tensor, sigma: float) -> tf.Tensor:
    """Gaussian blur with reflected borders: `(n, height, width, channels)`, sigma in pixels, a float > 0."""
    radius = max(1, int(3 * sigma + 0.5))
    kernel = tf.exp(-0.5 * tf.square(tf.range(-radius, radius + 1, dtype="float32") / sigma))
    kernel /= tf.reduce_sum(kernel)
    for axis in (1, 2):
        images = _correlate(images, kernel, radius, axis)
    return images


def _correlate(images, kernel, radius, axis):
    size = tf.shape(images)[axis]
    # Reflection by index, so that the kernel may be wider than the image.
    place = tf.range(-radius, size + radius) % (2 * size)
    place = tf.minimum(place, 2 * size - 1 - place)
    padded = tf.gather(images, place, axis=axis)
    views = tf.signal.frame(padded, size, 1, axis=axis)  # (..., 2 * radius + 1, size, ...)
    return tf.tensordot(kernel, tf.experimental.numpy.moveaxis(views, axis, 0), 1)
