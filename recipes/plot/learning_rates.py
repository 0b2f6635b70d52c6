"""learning_rates: the learning rate of every step, and the steps at which something was kept."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from recipes.common.validation import as_numbers
from recipes.plot.canvas import new_figure


def learning_rates(
    values: ArrayLike,
    marks: Sequence[int] = (),
    *,
    steps: ArrayLike | None = None,
    steps_per_epoch: int | None = None,
    label: str = "snapshot",
) -> Figure:
    """Draw a learning-rate schedule step by step.

    Args:
        values: Rates of steps 0, 1, ...: an array, as any schedule of `recipes.schedules` gives for
            `np.arange(steps)`.
        marks: Numbers of steps after which something happened, 1 to `len(values)`, such as `SnapshotEnsemble.ends`.
        steps: The step of each rate, increasing, where these are not 0, 1, ...; not together with `marks`.
        steps_per_epoch: Batches per epoch; the axis then counts epochs.
        label: Name of the marks, for the legend.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: when there is no rate, a mark lies outside the run, or steps are not one for each rate.
    """
    values = as_numbers("plot.learning_rates", "values", values)
    marks = as_numbers("plot.learning_rates", "marks", marks, "int64")
    if values.ndim != 1 or not len(values) or ((marks < 1) | (marks > len(values))).any():
        raise ValueError(
            "plot.learning_rates expects one rate per step and marks between 1 and the number of steps. "
            f"Received shape {values.shape} and marks {marks.tolist()}. Write schedule(np.arange(steps))."
        )
    places = np.arange(len(values))
    if steps is not None:
        places = as_numbers("plot.learning_rates", "steps", steps)
        if places.shape != values.shape or (np.diff(places) <= 0).any() or len(marks):
            raise ValueError(
                "plot.learning_rates expects one increasing step per rate, and no marks with steps. Received steps of "
                f"shape {places.shape} for {len(values)} rates and {len(marks)} marks. Leave steps out for 0, 1, ..."
            )
    scale = 1 if steps_per_epoch is None else steps_per_epoch
    figure = new_figure(5.6, 2.8)
    axes = figure.add_subplot()
    axes.plot(places / scale, values, color="0.35", linewidth=1.2)
    if len(marks):
        axes.plot(
            marks / scale,
            values[marks - 1],
            "o",
            color="tab:orange",
            markersize=6,
            label=label,
            clip_on=False,
        )
        axes.legend(frameon=False, fontsize="small", loc="upper right")
    axes.set_xlabel("step" if steps_per_epoch is None else "epoch")
    axes.set_ylabel("learning rate")
    axes.set_xlim(0, (places[-1] + 1) / scale)
    axes.set_ylim(0, 1.08 * values.max() or 1)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
