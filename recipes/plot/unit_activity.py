"""unit_activity: how often each rectified unit fires, over a run."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure

from recipes.plot.canvas import new_figure, shortened
from recipes.plot.monitored import need_probes

if TYPE_CHECKING:
    from recipes.probe.record import Record

_MOST_LAYERS = 12
# Share of outputs above zero that has the first color; smaller shares have it too, but not zero.
_LOWEST = 1e-3
_MOST_TICKS = 4
# Begins well above black, which is for units that are never above zero.
_COLORS = ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0.3, 1, 256))).with_extremes(
    under="black"
)


def unit_activity(record: "Record", dead_units: Mapping[str, Sequence[int]] | None = None) -> Figure:
    """Draw one panel per rectified layer: steps across, units down, bright where a unit fires on many samples.

    The scale is logarithmic, from 0.1 % to 100 % of the outputs above zero, so that a unit that fires on 2 % of the
    samples can be seen to be alive. Only black is zero. Units are sorted by their rate over the last quarter of the
    probes, so that silent ones are at the bottom; confirmed dead units are marked red at the right edge. Of more than
    12 layers those with most silent units are shown.

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
    columns = min(len(chosen), 3)
    rows = -(-len(chosen) // columns)
    figure = new_figure(2.6 * columns + 0.4, 2.4 * rows + 1.1)
    panels = figure.subplots(rows, columns, squeeze=False)
    image = None
    for axes, index in zip(panels.flat, chosen, strict=False):
        layer = str(axis["layer"][index])
        steps, rates = record.activity(axis["name"][index])
        order = np.argsort(-rates[-len(rates) // 4 :].mean(axis=0), kind="stable")
        shown = np.where(rates > 0, np.maximum(rates, 1.001 * _LOWEST), _LOWEST / 10)[:, order].T
        scale = LogNorm(_LOWEST, 1)
        image = axes.imshow(shown, aspect="auto", interpolation="nearest", cmap=_COLORS, norm=scale)
        dead = np.flatnonzero(np.isin(order, (dead_units or {}).get(layer, [])))
        if dead.size:
            marks = np.full(dead.size, len(rates) - 0.5)
            axes.plot(marks, dead, "s", color="red", ms=4, clip_on=False, in_layout=False)
        count = f": {dead.size} of {order.size} dead"
        if dead_units is None:
            count = f"\n{int(np.sum(rates[-1] == 0))} of {order.size} silent"
        axes.set_title(shortened(str(axis["name"][index]), 40) + count, fontsize="small")
        places = np.unique(np.linspace(0, len(steps) - 1, _MOST_TICKS).round().astype(int))
        axes.set_xticks(places, [str(step) for step in steps[places]])
        axes.set_yticks([])
    for axes in panels.flat[len(chosen) :]:
        axes.set_axis_off()
    figure.supxlabel("training step")
    figure.supylabel("units, most active on top")
    bar = figure.colorbar(
        image, ax=panels, location="bottom", fraction=0.2, shrink=min(0.9, 1.6 / columns**0.9), aspect=30
    )
    bar.set_ticks([_LOWEST, 0.01, 0.1, 1], labels=["0.1%", "1%", "10%", "100%"])
    bar.minorticks_off()
    bar.set_label("share of outputs above zero; black: none", fontsize="medium")
    return figure
