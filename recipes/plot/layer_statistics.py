"""layer_statistics: activations and gradients by depth, of one batch."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from recipes.plot.canvas import new_figure
from recipes.plot.monitored import layer_ticks


def layer_statistics(result: Any) -> Figure:
    """Draw spread, zeros and gradients of every layer, in forward order.

    Args:
        result: What `recipes.diagnose.activation_statistics` returned.

    Returns:
        A matplotlib `Figure`.
    """
    layers = result.layers
    figure = new_figure(max(7, 1.5 + 0.16 * len(layers)), 6.5)
    panels = figure.subplots(3, 1, sharex=True)
    place = np.arange(len(layers))
    for axes, title, rows in (
        (panels[0], "standard deviation of the output", (("all", "std"), ("between examples", "sample_std"))),
        (panels[1], "share of outputs", (("zero", "zero_fraction"), ("saturated", "saturated_fraction"))),
        (panels[2], "root mean square of d loss / d output", (("gradient", "gradient_rms"),)),
    ):
        for label, field in rows:
            values = np.array([getattr(layer, field) for layer in layers])
            if title.startswith("share"):
                axes.plot(place, values, ".-", label=label)
            else:
                axes.semilogy(place, np.where(values > 0, values, np.nan), ".-", label=label)
                low, high = axes.get_ylim()
                if high < 30 * low:  # whole decades, so that powers of ten alone are written
                    axes.set_ylim(low / 10, high * 10)
        axes.set_title(title, fontsize="medium")
        axes.legend(fontsize="small")
    panels[1].set_ylim(-0.03, 1.03)
    layer_ticks(panels[2], [layer.name for layer in layers])
    return figure
