"""channels: the maps of a layer, or its filters, side by side."""

import math

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from recipes.common.validation import as_numbers, is_whole
from recipes.plot.canvas import check_size, new_figure


def channels(
    maps: ArrayLike,
    *,
    columns: int = 16,
    limit: int = 64,
    size: float = 0.7,
    shared: bool = True,
    title: str | None = None,
) -> Figure:
    """Draw each channel of one image's activations, or each filter of a layer.

    Args:
        maps: `(height, width, channels)` as `explain.activations(...)[0]` gives; or `(filters, height, width,
            1, 3 or 4)` or `(filters, channels, height, width, 1)` as `explain.filters` gives (the latter with one row
            per filter).
        columns: Pictures in a row, >= 1.
        limit: Largest number of pictures drawn, >= 1; the figure says how many there are.
        size: Width of a picture in inches, 0.05 to 50.
        shared: Scale all maps alike, so that silent ones stay dark; False stretches each by itself. Filters
            are shown as they come.
        title: Text above all.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: when the array has none of these shapes or is not finite, or an argument is out of range.
    """
    check_size("plot.channels", size)
    maps = as_numbers("plot.channels", "maps", maps, "float32")
    if not is_whole(columns) or not is_whole(limit) or min(columns, limit) < 1:
        raise ValueError(
            "plot.channels expects columns and limit to be whole numbers, at least 1. Received "
            f"columns={columns!r} and limit={limit!r}. Leave them out for the defaults."
        )
    depth = maps.ndim == 3 or (maps.ndim in (4, 5) and maps.shape[-1] in (1, 3, 4))
    if not depth or not maps.size or not np.isfinite(maps).all():
        raise ValueError(
            f"plot.channels expects finite maps (height, width, channels) or filters. Received shape {maps.shape}. "
            "For the first of several images type maps[0]."
        )
    filters = maps.ndim > 3
    if maps.ndim == 3:
        pictures, total = np.moveaxis(maps, -1, 0), maps.shape[-1]
    elif maps.ndim == 4:
        pictures, total = maps, len(maps)
    else:
        columns = min(columns, maps.shape[1])
        rows = max(1, limit // columns)
        pictures, total = maps[:rows, :columns].reshape(-1, *maps.shape[2:]), maps.shape[0] * maps.shape[1]
    pictures = pictures[:limit]
    columns = min(columns, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    figure = new_figure(size * columns, size * rows + 0.35)
    low, high = (0, 1) if filters else (maps.min(), max(maps.max(), maps.min() + 1e-12))
    for place, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        axes.set_axis_off()
        if place < len(pictures):
            scale = {"vmin": low, "vmax": high} if shared or filters else {}
            axes.imshow(np.squeeze(pictures[place]), cmap="gray" if filters else "viridis", **scale)
    shown = "" if len(pictures) == total else f"{len(pictures)} of {total}"
    figure.suptitle(" - ".join(text for text in (title, shown) if text), fontsize=9)
    return figure
