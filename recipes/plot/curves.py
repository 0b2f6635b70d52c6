"""curves: how loss, metrics and learning rate went over a training run."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from recipes.plot.canvas import new_figure

_RATE_NAMES = ("learning_rate", "lr")
_MOST_POINTS = 400
_SEVERITIES = {"error": "tab:red", "warning": "tab:brown", "info": "tab:blue"}
_TRAINING, _VALIDATION = "tab:blue", "tab:orange"


def curves(
    history: Mapping[str, Sequence[float]] | Any,
    *,
    metrics: Sequence[str] | None = None,
    window: int | None = None,
    log_loss: bool = False,
    findings: Sequence[Any] = (),
) -> Figure:
    """Draw each metric, training against validation, and the learning rate below.

    Every epoch is a point, and a centered moving average runs through the points; in short runs the line joins them. Of
    more than 400 epochs the points with the smallest and the largest values of 200 equal parts are drawn.
    Values that are NaN or infinite are marked by a cross at the top.

    Args:
        history: A dict `{name: values}`, the `keras.callbacks.History` that `fit` returns, or anything
            with such a dict as its `history`, like `recipes.Run`. `val_loss` is drawn over `loss`. A list shorter than
            the others is spread evenly over the epochs, as `validation_freq` does.
        metrics: Names to draw, without `val_`; None draws all but the monitors' own (`monitor/...`), the loss first.
        window: Points (epochs) in the moving average, odd, >= 1; 1 joins the points. None takes a tenth of them.
        log_loss: True gives the losses a logarithmic axis.
        findings: `diagnose.Finding`s, such as `run.findings`: the first that still holds is written over the curves, a
            dotted line marks the epoch that it was first seen in.

    Returns:
        A matplotlib `Figure`.

    Raises:
        TypeError: when `history` holds no dict.
        ValueError: when there is nothing to draw, a metric is unknown or `window` is not odd.

    Example:
        >>> curves(model.fit(train, validation_data=validation)).savefig("curves.png")
    """
    values = _values(history)
    rate_name = next((name for name in _RATE_NAMES if name in values), None)
    names = _names(values, metrics)
    if window is not None and (window < 1 or window % 2 == 0):
        raise ValueError(
            f"plot.curves expects window to be odd and at least 1. Received window={window}. "
            "Leave it out for a tenth of the points, or type window=1 to join them."
        )
    epochs = max(len(series) for series in values.values())
    first_epoch = min(getattr(history, "epoch", None) or [0]) + 1

    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    figure = new_figure(max(5.5, 4.5 * columns), 3.2 * rows + (1.6 if rate_name else 0))
    heights = [3] * rows + ([1.4] if rate_name else [])
    layout = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    for place, name in enumerate(names):
        axes = figure.add_subplot(layout[place // columns, place % columns])
        for key, color, label in ((name, _TRAINING, "training"), (f"val_{name}", _VALIDATION, "validation")):
            if key in values:
                _draw(axes, values[key], first_epoch, epochs, window, color, label)
        axes.set_title(name.replace("_", " "))
        if "loss" in name and log_loss:
            axes.set_yscale("log")
        _finish(axes, first_epoch, epochs)
        axes.legend(frameon=False, fontsize="small")
    current = [finding for finding in findings if not getattr(finding, "withdrawn", False)]
    if current:
        _write(figure, current[0], first_epoch)
    if rate_name:
        axes = figure.add_subplot(layout[rows, :])
        rates = values[rate_name]
        marker = "." if len(rates) <= _MOST_POINTS else None
        axes.plot(_positions(rates, first_epoch, epochs), rates, color="0.35", marker=marker, linewidth=1)
        # Steps and exponential decay need it; a cosine, which is small for a few epochs only, does not.
        if rates.min() > 0 and rates.max() > 8 * np.median(rates):
            axes.set_yscale("log")
        axes.set_ylabel("learning rate")
        _finish(axes, first_epoch, epochs)
    return figure


def moving_average(values: ArrayLike, window: int) -> np.ndarray:
    """Mean of the finite ones among `window // 2` values on either side and the value itself; NaN where none is.

    Near an end, both sides are cut to the shorter one: a one-sided mean would lift or sink the steep first epochs.
    """
    finite = np.isfinite(values)
    sums = np.concatenate([[0], np.cumsum(np.where(finite, values, 0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    places = np.arange(len(values))
    half = np.minimum(window // 2, np.minimum(places, places[::-1]))
    start, stop = places - half, places + half + 1
    number = counts[stop] - counts[start]
    return np.where(number > 0, (sums[stop] - sums[start]) / np.maximum(number, 1), np.nan)


def _values(history):
    values = getattr(history, "history", history)
    if not isinstance(values, dict):
        raise TypeError(
            "plot.curves expects a dict of lists or what model.fit returns. "
            f"Received {type(history).__name__}. Type plot.curves(model.fit(...))."
        )
    values = {name: np.asarray(series, float).ravel() for name, series in values.items()}
    values = {name: series for name, series in values.items() if len(series)}
    if not values:
        raise ValueError(
            "plot.curves expects at least one epoch. Received an empty history. Call it after model.fit has run."
        )
    return values


def _names(values, metrics):
    found = list(dict.fromkeys(name.removeprefix("val_") for name in values if name not in _RATE_NAMES))
    if metrics is not None:
        names = [metrics] if isinstance(metrics, str) else list(metrics)
        unknown = [name for name in names if name not in found]
    else:
        own = [name for name in found if not name.startswith("monitor/")] or found
        names, unknown = sorted(own, key=lambda name: name != "loss"), []
    if unknown or not names:
        raise ValueError(
            f"plot.curves expects metrics that are in the history: {', '.join(found) or 'there are none'}. "
            f"Received {', '.join(unknown) or 'none'}. Correct the name, or leave metrics out to draw all."
        )
    return names


def _positions(series, first_epoch, epochs):
    every = max(1, epochs // len(series))
    return first_epoch - 1 + every * np.arange(1, len(series) + 1)


def _draw(axes, series, first_epoch, epochs, window, color, label):
    x = _positions(series, first_epoch, epochs)
    finite = np.isfinite(series)
    if window is None:
        window = len(series) // 10
    size = np.clip(400 / len(series), 1.5, 16)
    dots = 1 if window < 2 else 0.35
    shown = finite & _thinned(series)
    axes.scatter(x[shown], series[shown], s=size, color=color, alpha=dots, linewidths=0)
    axes.plot(x, moving_average(series, window), color=color, linewidth=1.6, label=label)
    if not finite.all():
        top = np.full((~finite).sum(), 0.97)
        over = axes.get_xaxis_transform()
        axes.scatter(x[~finite], top, transform=over, color=color, marker="x", s=25, label="not finite")


def _write(figure, finding, first_epoch):
    """The finding in words above the curves, wrapped to their width."""
    letters = int(13 * figure.get_figwidth())
    said = f"{finding.severity}: {finding.title}. {finding.evidence}"
    lines = [*textwrap.wrap(said, letters), *textwrap.wrap(f"What to do: {finding.remedy}", letters)]
    color = _SEVERITIES.get(finding.severity, "black")
    figure.suptitle("\n".join(lines), fontsize="small", color=color, x=0.01, ha="left")
    figure.set_figheight(figure.get_figheight() + 0.17 * len(lines))
    if finding.epoch:
        for axes in figure.axes:
            axes.axvline(max(finding.epoch, first_epoch), color=color, linewidth=1, linestyle=":")


def _thinned(series):
    """Which points of a long series to draw: the smallest and the largest of each of 200 equal parts, and both ends."""
    if len(series) <= _MOST_POINTS:
        return np.ones(len(series), bool)
    shown = np.zeros(len(series), bool)
    shown[[0, -1]] = True
    for part in np.array_split(np.arange(len(series)), _MOST_POINTS // 2):
        values = series[part]
        if np.isfinite(values).any():
            shown[part[[np.nanargmin(values), np.nanargmax(values)]]] = True
    return shown


def _finish(axes, first_epoch, epochs):
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    margin = max(0.5, 0.02 * epochs)
    axes.set_xlim(first_epoch - margin, first_epoch + epochs - 1 + margin)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
