"""segments: the object that was cut out, on a dimmed background."""

import numpy as np

from recipes.plot.canvas import displayable
from recipes.plot.grid import grid


def segments(images, masks, *, dim=0.25, titles=None, columns=4, size=2.0):
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
