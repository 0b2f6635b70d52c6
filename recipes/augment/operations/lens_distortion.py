"""Lens distortion."""

import dataclasses

from recipes.augment.engine.geometry import Geometric
from recipes.augment.engine.magnitudes import draw, read_range
from recipes.augment.engine.operation import operation


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

    strength: object = 0.2
    _: dataclasses.KW_ONLY
    fill: object = "black"
    probability: float = 1.0

    bends = True
    uniforms = 1

    def __post_init__(self):
        super().__post_init__()
        self._limits = read_range("LensDistortion", "strength", self.strength, lowest=-0.33, highest=0.33)

    def bend(self, uniform, frame, y, x):
        center_y, center_x = (frame.height - 1) / 2, (frame.width - 1) / 2
        half_diagonal = max(center_y**2 + center_x**2, 1e-6)
        strength = draw(uniform[0], self._limits, self.strength)[:, None, None]
        y, x = y - center_y, x - center_x
        stretch = strength * ((y * y + x * x) * (1 / half_diagonal))
        # Written as a change, so that strength 0 reads every pixel exactly.
        return y + center_y + y * stretch, x + center_x + x * stretch
