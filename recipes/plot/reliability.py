"""reliability: whether probabilities mean what they say, and what is gained by leaving out the doubtful ones."""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from recipes.plot.canvas import new_figure


def reliability(diagram: ArrayLike, coverage: ArrayLike | None = None) -> Figure:
    """Draw accuracy against confidence, beside accuracy against the share of examples answered.

    Sources: DeGroot & Fienberg 1983, https://doi.org/10.2307/2987588; Geifman & El-Yaniv 2017,
    https://arxiv.org/abs/1705.08500

    Args:
        diagram: `(bins, 3)`: mean confidence, accuracy, examples; `Evaluation.reliability`.
        coverage: `(n, 2)`: share of most confident examples, accuracy on it; `Evaluation.coverage`. None leaves the
            second panel out.

    Returns:
        A matplotlib `Figure`. Points below the diagonal are answers with too much confidence; bars are the 95 %
        interval of each bin's accuracy (Wilson 1927, https://doi.org/10.2307/2276774), which stays within 0..1.
    """
    diagram = np.asarray(diagram, "float64")
    figure = new_figure(8.5 if coverage is not None else 4.3, 3.6)
    axes = figure.add_subplot(1, 1 if coverage is None else 2, 1)
    error = _wilson(diagram[:, 1], np.maximum(diagram[:, 2], 1))
    low = min(1.0, float(diagram[:, :2].min()))
    axes.plot([low, 1], [low, 1], color="0.6", linewidth=1)
    axes.errorbar(diagram[:, 0], diagram[:, 1], yerr=error, fmt="o-", markersize=4, linewidth=1, capsize=2)
    axes.set_xlabel("confidence")
    axes.set_ylabel("accuracy")
    axes.set_title("reliability")
    if coverage is not None:
        curve = np.asarray(coverage, "float64")
        axes = figure.add_subplot(1, 2, 2)
        axes.plot(curve[:, 0], curve[:, 1], linewidth=1.5, marker="." if len(curve) < 2 else None)
        axes.set_xlabel("share of examples answered")
        axes.set_ylabel("accuracy on them")
        axes.set_title("coverage")
    return figure


def _wilson(shares, counts):
    """Lengths of the bars below and above the shares `(2, n)`, for the 95 % interval of Wilson's score."""
    z = 1.96
    middle = (shares + z**2 / (2 * counts)) / (1 + z**2 / counts)
    half = z / (1 + z**2 / counts) * np.sqrt(shares * (1 - shares) / counts + z**2 / (4 * counts**2))
    return np.maximum([shares - (middle - half), middle + half - shares], 0)
