"""overlay: a map of importance laid over the image it explains."""

import numpy as np
from matplotlib import cm, colormaps, colors
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from recipes.common.validation import as_numbers, is_number
from recipes.plot.canvas import displayable, new_figure

_SIGNED, _POSITIVE = "RdBu_r", "turbo"


def overlay(
    image: ArrayLike,
    map: ArrayLike,
    *,
    opacity: float = 0.6,
    limit: float | None = None,
    title: str | None = None,
) -> Figure:
    """Show an image, and the same image under a map of importance, with the map's scale beside it.

    Args:
        image: `(height, width, channels)` with 1, 3 or 4 channels, or `(height, width)`; uint8 or float.
        map: `(height, width)`, any real dtype, as the functions of `recipes.explain` give for one image. A map with
            negative values is drawn in red (for) and blue (against).
        opacity: Of the color where the map is strongest, in [0, 1].
        limit: Magnitude that gets the full color, > 0, so that several maps share a scale. None takes the map's
            largest magnitude.
        title: Text above.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: when shapes differ, the map is not finite, or an argument is out of range.
    """
    blended = blend(image, map, opacity=opacity, limit=limit)
    low, high, name = _scale(np.asarray(map, float), limit)
    height, width = blended.shape[:2]
    figure = new_figure(7.2, max(1.8, 3.2 * height / width) + (0.4 if title is not None else 0))
    plain, covered = figure.subplots(1, 2)
    plain.imshow(displayable(image, "plot.overlay"))
    covered.imshow(blended)
    for axes in (plain, covered):
        axes.set_axis_off()
    shades = cm.ScalarMappable(colors.Normalize(low, high), colormaps[name])
    figure.colorbar(shades, ax=covered, shrink=0.85)
    if title is not None:
        figure.suptitle(title)
    return figure


def blend(
    image: ArrayLike, map: ArrayLike, *, opacity: float = 0.6, limit: float | None = None
) -> NDArray[np.uint8]:
    """Color an image by a map: the stronger the map, the more its color hides the image.

    Args:
        image, map, opacity, limit: As `overlay` takes them.

    Returns:
        `(height, width, 3)`, uint8.
    """
    base = displayable(image, "plot.overlay")
    values = as_numbers("plot.overlay", "map", map)
    if base.ndim != 3 or values.shape != base.shape[:2]:
        raise ValueError(
            "plot.overlay expects one image (height, width, channels) and a map (height, width) of the same size. "
            f"Received shapes {np.shape(image)} and {values.shape}. Pick one of a batch with image[0] and map[0]."
        )
    if not np.isfinite(values).all():
        raise ValueError(
            "plot.overlay expects a finite map. Received NaN or infinity. "
            "Look for them where the map was made; np.nan_to_num(map) hides them."
        )
    known = is_number(opacity) and (limit is None or is_number(limit))
    if not known or not 0 <= opacity <= 1 or (limit is not None and not limit > 0):
        raise ValueError(
            "plot.overlay expects opacity in [0, 1] and limit > 0. "
            f"Received opacity={opacity} and limit={limit}. Leave them out for the defaults."
        )
    low, high, name = _scale(values, limit)
    color = colormaps[name](colors.Normalize(low, high, clip=True)(values))[..., :3]
    share = opacity * np.clip(np.abs(values) / high, 0, 1)[..., None]
    return np.rint(255 * ((1 - share) * base + share * color)).astype(np.uint8)


def _scale(values, limit):
    """Smallest and largest value of the color scale, and its colormap."""
    high = limit or np.abs(values).max() or 1.0
    return (-high, high, _SIGNED) if values.min() < 0 else (0.0, high, _POSITIVE)
