"""patches: what excites a channel most, synthetic and in real images."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from recipes.common.types import PatchesLike
from recipes.plot.canvas import check_size, displayable, new_figure


def patches(
    found: PatchesLike,
    *,
    unit_images: ArrayLike | None = None,
    titles: Sequence[object] | None = None,
    size: float = 1.0,
    title: str | None = None,
) -> Figure:
    """Draw a row for each channel: its picture by `explain.unit_image`, then its `explain.maximal_patches`.

    Args:
        found: What `explain.maximal_patches` returned, for one channel or several.
        unit_images: None, or `(channels, height, width, image channels)`.
        titles: None, or a text for each row.
        size: Width of a patch in inches, 0.05 to 50.
        title: Text above all.

    Returns:
        A matplotlib `Figure`; above each patch stands its activation.

    Raises:
        ValueError: when there are not as many pictures or titles as channels.
    """
    check_size("plot.patches", size)
    single = np.ndim(found.scores) == 1
    rows = np.asarray(found.patches)[None] if single else np.asarray(found.patches)
    scores = np.atleast_2d(found.scores)
    pictures = None if unit_images is None else np.asarray(unit_images)
    if pictures is not None and pictures.ndim == 3:
        pictures = pictures[None]
    for name, given in (("unit_images", pictures), ("titles", titles)):
        if given is not None and len(given) != len(rows):
            raise ValueError(
                f"plot.patches expects {name} for all {len(rows)} channels. Received {len(given)}. "
                "Give one per channel."
            )
    shown = displayable(rows, "plot.patches")
    first = 0 if pictures is None else 1
    figure = new_figure(
        size * (rows.shape[1] + first) + 0.4, (size + 0.2) * len(rows) + (0.3 if title is not None else 0)
    )
    for row, line in enumerate(figure.subplots(len(rows), rows.shape[1] + first, squeeze=False)):
        for axes in line:
            axes.set(xticks=[], yticks=[])
            for side in axes.spines.values():
                side.set_visible(False)
        if pictures is not None:
            line[0].imshow(displayable(pictures[row], "plot.patches"))
        if titles is not None:
            line[0].set_ylabel(str(titles[row]), fontsize=8)
        for place in range(rows.shape[1]):
            line[first + place].imshow(shown[row, place], vmin=0, vmax=1)
            line[first + place].set_title(f"{scores[row, place]:.3g}", fontsize=6, pad=2)
    if title is not None:
        figure.suptitle(title)
    return figure
