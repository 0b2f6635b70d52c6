"""learning_rate_range_test: loss against learning rate."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from recipes.plot.canvas import new_figure


def learning_rate_range_test(result: Any) -> Figure:
    """Draw a learning-rate range test: loss of each step, smoothed, and the rates it suggests.

    Args:
        result: What `recipes.diagnose.learning_rate_range_test` returned, or anything with its `rates`, `losses`,
            `smoothed`, `steepest` and `below_minimum`.

    Returns:
        A matplotlib `Figure`.
    """
    figure = new_figure(7, 4)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.set_xlim(result.rates[0], result.rates[-1])
    axes.semilogx(result.rates, result.losses, ".", color="tab:blue", ms=4, alpha=0.5, label="each step")
    axes.semilogx(result.rates, result.smoothed, color="tab:blue", label="smoothed")
    for rate, name, style in (
        (result.steepest, "steepest descent", "-"),
        (result.below_minimum, "a decade below the minimum", "--"),
    ):
        if rate is not None:
            axes.axvline(rate, color="tab:green", ls=style, label=f"{name}: {rate:.2g}")
    known = np.asarray(result.smoothed)[np.isfinite(result.smoothed)]
    if known.size:
        margin = 0.15 * max(known[0] - known.min(), 0.1 * abs(known[0]))
        axes.set_ylim(known.min() - margin, known[0] + 4 * margin)
    axes.set(xlabel="learning rate", ylabel="loss of the batch", title="learning-rate range test")
    axes.legend(fontsize="small")
    return figure
