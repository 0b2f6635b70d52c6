"""Additive noise."""

import dataclasses

import tensorflow as tf

from recipes.arguments import is_number
from recipes.augment.filtering import Filter
from recipes.augment.operation import operation
from recipes.augment.ranges import draw, read_pair


@operation
class Noise(Filter):
    """Add normal noise, a number for every pixel and channel.

    Source: Bishop 1995, "Training with noise is equivalent to Tikhonov regularization". Drawing a number for every
    value costs more than all other operations together.

    Args:
        deviation: Standard deviation as a fraction of the value range, >= 0; or a pair, from which each image
            draws its own.
        probability: Chance that an image gets noise.
    """

    deviation: object = 0.05
    _: dataclasses.KW_ONLY
    probability: float = 1.0

    pixel_noise = "normal"
    leaves_range = True
    uniforms = 1

    def __post_init__(self):
        super().__post_init__()
        self._limits = (
            read_pair("Noise", "deviation", self.deviation)
            if isinstance(self.deviation, tuple)
            else (self.deviation, self.deviation)
        )
        if not is_number(self._limits[0]) or self._limits[0] < 0:
            raise ValueError(
                f"augment.Noise expects deviation >= 0. Received {self.deviation!r}. "
                "It is a fraction of the value range: Noise(0.05), or Noise((0, 0.1))."
            )

    def filter(self, images, uniform, noise, active, frame):
        deviation = draw(uniform[0], self._limits)
        if active is not None:
            deviation = tf.where(active, deviation, 0.0)
        return images + noise * (deviation[:, None, None, None] * frame.span)
