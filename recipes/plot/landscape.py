"""landscape: the loss around trained weights, as lines or as a map with contours."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from recipes.common.types import LandscapeLike
from recipes.plot.canvas import check_size, new_figure


def landscape(
    landscapes: LandscapeLike | Mapping[str, LandscapeLike], *, size: float = 4.0, title: str | None = None
) -> Figure:
    """Draw what `explain.loss_landscape` measured.

    Args:
        landscapes: One result, or a dict `{name: result}`, all of one or all of two dimensions. Lines share an
            axis; maps stand side by side on one scale.
        size: Width of a panel in inches.
        title: Text above all.

    Returns:
        A matplotlib `Figure`. Losses are drawn on a logarithmic scale.

    Raises:
        ValueError: when there is nothing to draw, lines are mixed with maps, or `size` is outside 0.05 to 50.
    """
    check_size("plot.landscape", size)
    named = landscapes if isinstance(landscapes, dict) else {"": landscapes}
    ranks = {np.ndim(one.loss) for one in named.values()}
    if len(ranks) != 1:
        raise ValueError(
            f"plot.landscape expects landscapes of one kind. Received {len(named)} with losses of rank "
            f"{sorted(ranks)}. "
            "Measure all with the same dimensions=."
        )
    if ranks == {1}:
        figure = new_figure(1.5 * size, size)
        axes = figure.subplots()
        for name, one in named.items():
            axes.plot(one.offsets, one.loss, marker=".", label=name or None)
        axes.set(xlabel="distance from the trained weights, in filter lengths", ylabel="loss", yscale="log")
        if any(named):
            axes.legend()
    else:
        figure = new_figure(size * len(named), 0.9 * size)
        every = np.concatenate([one.loss[np.isfinite(one.loss)] for one in named.values()])
        levels = np.geomspace(max(every.min(), 1e-6), max(every.max(), 2e-6), 24)
        panels = figure.subplots(1, len(named), squeeze=False)[0]
        for axes, (name, one) in zip(panels, named.items(), strict=True):
            loss = np.clip(one.loss, levels[0], levels[-1])
            filled = axes.contourf(one.offsets, one.offsets, loss, levels=levels, norm="log", cmap="viridis")
            axes.contour(one.offsets, one.offsets, loss, levels=levels, colors="white", linewidths=0.4)
            axes.plot(0, 0, "o", color="tab:red", markersize=4)
            axes.set(xlabel="second direction", ylabel="first direction", title=name, aspect="equal")
        bar = figure.colorbar(filled, ax=panels, label="loss", format="%.2g")
        bar.minorticks_off()
    if title is not None:
        figure.suptitle(title)
    return figure
