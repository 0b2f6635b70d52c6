"""Gaussian blur."""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from recipes.augment.engine.magnitudes import draw, read_pair
from recipes.augment.engine.operation import Frame, operation
from recipes.augment.engine.spatial_filters import Filter, FilterStep
from recipes.common.validation import is_number

# From this radius on, converting uint8 to floats once is cheaper than converting in every sum.
_FLOATS_FROM = 10
# From this many pixels on, images are blurred one by one; uint8 images are then rounded to this many parts of a level.
_ONE_BY_ONE_FROM, _PARTS = 96 * 96, 64


@operation
class GaussianBlur(Filter):
    """Blur with a Gaussian of random width, first rows, then columns; the border is mirrored.

    Source: Chen et al. 2020, "A simple framework for contrastive learning", appendix A (widths 0.1 to 2 pixels, on
    half of the images), https://arxiv.org/abs/2002.05709. Each Gaussian ends at three times its standard deviation,
    rounded up to whole pixels.

    Args:
        sigma: `(low, high)`, range of the standard deviation in pixels, > 0; or one number.
        probability: Chance that an image is blurred.

    Raises:
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
    """

    sigma: float | tuple[float, float] = (0.1, 2.0)
    _: dataclasses.KW_ONLY
    probability: float = 0.5

    draws = ("sigma",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._large = False
        self._limits = (
            read_pair("GaussianBlur", "sigma", self.sigma)
            if isinstance(self.sigma, tuple)
            else (self.sigma, self.sigma)
        )
        if not is_number(self._limits[0]) or self._limits[0] <= 0:
            raise ValueError(
                f"augment.GaussianBlur expects sigma > 0, in pixels. Received {self.sigma!r}. "
                "Write GaussianBlur((0.1, 2)), with probability=0.5 to blur only half of the images."
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
        # One by one, images without blur are skipped and each Gaussian has its own radius; that pays for large images.
        self._large = frame.height * frame.width >= _ONE_BY_ONE_FROM

    def steps(self, *, compiled: bool) -> list[FilterStep]:
        if not compiled:
            return [self._both]
        if self._large:
            return [self._one_by_one]
        # As one program, rows would be summed again for each column that reads them.
        return [self._pad, self._rows, self._columns]

    def _pad(self, images, drawn, active, frame):
        images = mirrored(images, self.radius)
        return images if self.radius < _FLOATS_FROM else tf.cast(images, tf.float32)

    def _rows(self, images, drawn, active, frame):
        return sum_of_rows(images, self._weights(drawn, active))

    def _columns(self, images, drawn, active, frame):
        return sum_of_columns(images, self._weights(drawn, active))

    def _one_by_one(self, images, drawn, active, frame):
        weights = self._weights(drawn, active)
        reach = tf.reduce_sum(tf.cast(weights > 0, tf.int32), 1) - 1
        known = [0, *reaches(self.radius)]
        blurs = [lambda image, weights, reach=reach: blur_image(image, weights, reach) for reach in known]

        def one(given):
            image, weights, reach = given
            kind = tf.reduce_sum(tf.cast(reach > known, tf.int32))
            return tf.switch_case(kind, [lambda blur=blur: blur(image, weights) for blur in blurs])

        kind = tf.float32 if images.dtype.is_floating else tf.int16
        blurred = tf.reshape(
            tf.map_fn(one, (images, weights, reach), fn_output_signature=kind), tf.shape(images)
        )
        return blurred if kind == tf.float32 else tf.cast(blurred, tf.float32) * (1 / _PARTS)

    def _both(self, images, drawn, active, frame):
        return product_with_bands(images, self._weights(drawn, active))

    def _weights(self, drawn, active):
        weights = gaussian_weights(draw(drawn["sigma"], self._limits), self.radius)
        if active is None:
            return weights
        return tf.where(active[:, None], weights, np.eye(self.radius + 1, dtype="float32")[:1])


def gaussian_weights(sigma: tf.Tensor, radius: int) -> tf.Tensor:
    """The weights of a Gaussian at distances 0 to radius, `(batch, radius + 1)`; both sides together add up to 1.

    It ends at the first whole number that is at least three times `sigma`, `(batch,)` in pixels.
    """
    distance = tf.range(radius + 1, dtype=tf.float32)
    weights = tf.exp(-0.5 * (distance[None] / sigma[:, None]) ** 2)
    weights = tf.where(distance[None] < 3 * sigma[:, None] + 1, weights, 0.0)
    return weights / (2 * tf.reduce_sum(weights, 1, keepdims=True) - weights[:, :1])


def reaches(radius: int) -> list[int]:
    """The radii that get a separate program, the largest last: every second one, or a quarter of `radius` apart."""
    step = max(2, -(-radius // 4))
    return sorted({min(radius, reach) for reach in range(step, radius + step, step)})


def blur_image(image: tf.Tensor, weights: tf.Tensor, reach: int) -> tf.Tensor:
    """Blur one image `(height, width, channels)` over `reach` neighbors on each side, mirrored at the border.

    Float images give float32. uint8 images give int16 in 64ths of a level, rounded, also between rows and columns,
    which halves the memory traffic. The compiler would fuse the sums of rows into the sums of columns and repeat them
    for every neighbor; joining two halves between them prevents that.
    """
    height, width, channels = image.shape
    whole = image.dtype.is_integer
    if reach == 0:
        return tf.cast(image, tf.int16) * _PARTS if whole else image
    weights = weights[None, : reach + 1]
    lines = tf.gather(tf.reshape(image, (height, width * channels)), mirrored_places(height, reach))
    lines = tf.reshape(lines, (1, -1, width, channels))
    left, right = (tf.reverse(edge, [2]) for edge in (lines[:, :, :reach], lines[:, :, width - reach :]))
    flat = [tf.reshape(part, (1, height + 2 * reach, -1)) for part in (left, lines, right)]
    lines = tf.reshape(tf.concat(flat, 2), (1, -1, width + 2 * reach, channels))
    middle = height // 2
    halves = [sum_of_rows(half, weights) for half in (lines[:, : middle + 2 * reach], lines[:, middle:])]
    if whole:
        halves = [tf.cast(half * _PARTS + 0.5, tf.int16) for half in halves]
    columns = sum_of_columns(tf.concat(halves, 1), weights)[0]
    return tf.cast(columns + 0.5, tf.int16) if whole else columns


def mirrored_places(size: int, reach: int) -> np.ndarray:
    """Indices of a line of `size` pixels with `reach` more on each side, mirrored at the border."""
    return np.pad(np.arange(size), reach, "symmetric")


def mirrored(images: tf.Tensor, reach: int) -> tf.Tensor:
    """Images with `reach` more pixels on each side, mirrored at the border."""
    return tf.pad(images, [[0, 0], [reach, reach], [reach, reach], [0, 0]], "SYMMETRIC")


def sum_of_rows(images: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Replace each row by a weighted sum of its neighbors, for images padded by `radius` rows above and below.

    Width and channels form one axis, so that the innermost loop is long and uses whole vectors of the processor.
    Integers are added in pairs before they become floats.

    Args:
        images: `(batch, height + 2 * radius, width, channels)`, uint8 or float.
        weights: `(batch, radius + 1)`: weights of the neighbors at distance 0, 1, ..., on either side.

    Returns:
        float32 `(batch, height, width, channels)`.
    """
    height, width, channels = images.shape[1:]
    reach = weights.shape[1] - 1
    lines = tf.reshape(images, (-1, height, width * channels))
    height -= 2 * reach
    total = _weighted(weights, lambda distance: lines[:, reach + distance :][:, :height])
    return tf.reshape(total, (-1, height, width, channels))


def sum_of_columns(images: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Replace each column by a weighted sum of its neighbors, for images padded by `radius` columns on either side."""
    height, width, channels = images.shape[1:]
    reach = weights.shape[1] - 1
    width -= 2 * reach
    lines = tf.reshape(images, (-1, height, (width + 2 * reach) * channels))

    total = _weighted(
        weights, lambda distance: lines[:, :, (reach + distance) * channels :][:, :, : width * channels]
    )
    return tf.reshape(total, (-1, height, width, channels))


def _weighted(weights, moved):
    """The weighted sum over all distances on both sides; `moved` shifts the images by a signed distance."""
    total = weights[:, 0, None, None] * tf.cast(moved(0), tf.float32)
    wide = {1: tf.int16, 2: tf.int32}[moved(0).dtype.size] if moved(0).dtype.is_integer else tf.float32
    for distance in range(1, weights.shape[1]):
        pair = tf.cast(tf.cast(moved(distance), wide) + tf.cast(moved(-distance), wide), tf.float32)
        total = total + weights[:, distance, None, None] * pair
    return total


def product_with_bands(images: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """The same blur as two products with banded matrices: few operations, for small images and plain TensorFlow."""
    height, width, channels = images.shape[1:]
    lines = tf.reshape(images, (-1, height, width * channels))
    lines = tf.reshape(tf.matmul(bands(weights, height), lines), (-1, height, width, channels))
    return tf.einsum("bow,bhwc->bhoc", bands(weights, width), lines)


def bands(weights: tf.Tensor, size: int) -> tf.Tensor:
    """The matrix `(batch, size, size)` that sums weighted neighbors of a line mirrored at both ends."""
    reach = weights.shape[1] - 1
    # The distance between each pair of positions, directly and through the mirror at either end.
    out, place = np.arange(size)[:, None], np.arange(size)[None]
    total = 0.0
    for distance in (np.abs(out - place), out + place + 1, 2 * size - 1 - out - place):
        shares = tf.gather(weights, np.minimum(distance, reach), axis=1)
        total = total + shares * np.float32(distance <= reach)
    return total
