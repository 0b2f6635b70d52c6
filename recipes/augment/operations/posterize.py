"""Posterizing: fewer levels of each color."""

import dataclasses

import tensorflow as tf

from recipes.augment.engine.levels import keep_bits
from recipes.augment.engine.operation import Drawn, operation
from recipes.augment.engine.points import PointOperation
from recipes.augment.operations.translate import whole_shift


@operation
class Posterize(PointOperation):
    """Keep the highest bits of each value; for uint8 images exactly PIL's `ImageOps.posterize`.

    Source: Cubuk et al. 2018, "AutoAugment", appendix A, table 6, https://arxiv.org/abs/1805.09501 (4 to 8 bits).

    Args:
        bits: Number of bits that are kept, 1 to 8, or a pair `(low, high)` from which each number is equally likely.
        probability: Chance that an image is changed.

    Raises:
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
    """

    bits: int | tuple[int, int] = (4, 8)
    _: dataclasses.KW_ONLY
    probability: float = 1.0

    draws = ("bits",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._limits = self.bits if isinstance(self.bits, tuple) else (self.bits, self.bits)
        whole = len(self._limits) == 2 and all(type(one) is int for one in self._limits)
        if not (whole and 1 <= self._limits[0] <= self._limits[1] <= 8):
            raise ValueError(
                f"augment.Posterize expects bits to be a whole number in 1 to 8, or a pair of them. Received "
                f"{self.bits!r}. Write Posterize(4), or Posterize((4, 8))."
            )

    def curve(self, levels: tf.Tensor, drawn: Drawn) -> tf.Tensor:
        return keep_bits(levels, whole_shift(drawn["bits"], *self._limits))
