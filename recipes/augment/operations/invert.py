"""Inversion of colors."""

import dataclasses

import tensorflow as tf

from recipes.augment.engine.operation import Drawn, operation
from recipes.augment.engine.points import PointOperation


@operation
class Invert(PointOperation):
    """Turn black into white and every color into its opposite, exactly as PIL's `ImageOps.invert`.

    Source: Cubuk et al. 2018, "AutoAugment", appendix A, table 6, https://arxiv.org/abs/1805.09501.

    Args:
        probability: Chance that an image is inverted.

    Raises:
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
    """

    _: dataclasses.KW_ONLY
    probability: float = 0.5

    def curve(self, levels: tf.Tensor, drawn: Drawn) -> tf.Tensor:
        return 255 - levels
