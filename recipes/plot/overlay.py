"""overlay: a map of importance beside the image it explains, and over it where the map is coarse."""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from recipes.common.validation import as_numbers, is_number
from recipes.plot.canvas import displayable
from recipes.plot.map_scale import Alone, MapScale, add_scales, figure_for_maps, paint, scale_of, write_blank


def overlay(
    image: ArrayLike,
    map: ArrayLike,
    *,
    opacity: float = 0.6,
    limit: float | None = None,
    alone: Alone = "auto",
    layer: str | None = None,
    title: str | None = None,
) -> Figure:
    """Show an image, and beside it a map of importance: over the image where it is coarse, alone where it is fine.

    A bar and a line below say what the colors mean; a map with the same value everywhere is marked as blank.

    Args:
        image: `(height, width, channels)` with 1, 3 or 4 channels, or `(height, width)`; uint8 or float.
        map: `(height, width)`, any real dtype, as the functions of `recipes.explain` give for one image. A map with
            negative values is drawn in red (for) and blue (against).
        opacity: Opacity of the colors over the image, in [0, 1].
        limit: Magnitude that gets the full color, > 0, so that several maps share a scale; it is written at the bar.
            None takes the map's largest magnitude, or for a fine map the magnitude at the 99th percentile.
        alone: Whether the map is drawn without the image. `"auto"`: where it changes from pixel to pixel, as gradients
            do, which over an image cannot be seen.
        layer: Name of the layer the map was taken at, shown over it.
        title: Text above.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: when shapes differ, the map is not finite, or an argument is out of range.
    """
    painted, scale = picture(image, map, opacity=opacity, limit=limit, alone=alone)
    rows, columns = painted.shape[:2]
    height = (
        max(1.6, 3.4 * rows / columns) + (0.2 if layer is not None else 0) + (0.3 if title is not None else 0)
    )
    figure, panels = figure_for_maps(7.2, height, [scale])
    plain, covered = panels.subplots(1, 2)
    plain.imshow(displayable(image, "plot.overlay"))
    covered.imshow(painted)
    write_blank(covered, scale)
    if layer is not None:
        covered.set_title(f"layer {layer}", fontsize=8)
    for axes in (plain, covered):
        axes.set_axis_off()
    add_scales(figure, [scale], numbers=limit is not None, panel=covered)
    if title is not None:
        panels.suptitle(title)
    return figure


def blend(
    image: ArrayLike,
    map: ArrayLike,
    *,
    opacity: float = 0.6,
    limit: float | None = None,
    alone: Alone = "auto",
) -> NDArray[np.uint8]:
    """The picture of a map: its colors over the image in gray where it is coarse, alone where it is fine.

    Args:
        image, map, opacity, limit, alone: As `overlay` takes them.

    Returns:
        `(height, width, 3)`, uint8. A map of one value leaves the image as it is.
    """
    return picture(image, map, opacity=opacity, limit=limit, alone=alone)[0]


def picture(
    image: ArrayLike,
    map: ArrayLike,
    *,
    opacity: float = 0.6,
    limit: float | None = None,
    alone: Alone = "auto",
    percentile: float = 99,
) -> tuple[NDArray[np.uint8], MapScale]:
    """What `blend` returns, and how the map was scaled."""
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
    if not isinstance(alone, (bool, np.bool_)) and not (isinstance(alone, str) and alone == "auto"):
        raise ValueError(
            f"plot.overlay expects alone to be 'auto', True or False. Received {alone!r}. "
            "'auto' draws fine maps alone and lays coarse ones over the image."
        )
    scale = scale_of(values, alone=alone, limit=limit, percentile=percentile)
    return np.rint(255 * paint(base, values, scale, opacity)).astype(np.uint8), scale
