"""activation_histograms: what each initializer does to the activations of a deep network, layer by layer."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from recipes.plot.canvas import new_figure


def activation_histograms(
    comparison: Mapping[str, Sequence[Any]],
    *,
    columns: int = 8,
    same_axis: bool = True,
    title: str | None = None,
) -> Figure:
    """Draw one row of histograms per initializer, from the first layer on the left to the last on the right.

    The histograms of a row share their horizontal axis, so that activations which vanish shrink to a line from left to
    right, those which explode grow from one, and healthy ones look alike. Heights are each layer's own.

    Args:
        comparison: What `recipes.initialize.compare` returns: a dictionary from title to a list of histograms.
        columns: Largest number of layers shown in a row, >= 2; of deeper networks, layers spread evenly from first to
            last.
        same_axis: False lets each histogram fill its own axis, to compare shapes instead of sizes.
        title: Text above all.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: when there is nothing to draw, or `columns < 2`.

    Example:
        >>> activation_histograms(initialize.compare(build, initialize.COMMON_SCHEMES, images))
    """
    if not comparison or not all(comparison.values()) or columns < 2:
        raise ValueError(
            "plot.activation_histograms expects the result of recipes.initialize.compare, and columns >= 2. "
            f"Received {len(comparison)} rows and columns={columns}. "
            "Type activation_histograms(initialize.compare(build, initialize.COMMON_SCHEMES, images))."
        )
    deepest = max(map(len, comparison.values()))
    columns = min(columns, deepest)
    figure = new_figure(1.5 * columns + 0.4, 1.35 * len(comparison) + (0.4 if title is not None else 0))
    grid = figure.subplots(len(comparison), columns, squeeze=False)
    for place, (name, layers) in enumerate(comparison.items()):
        row = grid[place]
        for axes in row:
            axes.set_yticks([])
            axes.spines[["left", "right", "top"]].set_visible(False)
        # Layers spread evenly, the first and the last among them.
        shown = np.unique(np.linspace(0, len(layers) - 1, min(columns, len(layers))).round().astype(int))
        ends = min(layer.edges[0] for layer in layers), max(layer.edges[-1] for layer in layers)
        for axes, index in zip(row, shown, strict=False):
            layer = layers[index]
            _bars(axes, layer, *(ends if same_axis else (layer.edges[0], layer.edges[-1])))
            if place == 0:
                axes.set_title(f"layer {index + 1}", fontsize="small")
        row[0].set_ylabel(name, fontsize="small")
        for axes in row[len(shown) :]:
            axes.set_axis_off()
    if title is not None:
        figure.suptitle(title)
    return figure


def _bars(axes, layer, low, high):
    widths = np.diff(layer.edges)
    # The border keeps bars visible that are thinner than a pixel.
    axes.bar(layer.edges[:-1], layer.counts, widths, align="edge", color="tab:blue", ec="tab:blue", lw=0.5)
    # A spike, such as the zeros of ReLU, may leave the top of the picture so that the rest can be seen.
    heights = np.sort(layer.counts)
    if heights[-1] > 4 * max(heights[-2] if len(heights) > 1 else 0, 1):
        axes.set_ylim(0, 1.3 * max(heights[-2] if len(heights) > 1 else 0, 1))
    axes.set_xlim(low, high)
    axes.set_xticks([low, high], [f"{low:.2g}", f"{high:.2g}"], fontsize="x-small")
    for label, side in zip(axes.get_xticklabels(), ("left", "right"), strict=True):
        label.set_horizontalalignment(side)
    zeros = f", {layer.zeros:.0%} zero" if layer.zeros > 0.005 else ""
    axes.set_xlabel(f"std {layer.std:.2g}{zeros}", fontsize="x-small", labelpad=1)
