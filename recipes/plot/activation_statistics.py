"""activation_statistics: what each layer gives out, over a run."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from recipes.plot.canvas import new_figure
from recipes.plot.monitored import depth_colors, label_layers, need_probes, step_axis

if TYPE_CHECKING:
    from recipes.probe.record import Record


def activation_statistics(record: "Record") -> Figure:
    """Draw mean, standard deviation, share of zeros and share of saturated outputs of every activation by step.

    Args:
        record: A `recipes.probe.Record` with activations measured.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: when the record holds no activations.
    """
    need_probes(record, "mean", "plot.activation_statistics", "ActivationMonitor")
    names, steps = record.axes["activations"]["name"], record.step
    figure = new_figure(10, 5.5)
    grid = figure.subplots(2, 2, sharex=True)
    panels = (
        ("mean", "mean"),
        ("std", "standard deviation"),
        ("zero_fraction", "share of zeros"),
        ("saturated_fraction", "share saturated (sigmoid, tanh, bounded relu)"),
    )
    for axes, (column, title) in zip(grid.flat, panels, strict=True):
        values = getattr(record, column)
        for color, index in zip(depth_colors(len(names)), range(len(names)), strict=True):
            axes.plot(steps, values[:, index], color=color, lw=1.2, marker=".", ms=3, label=names[index])
        axes.set_title(title, fontsize="medium")
        if column.endswith("fraction"):
            axes.set_ylim(-0.03, 1.03)
        elif column == "std" and (values[np.isfinite(values)] > 0).any():
            axes.set_yscale("log")
    for axes in grid[1]:
        step_axis(axes)
    label_layers(grid[0, 1], len(names))
    return figure
