"""Hue."""

import dataclasses
import math
from typing import Any

import numpy as np
import tensorflow as tf

from recipes.augment.engine.color_maps import ColorOperation
from recipes.augment.engine.magnitudes import Strength, draw, read_range
from recipes.augment.engine.operation import Drawn, Frame, operation
from recipes.common.color import YIQ


@operation
class Hue(ColorOperation):
    """Rotate all colors about the gray axis. Three channels only.

    It is a rotation of the two color axes of YIQ, which is linear and keeps luma and gray. Unlike a shift of the hue in
    HSV, it is continuous and does not keep HSV's saturation. Source of the axes: NTSC 1953, as in Foley et al.,
    "Computer graphics: principles and practice", section 13.3.3.

    Args:
        turns: Rotation in full turns: a number h for -h to h, a pair, or `PlusMinus`, within -0.5 and 0.5; 0.5 gives
            the opposite colors.
        probability: Chance that an image is changed.

    Raises:
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
    """

    turns: Strength = 0.1
    _: dataclasses.KW_ONLY
    probability: float = 1.0

    mixes_channels = True
    draws = ("turn",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._limits = read_range("Hue", "turns", self.turns, lowest=-0.5, highest=0.5)

    def color_map(self, drawn: Drawn, mean: tf.Tensor | None, frame: Frame) -> tuple[Any, Any]:
        angle = draw(drawn["turn"], self._limits, self.turns) * (2 * math.pi)
        return hue_matrix(angle), np.zeros((1, 3), "float32")


def hue_matrix(angle: tf.Tensor) -> tf.Tensor:
    """The rotation of the I and Q axes of YIQ by `angle` (radians, `(batch,)`), as a matrix `(batch, 3, 3)` for RGB."""
    angle = angle[:, None, None]
    gray, kept, turned = (
        np.float32(np.linalg.inv(YIQ) @ np.array(part) @ YIQ)
        for part in (
            [[1, 0, 0], [0, 0, 0], [0, 0, 0]],
            [[0, 0, 0], [0, 1, 0], [0, 0, 1]],
            [[0, 0, 0], [0, 0, -1], [0, 1, 0]],
        )
    )
    return gray + tf.cos(angle) * kept + tf.sin(angle) * turned
