"""gradient_flow: the size of the gradients from the first layer to the last."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from recipes.plot.canvas import new_figure
from recipes.plot.monitored import dot_size, layer_ticks, need_probes, step_axis

if TYPE_CHECKING:
    from recipes.probe.record import Record


def gradient_flow(record: "Record") -> Figure:
    """Draw each kernel's root mean square gradient by depth, late probes dark, and the norm of all of them by step.

    Args:
        record: A `recipes.probe.Record` with `gradient_norm` measured.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: when the record holds no gradient norms.
    """
    need_probes(record, "gradient_norm", "plot.gradient_flow", "GradientMonitor")
    axis, norms = record.axes["variables"], record.gradient_norm.astype("float64")
    kernels = np.flatnonzero(axis["role"] == "kernel")
    kernels = kernels[np.argsort(axis["depth"][kernels], kind="stable")]
    rms = norms[:, kernels] / np.sqrt(axis["size"][kernels])
    rms = np.where(rms > 0, rms, np.nan)
    figure = new_figure(9.6, 4)
    left, right = figure.subplots(1, 2)
    shown = np.unique(np.linspace(0, len(record) - 1, 12).astype(int))
    for place, row in enumerate(shown):
        shade = 0.15 + 0.85 * (place + 1) / len(shown)
        newest = place == len(shown) - 1
        left.plot(rms[row], color="tab:blue", alpha=shade, lw=2 if newest else 1, marker=".")
    layer_ticks(left, axis["layer"][kernels])
    if np.isfinite(rms[shown]).any():
        left.set_yscale("log")
    left.set(ylabel="root mean square gradient", title="gradients by depth (dark: late in the run)")
    total = np.sqrt(np.nansum(np.square(norms), axis=1))
    right.plot(
        record.step, np.where(total > 0, total, np.nan), color="tab:blue", marker=".", ms=dot_size(record)
    )
    if np.isfinite(total).all() and (total > 0).any():
        right.set_yscale("log")
    right.set_title("norm of all gradients")
    step_axis(right)
    return figure
