"""The few numbers about a data set that color operations need."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recipes.augment.engine.operation import OPERATIONS, Frame, call_text


@dataclasses.dataclass(frozen=True, repr=False)
class ColorStatistics:
    """Channel statistics as plain tuples, so that a pipeline can be written down and read again.

    `preprocess.ImageStatistics`, or anything with these attributes, is accepted wherever this is.

    Args:
        channel_mean: Mean of each channel, in pixel values.
        channel_std: Standard deviation of each channel.
        color_eigenvalues: Eigenvalues of the covariance of the channels, in squared pixel values.
        color_eigenvectors: Matrix whose columns are the eigenvectors.
    """

    channel_mean: Sequence[float]
    channel_std: Sequence[float]
    color_eigenvalues: Sequence[float] = ()
    color_eigenvectors: Sequence[Sequence[float]] = ()

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _tuple(getattr(self, field.name)))

    def get_config(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "ColorStatistics":
        return cls(**config)

    def __repr__(self) -> str:
        return call_text(self)


OPERATIONS["ColorStatistics"] = ColorStatistics


def read_statistics(owner: str, statistics: Any) -> ColorStatistics:
    """`ColorStatistics` from any object with its attributes."""
    if isinstance(statistics, ColorStatistics):
        return statistics
    if not all(hasattr(statistics, name) for name in ("channel_mean", "channel_std")):
        raise TypeError(
            f"augment.{owner} expects the statistics of a data set. Received {type(statistics).__name__}. "
            "Write preprocess.ImageStatistics.fit(train), or augment.ColorStatistics(channel_mean, channel_std)."
        )
    return ColorStatistics(
        *(getattr(statistics, field.name, ()) for field in dataclasses.fields(ColorStatistics))
    )


def check_statistics(owner: str, statistics: ColorStatistics, frame: Frame) -> None:
    """Raise when statistics cannot be those of images of this `Frame`."""
    channels = len(statistics.channel_mean)
    if channels != frame.channels:
        raise ValueError(
            f"augment.{owner} expects statistics of {frame.channels} channels, like the images. Received {channels}. "
            "Fit them on the same images: preprocess.ImageStatistics.fit(train)."
        )
    mean, std = np.asarray(statistics.channel_mean), np.asarray(statistics.channel_std)
    inside = np.all(mean >= frame.low) and np.all(mean <= frame.high)
    # A deviation beyond half the range is impossible; below 1/200 of it, the images would be all but one color.
    plausible = std.max() <= 0.51 * frame.span.max() and std.max() >= frame.span.max() / 200
    if not (inside and plausible):
        raise ValueError(
            f"augment.{owner} expects statistics of pixels in {frame.low.min():g} to {frame.high.max():g}. "
            f"Received channel_mean={_short(mean)} and channel_std={_short(std)}, which belong to another range. "
            "Fit the statistics on the images as they enter the pipeline, or set its value_range to theirs."
        )


def _short(values):
    return "[" + ", ".join(f"{value:.4g}" for value in values) + "]"


def _tuple(value):
    if value is None:
        return ()
    value = value.tolist() if hasattr(value, "tolist") else value
    if hasattr(value, "numpy"):
        value = value.numpy().tolist()
    return tuple(_tuple(one) for one in value) if isinstance(value, (list, tuple)) else value
