"""grid: images side by side, with titles, and with maps over them."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from recipes.common.validation import as_row, is_whole
from recipes.plot.canvas import check_size, displayable
from recipes.plot.map_scale import add_scales, figure_for_maps, write_blank
from recipes.plot.overlay import picture


def grid(
    images: ArrayLike | Sequence[ArrayLike],
    *,
    maps: Sequence[ArrayLike | None] | ArrayLike | None = None,
    titles: Sequence[object] | None = None,
    title_colors: Sequence[str] | None = None,
    columns: int = 8,
    size: float = 1.5,
    title: str | None = None,
    opacity: float = 0.6,
) -> Figure:
    """Show images in rows.

    Args:
        images: An array `(n, height, width, channels)`, whose values are scaled together, or a list of images of any
            sizes, each scaled by itself; 1, 3 or 4 channels, uint8 or float.
        maps: None, or a map `(height, width)` for each image, drawn as `overlay` does: over the image where it is
            coarse, alone where it is fine, each scaled by itself, with a bar for the colors below. A map of None
            leaves its image as it is.
        titles: None, or a text for each image.
        title_colors: None, or a matplotlib color for each title, such as "tab:green" and "tab:red".
        columns: Images in a row, >= 1.
        size: Width of an image in inches, 0.05 to 50.
        title: Text above all.
        opacity: Opacity of the colors over the images, in [0, 1].

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: when there are no images, not as many maps or titles as images, or an argument is out of range.

    Example:
        >>> grid(images[:16], titles=[info.class_names[label] for label in labels[:16]])
    """
    if isinstance(images, np.ndarray) or hasattr(images, "__array__"):
        shape = np.shape(images)
        shown = displayable(images, "plot.grid") if len(shape) == 4 and shape[0] else []
    else:
        images = images if isinstance(images, (list, tuple)) else ()
        shape = f"a list of {len(images)}"
        shown = [displayable(image, "plot.grid") for image in images]
    if len(shown) == 0 or not is_whole(columns) or columns < 1:
        raise ValueError(
            "plot.grid expects images of shape (n, height, width, channels) or a list of them, and columns >= 1. "
            f"Received {shape} and columns={columns}. For a single image type grid(image[None])."
        )
    for name, given in (("maps", maps), ("titles", titles), ("title_colors", title_colors)):
        row = () if given is None else as_row(given)
        if row is None or (given is not None and len(row) != len(shown)):
            raise ValueError(
                f"plot.grid expects {name} for all {len(shown)} images. Received "
                f"{type(given).__name__ if row is None else len(row)}. "
                f"Give one for each image, or leave {name} out."
            )
    check_size("plot.grid", size)
    shown, scales = _painted(shown, maps, opacity)
    columns = min(columns, len(shown))
    rows = math.ceil(len(shown) / columns)
    tallest = max(image.shape[0] / image.shape[1] for image in shown)
    lines = max((text.count("\n") + 1 for text in _texts(titles)), default=0)
    height = rows * (size * tallest + 0.18 * lines) + (0.35 if title is not None else 0)
    figure, upper = figure_for_maps(size * columns, height, scales)
    panels = upper.subplots(rows, columns, squeeze=False).flat
    for place, axes in enumerate(panels):
        axes.set_axis_off()
        if place >= len(shown):
            continue
        image = shown[place]
        axes.imshow(image, vmin=0, vmax=1, interpolation="nearest" if image.shape[0] < 100 else "antialiased")
        if scales[place]:
            write_blank(axes, scales[place])
        if titles is not None:
            color = title_colors[place] if title_colors is not None else "black"
            axes.set_title(str(titles[place]), fontsize=8, color=color, pad=2)
    add_scales(figure, scales)
    if title is not None:
        upper.suptitle(title)
    return figure


def _painted(shown, maps, opacity):
    """The pictures of the maps, and how each was scaled; None where there is no map."""
    if maps is None:
        return shown, [None] * len(shown)
    pairs = [
        (image, None) if one is None else picture(image, one, opacity=opacity)
        for image, one in zip(shown, maps, strict=True)
    ]
    return [image for image, _ in pairs], [scale for _, scale in pairs]


def _texts(titles):
    return [str(text) for text in titles] if titles is not None else []
