"""Perspective transformation."""

import dataclasses

import tensorflow as tf

from recipes.augment.engine.geometry import Geometric
from recipes.augment.engine.operation import Drawn, Fill, Frame, operation
from recipes.common.validation import is_number


@operation
class Perspective(Geometric):
    """Move each corner of the image inwards by a random distance, as if it were seen from another side.

    Source: torchvision's `RandomPerspective`: along each side a corner moves by up to `distortion` of half that side,
    uniformly; straight lines stay straight.

    Args:
        distortion: Largest distance of a corner, as a fraction of half a side, in [0, 1).
        fill: Color outside the image, as for `Rotate`.
        probability: Chance that an image is changed.

    Raises:
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
    """

    distortion: float = 0.5
    _: dataclasses.KW_ONLY
    fill: Fill = "black"
    probability: float = 0.5

    bends = True
    draws = tuple(f"{corner} {axis}" for corner in ("00", "01", "11", "10") for axis in ("down", "right"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_number(self.distortion) or not 0 <= self.distortion < 1:
            raise ValueError(
                f"augment.Perspective expects distortion in [0, 1), a fraction of half a side. Received "
                f"{self.distortion!r}. Write Perspective(0.5)."
            )

    def bend(self, drawn: Drawn, frame: Frame, y: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The source positions of the output pixels at `y` and `x`, each `(batch, height, width)`, in pixels."""
        return project(tf.linalg.inv(self._forward(drawn, frame)), y, x)

    def unbend(self, drawn: Drawn, frame: Frame, y: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The output positions of input points at `y` and `x`, each `(batch, points)`: the inverse of `bend`."""
        return project(self._forward(drawn, frame), y, x)

    def _forward(self, drawn, frame):
        corners = []
        for corner in ("00", "01", "11", "10"):
            place = []
            for axis, side, far in zip(("down", "right"), (frame.height, frame.width), corner, strict=True):
                inwards = drawn[f"{corner} {axis}"] * (self.distortion * side / 2)
                place.append(side - inwards if far == "1" else inwards)
            corners.append(tf.stack(place, -1) - 0.5)
        height, width = float(frame.height), float(frame.width)
        # From the image to the unit square, and from there to the new corners.
        unit = tf.constant(
            [[1 / height, 0, 0.5 / height], [0, 1 / width, 0.5 / width], [0, 0, 1]], tf.float32
        )
        return from_unit_square(*corners) @ unit


def from_unit_square(p00: tf.Tensor, p01: tf.Tensor, p11: tf.Tensor, p10: tf.Tensor) -> tf.Tensor:
    """The matrix `(batch, 3, 3)` that maps (0, 0), (0, 1), (1, 1) and (1, 0) to these points, each `(batch, 2)`.

    Source: Heckbert 1989, "Fundamentals of texture mapping and image warping", section 2.2.3.
    """
    side_0, side_1, both = p10 - p11, p01 - p11, p00 - p10 + p11 - p01
    cross = lambda a, b: a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]  # noqa: E731
    area = cross(side_0, side_1)
    g, h = (cross(both, side_1) / area)[:, None], (cross(side_0, both) / area)[:, None]
    columns = tf.stack([p10 - p00 + g * p10, p01 - p00 + h * p01, p00], -1)
    return tf.concat([columns, tf.stack([g, h, tf.ones_like(g)], -1)], 1)


def project(matrix: tf.Tensor, y: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Project points `y` and `x`, each `(batch, ...)`, by matrices `(batch, 3, 3)` that act on (y, x, 1).

    Points behind the viewer are moved far outside the image.
    """
    entry = lambda row, column: tf.reshape(matrix[:, row, column], (-1,) + (1,) * (y.shape.rank - 1))  # noqa: E731
    down, across, depth = (entry(row, 0) * y + entry(row, 1) * x + entry(row, 2) for row in range(3))
    sign = tf.where(depth > 0, 1.0, -1.0) * tf.sign(entry(2, 2))
    there = sign > 0
    depth = tf.where(there, depth, 1.0)
    return tf.where(there, down / depth, -1e6), tf.where(there, across / depth, -1e6)
