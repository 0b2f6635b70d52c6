"""activation_statistics: the outputs of each layer over a run."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from recipes.plot.canvas import new_figure
from recipes.plot.monitored import depth_colors, dot_size, label_layers, need_probes, step_axis

if TYPE_CHECKING:
    from recipes.probe.record import Record


_PANELS = (
    ("mean", "mean"),
    ("std", "standard deviation"),
    ("zero_fraction", "share of zeros"),
    ("saturated_fraction", "share saturated (sigmoid, tanh, relu6)"),
)


def activation_statistics(record: "Record") -> Figure:
    """Draw mean, standard deviation, share of zeros and share of saturated outputs of every activation by step.

    A share that is zero throughout is left out.

    Args:
        record: A `recipes.probe.Record` with activations measured.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: when the record holds no activations.
    """
    need_probes(record, "mean", "plot.activation_statistics", "ActivationMonitor")
    names, steps = record.axes["activations"]["name"], record.step
    panels = [
        (column, title)
        for column, title in _PANELS
        if not column.endswith("fraction") or (np.nan_to_num(getattr(record, column)) > 0).any()
    ]
    figure = new_figure(9.6, 2.75 * -(-len(panels) // 2) + 1)
    grid = figure.subplots(-(-len(panels) // 2), 2, squeeze=False)
    for axes, (column, title) in zip(grid.flat, panels, strict=False):
        values = getattr(record, column)
        for color, index in zip(depth_colors(len(names)), range(len(names)), strict=True):
            axes.plot(
                steps,
                values[:, index],
                color=color,
                lw=1.2,
                marker=".",
                ms=dot_size(record),
                label=names[index],
            )
        axes.set_title(title, fontsize="medium")
        if column.endswith("fraction"):
            axes.set_ylim(-0.03, 1.03)
        elif column == "std" and (values[np.isfinite(values)] > 0).any():
            axes.set_yscale("log")
        step_axis(axes)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    label_layers(grid.flat[len(panels) - 1], len(names))
    return figure
