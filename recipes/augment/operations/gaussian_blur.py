"""Gaussian blur."""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from recipes.augment.engine.magnitudes import draw, read_pair
from recipes.augment.engine.operation import Frame, operation
from recipes.augment.engine.spatial_filters import Filter, FilterStep
from recipes.common.validation import is_number

# Radius from which turning bytes into floats once is cheaper than in every sum.
_FLOATS_FROM = 10


@operation
class GaussianBlur(Filter):
    """Blur with a Gaussian of random width, rows and columns in turn; the border is mirrored.

    Source: Chen et al. 2020, "A simple framework for contrastive learning", appendix A (widths 0.1 to 2 pixels, on
    half of the images), https://arxiv.org/abs/2002.05709. The Gaussian is cut at three times
    the largest width.

    Args:
        sigma: `(low, high)`, standard deviation in pixels, > 0; or one number.
        probability: Chance that an image is blurred.
    """

    sigma: float | tuple[float, float] = (0.1, 2.0)
    _: dataclasses.KW_ONLY
    probability: float = 0.5

    draws = ("sigma",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._limits = (
            read_pair("GaussianBlur", "sigma", self.sigma)
            if isinstance(self.sigma, tuple)
            else (self.sigma, self.sigma)
        )
        if not is_number(self._limits[0]) or self._limits[0] <= 0:
            raise ValueError(
                f"augment.GaussianBlur expects sigma > 0, in pixels. Received {self.sigma!r}. "
                "Write GaussianBlur((0.1, 2)), and probability=0.5 to leave every second image sharp."
            )

    @property
    def radius(self) -> int:
        return math.ceil(3 * self._limits[1])

    def check(self, frame: Frame) -> None:
        if self.radius > min(frame.height, frame.width):
            raise ValueError(
                f"augment.GaussianBlur expects a Gaussian narrower than the image. Received sigma={self.sigma!r}, "
                f"which reads {self.radius} pixels away, for images of {frame.height}x{frame.width}. Write a "
                "smaller sigma."
            )

    def steps(self, *, compiled: bool) -> list[FilterStep]:
        if not compiled:
            return [self._both]
        # As one program, rows would be summed again for each of the columns that read them.
        return [self._pad, self._rows, self._columns]

    def _pad(self, images, drawn, active, frame):
        images = mirrored(images, self.radius)
        return images if self.radius < _FLOATS_FROM else tf.cast(images, tf.float32)

    def _rows(self, images, drawn, active, frame):
        return sum_of_rows(images, self._weights(drawn, active))

    def _columns(self, images, drawn, active, frame):
        return sum_of_columns(images, self._weights(drawn, active))

    def _both(self, images, drawn, active, frame):
        return product_with_bands(images, self._weights(drawn, active))

    def _weights(self, drawn, active):
        weights = gaussian_weights(draw(drawn["sigma"], self._limits), self.radius)
        if active is None:
            return weights
        return tf.where(active[:, None], weights, np.eye(self.radius + 1, dtype="float32")[:1])


def gaussian_weights(sigma: tf.Tensor, radius: int) -> tf.Tensor:
    """A Gaussian at distances 0 to radius, `(batch, radius + 1)`; both sides together add up to 1."""
    distance = tf.range(radius + 1, dtype=tf.float32)
    weights = tf.exp(-0.5 * (distance[None] / sigma[:, None]) ** 2)
    return weights / (2 * tf.reduce_sum(weights, 1, keepdims=True) - weights[:, :1])


def mirrored(images: tf.Tensor, reach: int) -> tf.Tensor:
    """Images with `reach` more pixels on each side, mirrored about the border."""
    return tf.pad(images, [[0, 0], [reach, reach], [reach, reach], [0, 0]], "SYMMETRIC")


def sum_of_rows(images: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Each row a weighted sum of its neighbors, for images with `radius` more rows above and below; float32.

    Width and channels are one axis, so that the innermost loop is long and the processor's vectors are full; bytes are
    added in pairs before they become floats.

    Args:
        images: `(batch, height, width, channels)`, uint8 or float.
        weights: `(batch, radius + 1)`: of neighbors at distance 0, 1, ..., on either side.
    """
    height, width, channels = images.shape[1:]
    reach = weights.shape[1] - 1
    lines = tf.reshape(images, (-1, height, width * channels))
    height -= 2 * reach
    total = _weighted(weights, lambda distance: lines[:, reach + distance :][:, :height])
    return tf.reshape(total, (-1, height, width, channels))


def sum_of_columns(images: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Each column a weighted sum of its neighbors, for images with `radius` more columns on either side; float32."""
    height, width, channels = images.shape[1:]
    reach = weights.shape[1] - 1
    width -= 2 * reach
    lines = tf.reshape(images, (-1, height, (width + 2 * reach) * channels))

    total = _weighted(
        weights, lambda distance: lines[:, :, (reach + distance) * channels :][:, :, : width * channels]
    )
    return tf.reshape(total, (-1, height, width, channels))


def _weighted(weights, moved):
    """The sum of what lies at each distance on both sides; `moved` takes a signed distance."""
    total = weights[:, 0, None, None] * tf.cast(moved(0), tf.float32)
    wide = tf.int16 if moved(0).dtype.is_integer else tf.float32
    for distance in range(1, weights.shape[1]):
        pair = tf.cast(tf.cast(moved(distance), wide) + tf.cast(moved(-distance), wide), tf.float32)
        total = total + weights[:, distance, None, None] * pair
    return total


def product_with_bands(images: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """The same as two products with a banded matrix: few operations, for small images and code that is not compiled."""
    height, width, channels = images.shape[1:]
    lines = tf.reshape(images, (-1, height, width * channels))
    lines = tf.reshape(tf.matmul(bands(weights, height), lines), (-1, height, width, channels))
    return tf.einsum("bow,bhwc->bhoc", bands(weights, width), lines)


def bands(weights: tf.Tensor, size: int) -> tf.Tensor:
    """The matrix `(batch, size, size)` that sums weighted neighbors of a line mirrored at both ends."""
    reach = weights.shape[1] - 1
    # Which distance each pair of places is at, once directly and once through either mirror.
    out, place = np.arange(size)[:, None], np.arange(size)[None]
    total = 0.0
    for distance in (np.abs(out - place), out + place + 1, 2 * size - 1 - out - place):
        shares = tf.gather(weights, np.minimum(distance, reach), axis=1)
        total = total + shares * np.float32(distance <= reach)
    return total
