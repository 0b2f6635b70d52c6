"""Lens distortion."""

import dataclasses

import numpy as np
import tensorflow as tf

from recipes.augment.engine.geometry import Geometric
from recipes.augment.engine.magnitudes import Strength, draw, read_range
from recipes.augment.engine.operation import Drawn, Fill, Frame, operation


@operation
class LensDistortion(Geometric):
    """Bend the image as a lens does: barrel for positive strengths, pincushion for negative ones.

    Source: Brown 1966, "Decentering distortion of lenses", first radial term. A pixel at distance r from the
    center, in units of half the diagonal, reads the image at r (1 + strength r^2).

    Args:
        strength: A number k for -k to k, a pair, or `PlusMinus`, within -0.33 and 0.33, so that the image never
            folds over itself.
        fill: Color outside the image, as for `Rotate`.
        probability: Chance that an image is bent.

    Raises:
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
    """

    strength: Strength = 0.2
    _: dataclasses.KW_ONLY
    fill: Fill = "black"
    probability: float = 1.0

    bends = True
    draws = ("strength",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._limits = read_range("LensDistortion", "strength", self.strength, lowest=-0.33, highest=0.33)

    def bend(self, drawn: Drawn, frame: Frame, y: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The source positions of the output pixels at `y` and `x`, each `(batch, height, width)`, in pixels."""
        return distort(y, x, self._draw(drawn)[:, None, None], frame)

    def unbend(self, drawn: Drawn, frame: Frame, y: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The output positions of input points at `y` and `x`, each `(batch, points)`: the inverse of `bend`."""
        return straighten(y, x, self._draw(drawn)[:, None], frame)

    def _draw(self, drawn):
        return draw(drawn["strength"], self._limits, self.strength)


def distort(y: tf.Tensor, x: tf.Tensor, strength: tf.Tensor, frame: Frame) -> tuple[tf.Tensor, tf.Tensor]:
    """Move points at distance r from the center, in half diagonals, to r (1 + strength r^2); Brown 1966."""
    center_y, center_x, unit = _middle(frame)
    y, x = y - center_y, x - center_x
    stretch = strength * ((y * y + x * x) * (1 / unit))
    # Written as a difference, so that strength 0 reads every pixel exactly.
    return y + center_y + y * stretch, x + center_x + x * stretch


def straighten(y: tf.Tensor, x: tf.Tensor, strength: tf.Tensor, frame: Frame) -> tuple[tf.Tensor, tf.Tensor]:
    """The inverse of `distort`: find r from r (1 + strength r^2) by Newton's method.

    For either sign the steps approach r from one side, so they always converge. For negative strengths the distorted
    distance has a maximum, 2/3 r' at r' = (-3 strength)^(-1/2), which lies outside the image; points beyond it are
    moved to r'.
    """
    center_y, center_x, unit = _middle(frame)
    y, x = y - center_y, x - center_x
    limit = np.float32(2 / 3) * tf.math.rsqrt(tf.maximum(-3 * strength, 1e-12))
    given = tf.sqrt((y * y + x * x) * (1 / unit))
    given = tf.where(strength < 0, tf.minimum(given, limit * (1 - 1e-6)), given)
    radius = given
    for _ in range(16):
        square = strength * radius * radius
        radius -= (radius * (1 + square) - given) / tf.maximum(1 + 3 * square, 1e-6)
    # 1 / (1 + strength r^2) and not r / given, which is 0 / 0 at the center.
    scale = 1 / (1 + strength * radius * radius)
    return y * scale + center_y, x * scale + center_x


def _middle(frame):
    """The center in pixels, and the square of half the diagonal in squared pixels."""
    center_y, center_x = (frame.height - 1) / 2, (frame.width - 1) / 2
    return center_y, center_x, max(center_y**2 + center_x**2, 1e-6)
