"""Random transformations of an image while it is optimized, so that the result is robust to them."""

import dataclasses
import math

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Views:
    """Shift, scale and rotate all images of the batch alike, with new random numbers at every step.

    Source: Olah et al. 2017, "Feature Visualization", section "Transformation robustness", with the transformations of
    its appendix: padding with gray, jitter, scaling, rotation, and a second jitter;
    https://distill.pub/2017/feature-visualization.

    Args:
        jitter: Largest shift in pixels in each direction.
        scale: Largest change of size as a fraction: 0.1 draws from 0.9 ... 1.1.
        rotate: Largest rotation in degrees in each direction.
        pad: Width in pixels of the gray border around the image, which is then shown smaller. With 0 the borders wrap
            around.
        second_jitter: Largest shift in pixels in each direction after scaling and rotation.
    """

    jitter: int = 0
    scale: float = 0.0
    rotate: float = 0.0
    pad: int = 0
    second_jitter: int = 0

    def __call__(self, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Transform images `(n, height, width, channels)` in 0..1; the result has the same shape."""
        if not (self.jitter or self.scale or self.rotate or self.pad or self.second_jitter):
            return images
        draws = tf.random.stateless_uniform([6], seed, -1, 1)
        shifts = draws[:2] * self.jitter
        if not (self.scale or self.rotate or self.pad or self.second_jitter):
            return tf.roll(images, tf.cast(tf.round(shifts), "int32"), [1, 2])
        height, width = images.shape[1:3]
        # The scale at which the image fits the frame after the jitters have cropped the padded border.
        zooms = [
            (1 + draws[2] * self.scale)
            * (size / max(1, size + 2 * (self.pad - self.jitter - self.second_jitter)))
            if self.pad
            else 1 + draws[2] * self.scale
            for size in (height, width)
        ]
        angle = draws[3] * self.rotate * (math.pi / 180)
        later = draws[4:] * self.second_jitter
        if self.rotate:
            return _turned(images, zooms, angle, shifts, later, not self.pad)
        places = [
            _along(size, zoom, later[axis]) + shifts[axis]
            for axis, (size, zoom) in enumerate(zip((height, width), zooms, strict=True))
        ]
        return _resampled(images, *places, not self.pad)


def _along(size, zoom, later):
    """The source position of each pixel of an axis, scaled about the middle, before the first shift."""
    middle = (size - 1) / 2
    return (tf.range(size, dtype="float32") - middle + later) / zoom + middle


def _resampled(images, down, across, wraps):
    """Linear sampling at rows and columns: two matrix products, with an exact and cheap gradient."""
    height, width, channels = images.shape[1:]
    rows, columns = _weights(down, height, wraps), _weights(across, width, wraps)
    # The resampled axis is always the last one; gray is 0, so that pixels outside are gray.
    planes = tf.reshape(tf.transpose(images - 0.5, [0, 3, 1, 2]), [-1, width])
    planes = tf.reshape(tf.matmul(planes, columns, transpose_b=True), [-1, channels, height, width])
    planes = tf.reshape(tf.transpose(planes, [0, 3, 1, 2]), [-1, height])
    planes = tf.reshape(tf.matmul(planes, rows, transpose_b=True), [-1, width, channels, height])
    return tf.transpose(planes, [0, 3, 1, 2]) + 0.5


def _weights(place, size, wraps):
    """`(size, size)` weights of linear sampling at positions of an axis."""
    lower = tf.floor(place)
    share = (place - lower)[:, None]
    lower = tf.cast(lower, "int32")
    both = (lower % size, (lower + 1) % size) if wraps else (lower, lower + 1)
    return tf.one_hot(both[0], size) * (1 - share) + tf.one_hot(both[1], size) * share


def _turned(images, zooms, angle, shifts, later, wraps):
    """Bilinear sampling along rotated rows and columns: four pixels are gathered for each, with an exact gradient."""
    height, width = images.shape[1:3]
    y = (tf.range(height, dtype="float32") - (height - 1) / 2 + later[0])[:, None] / zooms[0]
    x = (tf.range(width, dtype="float32") - (width - 1) / 2 + later[1])[None] / zooms[1]
    down = tf.cos(angle) * y - tf.sin(angle) * x + (height - 1) / 2 + shifts[0]
    across = tf.sin(angle) * y + tf.cos(angle) * x + (width - 1) / 2 + shifts[1]
    # All images are read at the same positions, so a position is a row of all their values.
    pixels = tf.reshape(tf.transpose(images - 0.5, [1, 2, 0, 3]), [height * width, -1])
    seen = 0.0
    for row, of_row in _pair(down):
        for column, of_column in _pair(across):
            share = of_row * of_column
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            share = share if wraps else share * tf.cast(inside, "float32")
            place = tf.reshape((row % height) * width + column % width, [-1])
            seen += tf.gather(pixels, place) * tf.reshape(share, [-1, 1])
    seen = tf.reshape(seen, [height, width, -1, images.shape[3]])
    return tf.transpose(seen, [2, 0, 1, 3]) + 0.5


def _pair(place):
    """The two neighbors of each position, and their weights."""
    lower = tf.floor(place)
    share, lower = place - lower, tf.cast(lower, "int32")
    return (lower, 1 - share), (lower + 1, share)
