"""Additive noise."""

import dataclasses

import tensorflow as tf

from recipes.augment.engine.magnitudes import draw, read_pair
from recipes.augment.engine.noise import normal_noise
from recipes.augment.engine.operation import operation
from recipes.augment.engine.spatial_filters import Filter, FilterStep
from recipes.common.validation import is_number


@operation
class GaussianNoise(Filter):
    """Add normal noise, drawn separately for every pixel and channel.

    Source: Bishop 1995, "Training with noise is equivalent to Tikhonov regularization".

    Args:
        stddev: Standard deviation as a fraction of the value range, >= 0; or a pair `(low, high)` from which each
            image draws its own.
        probability: Chance that an image gets noise.

    Raises:
        ValueError: when an argument is outside its range.
    """

    stddev: float | tuple[float, float] = 0.05
    _: dataclasses.KW_ONLY
    probability: float = 1.0

    pixel_noise = True
    leaves_range = True
    draws = ("deviation",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._limits = (
            read_pair("GaussianNoise", "stddev", self.stddev)
            if isinstance(self.stddev, tuple)
            else (self.stddev, self.stddev)
        )
        if not is_number(self._limits[0]) or self._limits[0] < 0:
            raise ValueError(
                f"augment.GaussianNoise expects stddev >= 0. Received {self.stddev!r}. "
                "Write a fraction of the value range: GaussianNoise(0.05), or GaussianNoise((0, 0.1))."
            )

    def steps(self, *, compiled: bool) -> list[FilterStep]:
        return [self._add]

    def _add(self, images, drawn, active, frame):
        deviation = draw(drawn["deviation"], self._limits)
        if active is not None:
            deviation = tf.where(active, deviation, 0.0)
        noise = normal_noise(drawn["noise"], (frame.height, frame.width, frame.channels))
        return tf.cast(images, tf.float32) + noise * (deviation[:, None, None, None] * frame.span)
