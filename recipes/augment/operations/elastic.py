"""Elastic deformation."""

import dataclasses
import math

import tensorflow as tf

from recipes.augment.engine.geometry import Geometric
from recipes.augment.engine.operation import Drawn, Fill, Frame, operation
from recipes.common.validation import is_number

_WAVES = 12


@operation
class Elastic(Geometric):
    """Deform the image smoothly at random, as if it were drawn on rubber.

    Source: Simard et al. 2003, section 2: displacements drawn at random and smoothed with a Gaussian of width `sigma`.
    Here the displacements are sums of waves with the Gaussian spectrum of such a smoothed field. They have the same
    mean squares and correlations and can be computed at any position, so that keypoints move exactly as pixels do.

    Args:
        displacement: Root mean square of the shift along each axis, in pixels, >= 0. Above about `sigma` / 3 the image
            folds over itself.
        sigma: Distance over which shifts are similar, in pixels, > 0: their correlation at a distance d is
            exp(-d^2 / (4 sigma^2)).
        fill: Color outside the image, as for `Rotate`.
        probability: Chance that an image is changed.

    Raises:
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
    """

    displacement: float = 2.0
    sigma: float = 8.0
    _: dataclasses.KW_ONLY
    fill: Fill = "black"
    probability: float = 1.0

    bends = True
    draws = tuple(f"{axis} phase {wave}" for axis in ("down", "right") for wave in range(_WAVES))
    normal_draws = tuple(
        f"{axis} {along} {wave}"
        for axis in ("down", "right")
        for along in ("y", "x")
        for wave in range(_WAVES)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        good = is_number(self.displacement) and is_number(self.sigma)
        if not good or self.displacement < 0 or self.sigma <= 0:
            raise ValueError(
                "augment.Elastic expects displacement >= 0 and sigma > 0, in pixels. Received "
                f"displacement={self.displacement!r}, sigma={self.sigma!r}. Write Elastic(2, 8)."
            )

    def bend(self, drawn: Drawn, frame: Frame, y: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The source positions of the output pixels at `y` and `x`, each `(batch, height, width)`, in pixels."""
        return y + self._shift("down", drawn, y, x), x + self._shift("right", drawn, y, x)

    def unbend(self, drawn: Drawn, frame: Frame, y: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The output positions of input points at `y` and `x`, each `(batch, points)`: `bend` inverted by iteration."""
        down, right = y, x
        for _ in range(30):
            moved = self.bend(drawn, frame, down, right)
            down, right = down + (y - moved[0]), right + (x - moved[1])
        return down, right

    def _shift(self, axis, drawn, y, x):
        total = 0.0
        shape = (-1,) + (1,) * (y.shape.rank - 1)
        for wave in range(_WAVES):
            # A field smoothed by a Gaussian has a Gaussian spectrum, of width 1 / (sqrt(2) sigma).
            along_y, along_x = (
                tf.reshape(drawn[f"{axis} {along} {wave}"], shape) / (math.sqrt(2) * self.sigma)
                for along in "yx"
            )
            phase = tf.reshape(drawn[f"{axis} phase {wave}"], shape) * (2 * math.pi)
            total = total + tf.cos(along_y * y + along_x * x + phase)
        return total * (self.displacement * math.sqrt(2 / _WAVES))
