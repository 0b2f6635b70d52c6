"""update_ratios: how far each step moved each layer's weights, over a run."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from recipes.plot.canvas import new_figure
from recipes.plot.monitored import depth_colors, dot_size, label_layers, need_probes, step_axis

if TYPE_CHECKING:
    from recipes.probe.record import Record


def update_ratios(record: "Record", *, low: float = 1e-4, high: float = 1e-2) -> Figure:
    """Draw |dW| / |W| of every kernel over the training steps, first layer dark, last layer light.

    A network that never updates is shown as such, without the shaded range.

    Args:
        record: A `recipes.probe.Record` with `update_norm` measured.
        low: Lower edge of the shaded healthy range.
        high: Upper edge of the shaded healthy range.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: when the record holds no update norms.
    """
    need_probes(record, "update_norm", "plot.update_ratios", "UpdateRatioMonitor")
    axis = record.axes["variables"]
    kernels = np.flatnonzero(axis["role"] == "kernel")
    ratios = np.where(record.update_ratio > 0, record.update_ratio, np.nan)
    figure = new_figure(5.6, 4.8)
    axes = figure.add_subplot()
    for color, index in zip(depth_colors(len(kernels)), kernels, strict=True):
        axes.plot(
            record.step,
            ratios[:, index],
            color=color,
            lw=1.2,
            marker=".",
            ms=dot_size(record),
            label=axis["layer"][index],
        )
    drawn = ratios[:, kernels][np.isfinite(ratios[:, kernels])]
    title = "update ratio of each kernel"
    if drawn.size:
        axes.axhspan(low, high, color="tab:green", alpha=0.12, lw=0)
        axes.axhline(1e-3, color="tab:green", lw=0.8, ls="--")
        axes.set_yscale("log")
        axes.set_ylim(min(drawn.min(), low) / 2, max(drawn.max(), high) * 2)
        title += " (shaded: healthy)"
    else:
        axes.text(0.5, 0.5, "no update of any size", ha="center", va="center", transform=axes.transAxes)
        axes.set_yticks([])
    axes.set(ylabel="|dW| / |W|", title=title)
    step_axis(axes)
    label_layers(axes, len(kernels))
    return figure
