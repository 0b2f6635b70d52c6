"""The channel statistics of a data set that color operations need."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recipes.augment.engine.operation import OPERATIONS, Frame, call_text


@dataclasses.dataclass(frozen=True, repr=False)
class ColorStatistics:
    """Channel statistics as plain tuples, so that a pipeline can be saved and loaded.

    `preprocess.ImageStatistics`, or any object with these attributes, is accepted in its place.

    Args:
        channel_mean: Mean of each channel, `(channels,)`, in pixel values.
        channel_std: Standard deviation of each channel, `(channels,)`, in pixel values.
        color_eigenvalues: Eigenvalues of the covariance of the channels, `(channels,)`, in squared pixel values.
        color_eigenvectors: Matrix `(channels, channels)` whose columns are the eigenvectors.
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
    """Return `ColorStatistics` from any object with its attributes.

    Raises:
        TypeError: when `channel_mean` or `channel_std` is missing; the message names the operation `owner`.
    """
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
    """Raise `ValueError` when the statistics cannot belong to images of this `Frame`."""
    channels = len(statistics.channel_mean)
    if channels != frame.channels:
        raise ValueError(
            f"augment.{owner} expects statistics of {frame.channels} channels, like the images. Received {channels}. "
            "Fit them on the same images: preprocess.ImageStatistics.fit(train)."
        )
    mean, std = np.asarray(statistics.channel_mean), np.asarray(statistics.channel_std)
    inside = np.all(mean >= frame.low) and np.all(mean <= frame.high)
    # A deviation of more than half the range is impossible; below 1/200 of it, the images have nearly one color.
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
