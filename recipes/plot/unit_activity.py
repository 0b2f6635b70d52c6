"""unit_activity: how often each rectified unit fires, over a run."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from recipes.plot.canvas import new_figure
from recipes.plot.monitored import need_probes

if TYPE_CHECKING:
    from recipes.probe.record import Record

_MOST_LAYERS = 12


def unit_activity(record: "Record", dead_units: Mapping[str, Sequence[int]] | None = None) -> Figure:
    """Draw one panel per rectified layer: steps across, units down, bright where a unit fires on many samples.

    Units are sorted by their rate over the last quarter of the probes, so that silent ones are at the bottom;
    confirmed dead units are marked red at the right edge. Of more than 12 layers those with most silent units are
    shown.

    Args:
        record: A `recipes.probe.Record` with activations measured.
        dead_units: `{layer: [unit, ...]}` to mark, as `DeadReluDetector.dead_units`.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: when the record holds no rectified activations.
    """
    need_probes(record, "mean", "plot.unit_activity", "DeadReluDetector")
    axis = record.axes["activations"]
    chosen = np.flatnonzero(np.isin(axis["kind"], ("relu", "leaky_relu")))
    if not chosen.size:
        raise ValueError(
            "plot.unit_activity expects a record of a model with ReLU layers. Received one whose activations are "
            f"{', '.join(sorted(set(axis['kind'].tolist()))) or 'none'}. There is nothing to draw."
        )
    silent = [np.mean(record.activity(axis["name"][i])[1][-1] == 0) for i in chosen]
    chosen = np.sort(chosen[np.argsort(silent, kind="stable")[::-1][:_MOST_LAYERS]])
    columns = min(len(chosen), 4)
    rows = -(-len(chosen) // columns)
    figure = new_figure(2.8 * columns + 0.8, 2.6 * rows + 0.8)
    panels = figure.subplots(rows, columns, squeeze=False)
    image = None
    for axes, index in zip(panels.flat, chosen, strict=False):
        layer = str(axis["layer"][index])
        _, rates = record.activity(axis["name"][index])
        order = np.argsort(-rates[-len(rates) // 4 :].mean(axis=0), kind="stable")
        image = axes.imshow(
            rates[:, order].T, aspect="auto", interpolation="nearest", cmap="magma", vmin=0, vmax=1
        )
        dead = np.flatnonzero(np.isin(order, (dead_units or {}).get(layer, [])))
        if dead.size:
            marks = np.full(dead.size, len(rates) - 0.5)
            axes.plot(marks, dead, "s", color="red", ms=4, clip_on=False, in_layout=False)
        count = f": {dead.size} of {order.size} dead" if dead_units is not None else ""
        axes.set_title(axis["name"][index] + count, fontsize="small")
        axes.set(xticks=[], yticks=[])
    for axes in panels.flat[len(chosen) :]:
        axes.set_axis_off()
    figure.supxlabel("probes, first to last", fontsize="small")
    figure.supylabel("units, most active on top", fontsize="small")
    figure.colorbar(image, ax=panels[:, -1], label="share of outputs above zero", shrink=0.8)
    return figure
