"""fooled: an image, what was added to it, and what the network then sees."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from recipes.common.types import FooledLike
from recipes.plot.canvas import check_size, displayable, new_figure


def fooled(
    images: ArrayLike,
    found: FooledLike,
    *,
    class_names: Sequence[str] | None = None,
    before: ArrayLike | None = None,
    size: float = 2.0,
    title: str | None = None,
) -> Figure:
    """Draw a row for each image: the original, the one that fools, and their difference ten times enlarged.

    Args:
        images: The originals, `(n, height, width, channels)` or one image.
        found: What `explain.fool` returned for them.
        class_names: None, or the name of each class.
        before: None, or the class predicted for each original.
        size: Width of an image in inches, 0.05 to 50.
        title: Text above all.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: when there are not as many originals as results, or `size` is out of range.
    """
    check_size("plot.fooled", size)
    images = np.asarray(images)
    single = np.ndim(found.predicted) == 0
    columns = [images, found.images, found.magnified]
    columns = [np.asarray(column)[None] if single else np.asarray(column) for column in columns]
    if images.ndim == 4 and single or len(columns[0]) != len(columns[1]):
        raise ValueError(
            f"plot.fooled expects the originals that fool was given, {len(columns[1])}. Received shape {images.shape}. "
            "Pass the same images."
        )
    predicted, distance = np.atleast_1d(found.predicted), np.atleast_1d(found.distance)
    before = None if before is None else np.atleast_1d(before)

    def name(number):
        return str(number) if class_names is None else str(class_names[int(number)])

    ratio = images.shape[-3] / images.shape[-2]
    figure = new_figure(3 * size, len(columns[0]) * (size * ratio + 0.25) + (0.3 if title is not None else 0))
    for row, line in enumerate(figure.subplots(len(columns[0]), 3, squeeze=False)):
        texts = ["" if before is None else name(before[row]), name(predicted[row])]
        texts.append(f"difference x 10, length {distance[row]:.3g}")
        for axes, column, text in zip(line, columns, texts, strict=True):
            axes.imshow(displayable(column[row], "plot.fooled"), vmin=0, vmax=1)
            axes.set_title(text, fontsize=8, pad=2)
            axes.set_axis_off()
    if title is not None:
        figure.suptitle(title)
    return figure
