"""Normalization as the last color operation."""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from recipes.augment.engine.color_maps import ColorOperation
from recipes.augment.engine.color_statistics import ColorStatistics, check_statistics, read_statistics
from recipes.augment.engine.operation import Drawn, Frame, operation

if TYPE_CHECKING:
    from recipes.preprocess.image_statistics import ImageStatistics


@operation
class Normalize(ColorOperation):
    """Subtract the data set's mean of each channel and divide by its standard deviation.

    Source: Krizhevsky et al. 2012, section 2 (mean) and He et al. 2015, section 3.4. It is computed together with all
    other color operations, so it costs almost nothing. But test images must then be normalized with the same
    statistics. `preprocess.Standardize` inside the model keeps the statistics with the weights; use only one of the
    two.

    Args:
        statistics: `preprocess.ImageStatistics`, `ColorStatistics`, or any object with `channel_mean` and
            `channel_std`, in the pipeline's value range.
        probability: Must be 1, because a batch of which only some images are normalized is a mistake.

    Raises:
        TypeError: when `statistics` has no `channel_mean` or `channel_std`.
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
    """

    statistics: "ColorStatistics | ImageStatistics"
    _: dataclasses.KW_ONLY
    probability: float = 1.0

    leaves_range = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.statistics = read_statistics("Normalize", self.statistics)
        if self.probability != 1:
            raise ValueError(
                f"augment.Normalize expects probability=1. Received {self.probability!r}. "
                "Leave the argument out: all images or none must be normalized."
            )
        if min(self.statistics.channel_std) <= 0:
            raise ValueError(
                "augment.Normalize expects standard deviations > 0. "
                f"Received channel_std={self.statistics.channel_std}. "
                "Drop a constant channel, or give it a standard deviation of 1."
            )

    def check(self, frame: Frame) -> None:
        super().check(frame)
        check_statistics("Normalize", self.statistics, frame)

    def after(self, frame: Frame) -> Frame:
        mean, std = self._numbers()
        return dataclasses.replace(
            frame,
            low=(frame.low - mean) / std,
            high=(frame.high - mean) / std,
            mean=np.zeros_like(mean),
            normalized=True,
        )

    def color_map(self, drawn: Drawn, mean: tf.Tensor | None, frame: Frame) -> tuple[Any, Any]:
        return normalizing_map(*self._numbers())

    def _numbers(self):
        return np.float32(self.statistics.channel_mean), np.float32(self.statistics.channel_std)


def normalizing_map(mean: np.ndarray, std: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`(scale, offset)` that subtract `mean` and divide by `std`, both float32 `(channels,)`."""
    scale = 1 / std
    # In this form the mean maps to exactly zero, so that filling a hole with the mean color needs no addition.
    return scale[None], -(mean * scale)[None]
