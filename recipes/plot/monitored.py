"""What the pictures of a `recipes.probe.Record` share."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from recipes.plot.canvas import told_apart

if TYPE_CHECKING:
    from recipes.probe.record import Record

_MOST_NAMES = 24


def need_probes(record: "Record", column: str, owner: str, monitor: str) -> None:
    """Raise a `ValueError` when the record has nothing in this column to draw."""
    if not len(record) or column not in record.measured:
        raise ValueError(
            f"{owner} expects a record with {column} measured. Received one with {len(record)} probes of "
            f"{', '.join(record.measured) or 'nothing'}. Train with callbacks=[{monitor}()] first."
        )


def depth_colors(count: int) -> np.ndarray:
    """One color per layer, dark at the input and light at the output, each visible on a white and on a black page.

    Args:
        count: Layers, >= 0.

    Returns:
        float64 `(count, 4)`: red, green, blue and opacity from 0 to 1.
    """
    return matplotlib.colormaps["viridis"](np.linspace(0.25, 0.75, count))


def dot_size(record: "Record") -> int:
    """Points across the dot of a probe: of few probes it is all that there is to see."""
    return 4 if len(record) > 3 else 8


def step_axis(axes: Axes) -> None:
    """Name the horizontal axis, and mark whole steps only: a short run has one probe or two."""
    axes.set_xlabel("training step")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    low, high = axes.get_xlim()
    if high - low < 1:
        axes.set_xlim(low - 0.5, high + 0.5)


def layer_ticks(axes: Axes, names: Sequence[str]) -> None:
    """Names of layers below the axes, upright and shortened; of many layers only every second, third, ... one."""
    every = -(-len(names) // _MOST_NAMES)
    places = range(0, len(names), every)
    labels = told_apart([str(names[place]) for place in places])
    axes.set_xticks(places, labels, rotation=90, fontsize="small")


def label_layers(axes: Axes, count: int) -> None:
    """A legend below the axes; of many layers only the first and the last few."""
    handles, labels = axes.get_legend_handles_labels()
    title = None
    if count > 12:
        handles, labels = handles[:5] + handles[-5:], labels[:5] + labels[-5:]
        title = f"the first and the last of {count} layers"
    axes.legend(
        handles,
        told_apart(labels),
        loc="upper center",
        bbox_to_anchor=(0.5, -0.2),
        ncols=2,
        frameon=False,
        fontsize="small",
        title=title,
        title_fontsize="small",
    )
