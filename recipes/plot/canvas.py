"""What every plot shares: a Figure without global state, and pixels ready to be shown."""

import io
from collections.abc import Sequence

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

    Names are shown as they are: a class called "$5 or $10" is not read as a formula, only numbers at ticks are. A title
    or a name of an axis that is longer than its place is written on two lines, and shortened in its middle if need be.
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
        if self._fit_texts(renderer):
            super().draw(renderer)

    def _fit_texts(self, renderer):
        """Fold the texts that are longer than their place; True where there was one."""
        places = []
        for figure in (self, *self.subfigs):
            places += [(text, figure.bbox.width) for text in figure.texts]
            for axes in figure.axes:
                width = max(axes.bbox.width, 0.95 * _cell_width(axes, figure))
                places += [(axes.title, width), (axes.xaxis.label, width)]
                places += [(axes.yaxis.label, max(axes.bbox.height, 0.9 * figure.bbox.height / _rows(axes)))]
        found = False
        for text, room in places:
            box = text.get_window_extent(renderer) if text.get_visible() and text.get_text() else None
            length = 0 if box is None else box.width
            if text.get_rotation() == 90:
                length, room = (0 if box is None else box.height), min(room, self.bbox.height)
            if length > room + 1:
                text.set_text(_folded(text.get_text(), room / length))
                found = True
        return found

    def _repr_png_(self):
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=100)
        return buffer.getvalue()


def _cell_width(axes, figure):
    """Width in pixels of the place in the grid that axes were given."""
    spec = axes.get_subplotspec()
    if spec is None:
        return 0.0
    grid = spec.get_gridspec()
    shares = grid.get_width_ratios()
    columns = range(spec.colspan.start, spec.colspan.stop)
    return figure.bbox.width * sum(shares[column] for column in columns) / sum(shares)


def _rows(axes):
    spec = axes.get_subplotspec()
    return 1 if spec is None else spec.get_gridspec().nrows


def _folded(text, share):
    """Each line of a text on two lines of at most `share` times as many characters as its longest line."""
    lines = text.split("\n")
    most = max(4, int(share * max(map(len, lines))))
    made = []
    for line in lines:
        line = shortened(line, 2 * most - 2)
        if len(line) > most:
            cuts = [place for place in range(len(line) - most, most) if line[place] in " _-/"]
            cut = cuts[len(cuts) // 2] + 1 if cuts else len(line) // 2
            made += [line[:cut].rstrip(), line[cut:]]
        else:
            made.append(line)
    return "\n".join(made)


def shortened(name: str, most: int = 24) -> str:
    """A name of at most `most` characters: the middle of a longer one is left out."""
    if len(name) <= most:
        return name
    end = (most - 1) // 2
    return f"{name[: most - 1 - end]}…{name[len(name) - end :]}"


def told_apart(names: Sequence[str], most: int = 24) -> list[str]:
    """Names of at most `most` characters each that stay different: what is left out of the longer ones is chosen so.

    Args:
        names: Such as the layers of a network, `stage6_block1_depthwise_relu6` and others of the same ends.
        most: Characters, >= 3.
    """
    best = [shortened(name, most) for name in names]
    for end in range(most - 1):
        if len(set(best)) == len(set(names)):
            break
        start = most - 1 - end
        tried = [name if len(name) <= most else f"{name[:start]}…{name[len(name) - end :]}" for name in names]
        if len(set(tried)) > len(set(best)):
            best = tried
    return best


def new_figure(width: float, height: float) -> Canvas:
    """An empty figure of `width` by `height` inches whose parts do not overlap."""
    return Canvas(figsize=(width, height), layout="constrained")


def check_size(owner: str, size: float) -> None:
    """Refuse a value that cannot be the width of a picture in inches.

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

    Raises:
        ValueError: for another shape, an empty array, another kind of dtype than numbers, NaN or infinity.
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
