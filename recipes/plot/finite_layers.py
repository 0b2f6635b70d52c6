"""finite_layers: where numbers stopped being finite, and when."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from recipes.plot.canvas import new_figure, told_apart
from recipes.plot.monitored import need_probes

if TYPE_CHECKING:
    from recipes.probe.record import Record


def finite_layers(record: "Record") -> Figure:
    """Draw a map of probes (across) and layers in forward order (down): finite, or red where not; the loss above.

    Args:
        record: A `recipes.probe.Record` with `output_finite` measured.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: when the record holds no such checks.
    """
    need_probes(record, "output_finite", "plot.finite_layers", "NonFiniteGuard")
    axis = record.axes
    owners = axis["variables"]["layer"]
    weights = np.array(
        [record.weight_finite[:, owners == layer].all(axis=1) for layer in axis["layers"]["layer"]]
    )
    state = (~record.output_finite.T) * 1 + (~weights) * 2
    names = axis["layers"]["name"]
    figure = new_figure(6, 2.5 + 0.16 * len(names))
    top, bottom = figure.subplots(2, 1, height_ratios=(1.5, 1 + 0.16 * len(names)))
    top.plot(range(len(record)), np.where(np.isfinite(record.loss), record.loss, np.nan), marker=".")
    for broken in np.flatnonzero(~np.isfinite(record.loss)):
        top.axvline(broken, color="red", lw=1)
    top.set(ylabel="loss", xlim=(-0.5, len(record) - 0.5), xticks=[])
    top.set_title("loss at each probe (red: not finite)", fontsize="medium")
    colors = ListedColormap(["#e6efe6", "#f4a3a3", "#d62728", "#8c1414"])
    bottom.imshow(state, aspect="auto", interpolation="nearest", cmap=colors, vmin=-0.5, vmax=3.5)
    bottom.set_yticks(range(len(names)), told_apart([str(name) for name in names], 28), fontsize="x-small")
    ticks = np.unique(np.linspace(0, len(record) - 1, 8).astype(int))
    bottom.set_xticks(ticks, record.step[ticks])
    bottom.set_xlabel("training step")
    title = "layers in forward order; not finite:\noutput (light red), weights (red), both (dark)"
    bottom.set_title(title, fontsize="medium")
    return figure
