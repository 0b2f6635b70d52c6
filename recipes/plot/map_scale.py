"""How a map becomes colors: alone or over the image, from what value to what value, and why it is blank."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from matplotlib import cm, colormaps, colors
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.transforms import Bbox

from recipes.plot.canvas import new_figure

#: Whether maps are drawn alone: "auto" draws fine ones alone and lays coarse ones over the image.
Alone: TypeAlias = Literal["auto", True, False]

# Perceptually even, told apart by the color-blind, the strongest value the brightest; the two for signed maps are
# white or black at 0. (Moreland 2016; Crameri et al. 2020, "The misuse of colour in science communication".)
_COLORMAPS = {
    (True, False): colormaps["gray"],
    (True, True): colormaps["RdBu_r"],
    # Without its palest part, which over gray looks like a color of its own.
    (False, False): colors.ListedColormap(colormaps["inferno"](np.linspace(0, 0.92, 256)), "inferno"),
    (False, True): colormaps["berlin"],
}
_TEXTS = {
    (True, False): "alone: 0 to the {percentile:g}th percentile",
    (True, True): "alone: to the {percentile:g}th percentile",
    (False, False): "over the image in gray",
    (False, True): "over the image in gray",
}
_BELOW = 0.75  # inches
_FOR_AND_AGAINST = ("evidence against", "evidence for the class")
_ENDS = {
    (True, False): ("least influence", "most influence"),
    (True, True): _FOR_AND_AGAINST,
    (False, False): ("least", "most evidence for the class"),
    (False, True): _FOR_AND_AGAINST,
}
_LONGEST_BAR, _THICKNESS = 3.4, 0.1  # inches


@dataclasses.dataclass(frozen=True)
class MapScale:
    """How one map is drawn.

    Args:
        alone: Without the image, as fine maps are.
        signed: The map has evidence for and against.
        low, high: Values that get the first and the last color.
        blank: Why there is nothing to see, or an empty text.
    """

    alone: bool
    signed: bool
    low: float
    high: float
    blank: str = ""

    @property
    def colors(self) -> cm.ScalarMappable:
        """Values to colors."""
        scale = colors.Normalize(self.low, self.high, clip=True)
        return cm.ScalarMappable(scale, _COLORMAPS[self.alone, self.signed])


def scale_of(
    values: np.ndarray, *, alone: Alone = "auto", limit: float | None = None, percentile: float = 99
) -> MapScale:
    """Decide how a map `(height, width)` is drawn.

    Args:
        values: Finite numbers.
        alone: See `is_fine`.
        limit: Magnitude that gets the last color; None takes the map's own.
        percentile: In a fine map, the magnitude at this percentile gets the last color, so that a few extreme pixels do
            not hide the rest.
    """
    low, high = float(values.min()), float(values.max())
    signed, fine = low < 0, is_fine(values) if alone == "auto" else bool(alone)
    if low == high:
        blank = f"blank:\nevery value\nis {low:.3g}"
        return MapScale(fine, signed, min(low, 0.0), limit or max(abs(high), 1.0), blank)
    magnitudes = np.abs(values)
    largest = float(np.percentile(magnitudes, percentile)) if fine else float(magnitudes.max())
    # A few bright pixels on black have a percentile of 0: the largest then counts.
    top = limit or largest or float(magnitudes.max())
    start = -top if signed else (0.0 if fine or limit else low)
    return MapScale(fine, signed, start, top)


def is_fine(values: np.ndarray) -> bool:
    """Whether a map changes from pixel to pixel, as gradients do, and not over patches, as maps of a layer do.

    A map is fine when three things hold. Its neighboring values correlate by less than 0.8 (0.2 to 0.6 for gradients of
    photos, 0.99 for resized maps). The mean square of its second differences is more than 1.6 times the mean square of
    its first differences (interpolated values have at most 1.2, noise has 3). And less than half of the neighbors that
    are not 0 are equal; within windows of one value all are.
    """
    if min(values.shape) < 3 or values.max() == values.min():
        return False
    scaled = np.asarray(values, "float64") / np.abs(values).max()
    first = [np.diff(scaled, axis=axis) for axis in (0, 1)]
    second = [np.mean(np.diff(one, axis=axis) ** 2) for axis, one in enumerate(first)]
    squares = [np.mean(one**2) for one in first]
    correlation = 1 - np.mean(squares) / (2 * scaled.var())
    inside = [scaled[1:] != 0, scaled[:, 1:] != 0]
    equal = np.concatenate([one[known] == 0 for one, known in zip(first, inside, strict=True)])
    return bool(correlation < 0.8 and sum(second) > 1.6 * sum(squares) and equal.mean() < 0.5)


def paint(base: np.ndarray, values: np.ndarray, scale: MapScale, opacity: float) -> np.ndarray:
    """The picture of a map: its colors alone, or over the image in gray.

    Over the image the colors have the same `opacity` everywhere. So weak values darken the image, and from an opacity
    of 0.6 every pixel of full strength is brighter than any pixel of strength 0. The shadows of the image are lifted
    before, so that it can still be made out where the map is weak: gray g becomes g ** (1 - 0.8 * opacity).

    Args:
        base: `(height, width, 3)`, 0..1.
        values: `(height, width)`.
        scale: From `scale_of`.
        opacity: Opacity of the colors, in [0, 1].

    Returns:
        `(height, width, 3)`, 0..1.
    """
    if scale.blank:
        return base * np.ones(3) if not scale.alone else np.full(base.shape, 0.5)
    painted = scale.colors.to_rgba(values)[..., :3]
    if scale.alone:
        return painted
    gray = (base @ np.array([0.299, 0.587, 0.114]))[..., None]
    lifted = np.clip(gray, 0, 1) ** (1 - 0.8 * opacity)
    return (1 - opacity) * lifted + opacity * painted


def figure_for_maps(
    width: float, height: float, scales: Sequence[MapScale | None]
) -> tuple[Figure, Figure | SubFigure]:
    """A figure for maps, with room for their scales below (see `add_scales`).

    Args:
        width, height: Inches of the part for the maps.
        scales: The scale of each map of the figure; None for an image without a map.

    Returns:
        The figure, and its part for the maps.
    """
    kinds = _kinds(scales)
    if not kinds:
        figure = new_figure(width, height)
        return figure, figure
    figure = new_figure(max(width, 2.6 * len(kinds), 3.6), height + _BELOW)
    return figure, figure.subfigures(2, 1, height_ratios=(height, _BELOW), hspace=0)[0]


def add_scales(
    figure: Figure,
    scales: Sequence[MapScale | None],
    *,
    percentile: float = 99,
    numbers: bool = False,
    panel: Axes | None = None,
) -> None:
    """Draw a color bar for each kind of map in a figure, and a line below that says how they are scaled.

    Args:
        figure: From `figure_for_maps`, its panels drawn.
        scales, percentile: As in `figure_for_maps` and `scale_of`.
        numbers: True writes the values of the map at the ends of the bar.
        panel: The panel of the only map of a figure: the bar stands below it, as wide as the picture.
    """
    kinds = _kinds(scales)
    if not kinds:
        return
    below = figure.subfigs[1]
    for axes, (kind, one) in zip(below.subplots(1, len(kinds), squeeze=False)[0], kinds.items(), strict=True):
        bar = figure.colorbar(one.colors, cax=axes, orientation="horizontal")
        axes.set_axes_locator(_Place(panel))
        axes.tick_params(labelsize=7)
        axes.set_title(_TEXTS[kind].format(percentile=percentile), fontsize=7, pad=3)
        ends = zip(_ENDS[kind], (one.low, one.high), strict=True)
        bar.set_ticks(
            [one.low, one.high], labels=[f"{end}: {at:.3g}" if numbers else end for end, at in ends]
        )
        for label, side in zip(axes.get_xticklabels(), ("left", "right"), strict=True):
            label.set_horizontalalignment(side)  # within the bar, not beyond the edge of the figure
    if panel is None:
        below.supxlabel("Each map is scaled by itself: colors tell where, not how much.", fontsize=7)


class _Place:
    """Where a bar is drawn: as wide as the picture of a panel, else in the middle of its own place in the grid."""

    def __init__(self, panel):
        self._panel = panel

    def __call__(self, axes, renderer):
        spot, figure = axes.get_position(original=True), axes.get_figure()
        width, height = figure.bbox.width / figure.dpi, figure.bbox.height / figure.dpi
        if self._panel is None:
            long = min(0.86 * spot.width, _LONGEST_BAR / width)
            left = (spot.x0 + spot.x1 - long) / 2
        else:
            self._panel.apply_aspect()
            box = self._panel.get_window_extent(renderer).transformed(figure.transSubfigure.inverted())
            left, long = box.x0, box.width
        return Bbox.from_bounds(left, (spot.y0 + spot.y1) / 2, long, _THICKNESS / height)


def _kinds(scales):
    """One scale of each kind that a figure holds."""
    return {(one.alone, one.signed): one for one in scales if one and not one.blank}


def write_blank(axes: Axes, scale: MapScale, **style: Any) -> None:
    """Say on a panel why there is nothing to see."""
    if scale.blank:
        axes.text(
            *(0.5, 0.5, scale.blank),
            transform=axes.transAxes,
            ha="center",
            va="center",
            fontsize=7,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 2},
            **style,
        )
