"""Gaussian blur."""

import dataclasses
import math

import tensorflow as tf

from recipes.augment.engine.magnitudes import draw, read_pair
from recipes.augment.engine.operation import operation
from recipes.augment.engine.spatial_filters import Filter
from recipes.common.validation import is_number


@operation
class GaussianBlur(Filter):
    """Blur with a Gaussian of random width, rows and columns in turn; the border is mirrored.

    Source: Chen et al. 2020, "A simple framework for contrastive learning", appendix A (widths 0.1 to 2 pixels, on
    half of the images), https://arxiv.org/abs/2002.05709. The Gaussian is cut at three times the largest width.

    Args:
        sigma: `(low, high)`, standard deviation in pixels, > 0; or one number.
        probability: Chance that an image is blurred.
    """

    sigma: object = (0.1, 2.0)
    _: dataclasses.KW_ONLY
    probability: float = 0.5

    uniforms = 1

    def __post_init__(self):
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
    def radius(self):
        return math.ceil(3 * self._limits[1])

    def check(self, frame):
        if self.radius > min(frame.height, frame.width):
            raise ValueError(
                f"augment.GaussianBlur expects a Gaussian narrower than the image. "
                f"Received sigma={self.sigma!r}, which reads {self.radius} pixels away, "
                f"for images of {frame.height}x{frame.width}. Write a smaller sigma."
            )

    def filter(self, images, uniform, noise, active, frame):
        sigma = draw(uniform[0], self._limits)
        distance = tf.range(-self.radius, self.radius + 1, dtype=tf.float32)
        weights = tf.exp(-0.5 * (distance[None] / sigma[:, None]) ** 2)
        weights = weights / tf.reduce_sum(weights, 1, keepdims=True)
        if active is not None:
            weights = tf.where(active[:, None], weights, tf.cast(distance == 0, tf.float32)[None])
        reach = [self.radius, self.radius]
        rows = tf.pad(images, [[0, 0], reach, [0, 0], [0, 0]], "SYMMETRIC")
        images = sum(self._share(weights, tap) * rows[:, tap : tap + frame.height] for tap in self._taps())
        columns = tf.pad(images, [[0, 0], [0, 0], reach, [0, 0]], "SYMMETRIC")
        return sum(self._share(weights, tap) * columns[:, :, tap : tap + frame.width] for tap in self._taps())

    def _taps(self):
        return range(2 * self.radius + 1)

    def _share(self, weights, tap):
        return weights[:, tap][:, None, None, None]
