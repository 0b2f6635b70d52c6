"""compared_curves: the same metrics of several runs in common axes."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from recipes.plot.canvas import new_figure, shortened


def compared_curves(
    histories: Mapping[str, Mapping[str, Sequence[float]]], *, metrics: Sequence[str] | None = None
) -> Figure:
    """Draw each metric of several runs into one panel, one color per run; validation is solid, training dashed.

    Args:
        histories: The history of each run by its name: `{"a": {"loss": [...], "val_loss": [...]}, ...}`.
        metrics: Names to draw, without `val_`; None draws all but the monitors' own (`monitor/...`).

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: when there is nothing to draw.
    """
    names = [name for history in histories.values() for name in history]
    if metrics is None:
        metrics = [n for n in dict.fromkeys(names) if not n.startswith("val_") and "/" not in n]
    metrics = sorted(metrics, key=lambda name: (name == "learning_rate", name != "loss"))
    if not metrics:
        raise ValueError(
            "plot.compared_curves expects at least one metric of one epoch. Received none. Give the histories of runs "
            "that were trained."
        )
    columns = min(3, len(metrics))
    rows = -(-len(metrics) // columns)
    figure = new_figure(4.5 * columns, 3.2 * rows)
    for place, metric in enumerate(metrics, start=1):
        axes = figure.add_subplot(rows, columns, place)
        for number, (run, history) in enumerate(histories.items()):
            both = f"val_{metric}" in history
            # matplotlib leaves out of its legend what begins with an underscore.
            name = shortened(f" {run}" if str(run).startswith("_") else str(run), 28)
            for key, style in ((metric, "--" if both else "-"), (f"val_{metric}", "-")):
                if key in history:
                    label = name if key != metric or not both else None
                    epochs = np.arange(1, len(history[key]) + 1)
                    dot = "." if len(epochs) < 2 else None
                    axes.plot(epochs, history[key], style, color=f"C{number % 10}", label=label, marker=dot)
        axes.set_title(metric.replace("_", " "))
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False, fontsize="small")
    return figure
