"""Solarizing: inversion of bright values."""

import dataclasses

import tensorflow as tf

from recipes.augment.engine.levels import invert_from
from recipes.augment.engine.magnitudes import draw, read_pair
from recipes.augment.engine.operation import Drawn, operation
from recipes.augment.engine.points import PointOperation
from recipes.common.validation import is_number


@operation
class Solarize(PointOperation):
    """Invert all values at or above a threshold, as PIL's `ImageOps.solarize`.

    Source: Cubuk et al. 2018, "AutoAugment", appendix A, table 6, https://arxiv.org/abs/1805.09501; Grill et al. 2020,
    "Bootstrap your own latent", appendix B, https://arxiv.org/abs/2006.07733 (threshold 0.5 on a fifth of the images).

    Args:
        threshold: Fraction of the value range, in [0, 1], or a pair `(low, high)` from which each image draws its own.
            PIL's threshold of 128 is 128 / 255.
        probability: Chance that an image is changed.

    Raises:
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
    """

    threshold: float | tuple[float, float] = 0.5
    _: dataclasses.KW_ONLY
    probability: float = 0.2

    draws = ("threshold",)

    def __post_init__(self) -> None:
        super().__post_init__()
        pair = isinstance(self.threshold, tuple)
        self._limits = (
            read_pair("Solarize", "threshold", self.threshold) if pair else (self.threshold, self.threshold)
        )
        if not all(is_number(one) and 0 <= one <= 1 for one in self._limits):
            raise ValueError(
                f"augment.Solarize expects threshold in [0, 1], a fraction of the value range. Received "
                f"{self.threshold!r}. Write Solarize(0.5)."
            )

    def curve(self, levels: tf.Tensor, drawn: Drawn) -> tf.Tensor:
        return invert_from(levels, 255 * draw(drawn["threshold"], self._limits))
