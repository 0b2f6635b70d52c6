"""What every plot shares: a Figure without global state, and pixels ready to be shown."""

import io

import numpy as np
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter
from numpy.typing import ArrayLike

from recipes.common.types import FloatArray
from recipes.common.validation import is_number


class Canvas(Figure):
    """A Figure that a notebook shows by itself, without pyplot having been imported.

    Names are shown as they are: a class called "$5 or $10" is no formula. Numbers at ticks may be.
    """

    def draw(self, renderer: RendererBase) -> None:
        numbers = set()
        for axes in self.axes:
            for axis in (axes.xaxis, axes.yaxis):
                if not isinstance(axis.get_major_formatter(), FixedFormatter):
                    numbers.update(axis.get_ticklabels(which="both"))
        for text in self.findobj(Text):
            if text not in numbers:
                text.set_parse_math(False)
        super().draw(renderer)

    def _repr_png_(self):
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=100)
        return buffer.getvalue()


def new_figure(width: float, height: float) -> Canvas:
    """An empty figure of `width` by `height` inches whose parts do not overlap."""
    return Canvas(figsize=(width, height), layout="constrained")


def check_size(owner: str, size: float) -> None:
    """Refuse what is no width of a picture in inches.

    Raises:
        ValueError: for anything but a number from 0.05 to 50.
    """
    if not is_number(size) or not 0.05 <= size <= 50:
        raise ValueError(
            f"{owner} expects size to be the width of an image in inches, from 0.05 to 50. Received size={size!r}. "
            "Leave it out, or give for example size=1.5."
        )


def displayable(images: ArrayLike, owner: str) -> FloatArray:
    """Scale images to 0..1 and three channels.

    uint8 is divided by 255. Other numbers are taken as they are when all lie in 0..1, divided by 255 when all lie in
    0..255, and otherwise stretched from their smallest to their largest value, together.

    Args:
        images: One array `(..., height, width, channels)` with 1, 3 or 4 channels, or `(height, width)`.
        owner: Name of the caller, for its errors.

    Returns:
        `(..., height, width, 3)`, float32.
    """
    images = np.asarray(images)
    if images.ndim == 2:
        images = images[..., None]
    if (
        images.ndim < 3
        or images.shape[-1] not in (1, 3, 4)
        or images.dtype.kind not in "buif"
        or not images.size
    ):
        raise ValueError(
            f"{owner} expects images of shape (height, width, channels) with 1, 3 or 4 channels. Received shape "
            f"{images.shape} and dtype {images.dtype}. Pick the channels to show, such as image[..., :3]."
        )
    if not np.isfinite(images).all():
        raise ValueError(
            f"{owner} expects finite pixels. Received NaN or infinity. Replace them first with np.nan_to_num(image)."
        )
    low, high = (0, 255) if images.dtype == np.uint8 else _range(images.min(), images.max())
    scaled = (images[..., :3].astype(np.float32) - low) / max(high - low, np.finfo(np.float32).tiny)
    return np.broadcast_to(scaled, (*scaled.shape[:-1], 3)) if scaled.shape[-1] == 1 else scaled


def _range(low, high):
    if low >= 0 and high <= 255:
        return (0, 1) if high <= 1 else (0, 255)
    return low, high
