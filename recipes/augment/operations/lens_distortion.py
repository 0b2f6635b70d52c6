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
    middle, in units of half the diagonal, reads the image at r (1 + strength r^2).

    Args:
        strength: A number k for -k to k, a pair, or `PlusMinus`, within -0.33 and 0.33, so that the image never
            folds over itself.
        fill: What lies outside, as for `Rotate`.
        probability: Chance that an image is bent.
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
        """Where the pixels at `y` and `x`, `(batch, height, width)`, come from."""
        return distort(y, x, self._draw(drawn)[:, None, None], frame)

    def unbend(self, drawn: Drawn, frame: Frame, y: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Where points of the input at `y` and `x`, `(batch, points)`, go: the inverse of `bend`."""
        return straighten(y, x, self._draw(drawn)[:, None], frame)

    def _draw(self, drawn):
        return draw(drawn["strength"], self._limits, self.strength)


def distort(y: tf.Tensor, x: tf.Tensor, strength: tf.Tensor, frame: Frame) -> tuple[tf.Tensor, tf.Tensor]:
    """Points at distance r from the middle, in half diagonals, moved to r (1 + strength r^2); Brown 1966."""
    center_y, center_x, unit = _middle(frame)
    y, x = y - center_y, x - center_x
    stretch = strength * ((y * y + x * x) * (1 / unit))
    # Written as a change, so that strength 0 reads every pixel exactly.
    return y + center_y + y * stretch, x + center_x + x * stretch


def straighten(y: tf.Tensor, x: tf.Tensor, strength: tf.Tensor, frame: Frame) -> tuple[tf.Tensor, tf.Tensor]:
    """The inverse of `distort`: r of r (1 + strength r^2), by Newton's method.

    The steps approach r from one side for either sign, so they always arrive. For negative strengths distances have a
    limit, 2/3 r' at r' = (-3 strength)^(-1/2), which lies outside the image; points beyond it go to r'.
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
    # 1 / (1 + strength r^2), not r / given: it is 1 in the middle.
    scale = 1 / (1 + strength * radius * radius)
    return y * scale + center_y, x * scale + center_x


def _middle(frame):
    """The middle, and the square of half the diagonal, both in pixels."""
    center_y, center_x = (frame.height - 1) / 2, (frame.width - 1) / 2
    return center_y, center_x, max(center_y**2 + center_x**2, 1e-6)
