"""thumbnails: the images themselves at their places in the plane."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from numpy.typing import ArrayLike

from recipes.common.validation import as_numbers
from recipes.plot.canvas import check_size, displayable, new_figure


def thumbnails(
    points: ArrayLike,
    images: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    size: float = 8.0,
    thumbnail: float = 0.3,
    cells: int | None = None,
    title: str | None = None,
) -> Figure:
    """Draw images where `explain.embed` put them.

    Args:
        points: `(n, 2)`, real numbers.
        images: `(n, height, width, channels)`, shown small.
        labels: None, or a class number for each image, shown as the color of its frame.
        size: Width and height of the figure in inches, 0.05 to 50.
        thumbnail: Width of an image in inches.
        cells: None, to draw each image at its place (later ones may hide earlier ones); or the number of cells along
            each side of a grid. Each cell shows the image nearest to its middle, if one lies in it, so that none
            overlap.
        title: Text above.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: when there are not as many images as points, or points are not in the plane.
    """
    check_size("plot.thumbnails", size)
    points = as_numbers("plot.thumbnails", "points", points)
    images = np.asarray(images)
    pictures = len(images) if images.ndim else 0
    if points.ndim != 2 or points.shape[1] != 2 or len(points) != pictures or not len(points):
        raise ValueError(
            f"plot.thumbnails expects points (n, 2) and n images. Received shape {points.shape} and "
            f"{pictures} images. "
            "Embed in the plane with dimensions=2."
        )
    shown = displayable(np.asarray(images), "plot.thumbnails")
    figure = new_figure(size, size)
    axes = figure.subplots()
    low, high = points.min(0), points.max(0)
    span = np.where(high > low, high - low, 1)
    places = (points - low) / span
    chosen = np.arange(len(points))
    if cells is not None:
        chosen, places = _one_a_cell(places, cells)
        thumbnail = 0.92 * size / cells
    colors = None if labels is None else _colors(labels)
    for index in chosen:
        zoom = thumbnail * 72 / shown.shape[2]
        frame = {"edgecolor": colors[index], "linewidth": 1.5} if colors is not None else {"linewidth": 0}
        box = OffsetImage(
            shown[index], zoom=zoom, interpolation="nearest" if shown.shape[1] < 64 else "antialiased"
        )
        axes.add_artist(AnnotationBbox(box, places[index], pad=0.05, bboxprops=frame))
    axes.set(xlim=(-0.04, 1.04), ylim=(-0.04, 1.04))
    axes.set_axis_off()
    if title is not None:
        axes.set_title(title)
    return figure


def _one_a_cell(places, cells):
    """`(chosen indices, places moved to the middle of their cells)`."""
    cell = np.minimum((places * cells).astype(int), cells - 1)
    middle = (cell + 0.5) / cells
    distance = np.square(places - middle).sum(1)
    best = {}
    for index in np.argsort(distance, kind="stable"):
        best.setdefault(tuple(cell[index]), index)
    return np.array(sorted(best.values())), middle


def _colors(labels):
    from matplotlib import colormaps  # noqa: PLC0415 - brings matplotlib

    known, numbers = np.unique(labels, return_inverse=True)
    palette = colormaps["tab10" if len(known) <= 10 else "tab20"]
    return [palette(number % palette.N) for number in numbers]
