"""The common base of brightness, contrast and saturation: one factor around 1."""

from typing import Any

import tensorflow as tf

from recipes.augment.engine.color_maps import ColorOperation
from recipes.augment.engine.magnitudes import draw, read_range
from recipes.augment.engine.operation import Drawn


class ColorFactor(ColorOperation):
    """A color operation with one factor around 1."""

    factor: Any
    draws = ("factor",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._limits = read_range(self.name, "factor", self.factor, center=1.0, lowest=0.0)

    def draw_factor(self, drawn: Drawn) -> tf.Tensor:
        """The factor of each image, `(batch,)`."""
        return draw(drawn["factor"], self._limits, self.factor)
