"""segments: the object that was cut out, on a dimmed background."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from recipes.plot.canvas import displayable
from recipes.plot.grid import grid


def segments(
    images: ArrayLike,
    masks: ArrayLike,
    *,
    dim: float = 0.25,
    titles: Sequence[object] | None = None,
    columns: int = 4,
    size: float = 2.0,
) -> Figure:
    """Draw what `explain.segment` cut out.

    Args:
        images: `(n, height, width, channels)`.
        masks: bool `(n, height, width)`.
        dim: Brightness left to the background, in [0, 1].
        titles, columns, size: As in `grid`.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: when images and masks do not belong together.
    """
    masks = np.asarray(masks)
    if np.ndim(images) != 4 or masks.shape != np.shape(images)[:3]:
        raise ValueError(
            f"plot.segments expects images (n, height, width, channels) and masks (n, height, width). Received "
            f"{np.shape(images)} and {masks.shape}. For a single image type images[None] and masks[None]."
        )
    shown = displayable(np.asarray(images), "plot.segments") * np.where(masks[..., None], 1, dim)
    return grid(shown.astype("float32"), titles=titles, columns=columns, size=size)
