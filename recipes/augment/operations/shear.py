"""Shear."""

import dataclasses
from typing import Any

import numpy as np

from recipes.augment.engine.geometry import Geometric
from recipes.augment.engine.magnitudes import Strength, draw, read_range
from recipes.augment.engine.operation import Drawn, Fill, Frame, operation
from recipes.augment.engine.warp import Warp, about_center


@operation
class Shear(Geometric):
    """Shear the image about its center: rows are shifted sideways, columns up or down.

    Source: Simard et al. 2003, "Best practices for convolutional neural networks applied to visual document analysis",
    section 2 (skewing).

    Args:
        horizontal: Shift of a row in pixels per row of distance from the center (tangent of the shear angle): a number
            s for -s to s, a pair, or `PlusMinus`, within -1 and 1.
        vertical: The same for columns.
        fill: Color outside the image, as for `Rotate`.
        probability: Chance that an image is sheared.

    Raises:
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
    """

    horizontal: Strength = 0.1
    vertical: Strength = 0.0
    _: dataclasses.KW_ONLY
    fill: Fill = "black"
    probability: float = 1.0

    turns = True
    draws = ("horizontal", "vertical")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._limits = {
            name: read_range("Shear", name, getattr(self, name), lowest=-1, highest=1) for name in self.draws
        }
        if np.max(np.outer(*self._limits.values())) >= 1:
            raise ValueError(
                "augment.Shear expects horizontal times vertical to stay below 1, because the image collapses to a "
                f"line at 1. Received horizontal={self.horizontal!r}, vertical={self.vertical!r}. Write smaller ones."
            )

    def warp(self, drawn: Drawn, frame: Frame) -> Warp:
        return slanting(frame, self._slant(drawn, "horizontal"), self._slant(drawn, "vertical"))

    def _slant(self, drawn, name):
        limits = self._limits[name]
        return 0.0 if limits == (0.0, 0.0) else draw(drawn[name], limits, getattr(self, name))


def slanting(frame: Frame, horizontal: Any, vertical: Any) -> Warp:
    """The `Warp` of a shear: row y reads `horizontal * y` further right, column x reads `vertical * x` further down."""
    return about_center(frame, xy=horizontal, yx=vertical)
