"""search_trials: what a search for settings tried, and what came of it."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from recipes.plot.canvas import new_figure, shortened

if TYPE_CHECKING:
    import optuna


def search_trials(study: "optuna.Study") -> Figure:
    """Draw every trial as a line through its settings, and random trials against a grid of as many.

    Left, parallel coordinates: one axis per setting (log where it was searched so), the value last; the better a trial,
    the darker its line; pruned trials are dotted. Right, the first two settings that are numbers: points are the
    trials, and crosses are the grid that would have cost as much. Marks along the edges are the values of each setting
    that the trials and the grid try (Bergstra & Bengio 2012, figure 1).

    Args:
        study: The `optuna.Study` that `recipes.tune.search` returned.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: when no trial has finished.
    """
    trials = [trial for trial in study.trials if trial.params and trial.state.is_finished()]
    done = [trial for trial in trials if trial.state.name == "COMPLETE"]
    if not done:
        raise ValueError(
            "plot.search_trials expects a study with at least one complete trial. Received one with "
            f"{len(study.trials)} trials, none of them complete. Look at their user_attrs['ended']."
        )
    names = list(done[0].params)
    distributions = done[0].distributions
    better = np.array([trial.value for trial in done]) * (1 if study.direction.name == "MAXIMIZE" else -1)
    numbers = [name for name in names if hasattr(distributions[name], "low")][:2]
    figure = new_figure(12 if len(numbers) == 2 else 8, 4.5)
    panels = (
        figure.subplots(1, 2, squeeze=False, width_ratios=(3, 2))[0]
        if len(numbers) == 2
        else [figure.add_subplot()]
    )
    _parallel(panels[0], trials, done, better, names, distributions)
    if len(numbers) == 2:
        _against_grid(panels[1], trials, numbers, distributions)
    return figure


def _parallel(axes, trials, done, better, names, distributions):
    rank = {
        trial.number: place / max(len(done) - 1, 1)
        for place, trial in enumerate(np.array(done)[np.argsort(better)])
    }
    values = np.array([trial.value for trial in done])
    low, high = values.min(), values.max()
    for trial in trials:
        heights = [_height(trial.params[name], distributions[name]) for name in names]
        if trial.number in rank:
            heights.append((trial.value - low) / (high - low) if high > low else 0.5)
            shade = rank[trial.number]
            axes.plot(
                heights, color="tab:blue", alpha=0.15 + 0.85 * shade, lw=0.8 + 1.6 * shade, zorder=2 + shade
            )
        else:
            axes.plot(heights, color="tab:gray", alpha=0.6, lw=0.8, ls=":")
    for place, name in enumerate(names):
        axes.axvline(place, color="black", lw=0.8, alpha=0.6)
        for height, text in _ticks(distributions[name]):
            axes.text(place + 0.03, height, text, fontsize="x-small", va="center")
    axes.axvline(len(names), color="black", lw=0.8, alpha=0.6)
    for height, value in ((0, low), (1, high)):
        axes.text(len(names) + 0.03, height, f"{value:.3g}", fontsize="x-small", va="center")
    most = max(8, 64 // (len(names) + 1))
    axes.set_xticks(range(len(names) + 1), [*(shortened(name, most) for name in names), "value"])
    axes.set(yticks=[], xlim=(-0.1, len(names) + 0.4), ylim=(-0.06, 1.06))
    axes.set_title("settings of each trial (dark: better, dotted: ended early)", fontsize="medium")
    for side in axes.spines.values():
        side.set_visible(False)


def _against_grid(axes, trials, names, distributions):
    points = np.array(
        [[_height(trial.params[name], distributions[name]) for name in names] for trial in trials]
    )
    side = max(1, int(np.sqrt(len(trials))))
    ticks = (np.arange(side) + 0.5) / side
    grid = np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2)
    axes.plot(*points.T, "o", color="tab:blue", ms=5, label=f"{len(trials)} trials")
    axes.plot(*grid.T, "x", color="tab:orange", ms=6, label=f"a grid of {side} x {side}")
    axes.plot(points[:, 0], np.full(len(points), -0.06), "|", color="tab:blue", clip_on=False)
    axes.plot(ticks, np.full(side, -0.1), "|", color="tab:orange", clip_on=False)
    axes.plot(np.full(len(points), -0.06), points[:, 1], "_", color="tab:blue", clip_on=False)
    axes.plot(np.full(side, -0.1), ticks, "_", color="tab:orange", clip_on=False)
    for set_ticks, name in ((axes.set_xticks, names[0]), (axes.set_yticks, names[1])):
        places = _ticks(distributions[name])
        set_ticks([height for height, _ in places], [text for _, text in places])
    axes.set(xlabel=names[0], ylabel=names[1], xlim=(-0.12, 1.04), ylim=(-0.12, 1.04))
    axes.set_title("values tried: at random, and by a grid", fontsize="medium")
    axes.legend(fontsize="small")


def _height(value, distribution):
    """Where a value lies on its axis, 0 at the bottom and 1 on top."""
    if not hasattr(distribution, "low"):
        return distribution.choices.index(value) / max(len(distribution.choices) - 1, 1)
    turn = np.log if distribution.log else float
    low, high = turn(distribution.low), turn(distribution.high)
    return float((turn(value) - low) / (high - low))


def _ticks(distribution):
    if not hasattr(distribution, "low"):
        return [(_height(choice, distribution), str(choice)) for choice in distribution.choices]
    low, high = distribution.low, distribution.high
    values = np.geomspace(low, high, 4) if distribution.log else np.linspace(low, high, 4)
    return [(_height(value, distribution), f"{value:.2g}") for value in values]
