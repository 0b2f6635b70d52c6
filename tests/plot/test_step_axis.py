"""Training steps are whole numbers, also where a run was too short for more than one probe."""

import numpy as np
import pytest

from recipes.plot.canvas import new_figure
from recipes.plot.monitored import step_axis


@pytest.mark.parametrize("steps", [[0], [0, 1], [3, 4, 5], list(range(0, 5000, 50))])
def test_ticks_of_a_step_axis_are_whole_steps(steps):
    axes = new_figure(6, 4).add_subplot()
    axes.plot(steps, np.ones(len(steps)), marker=".")
    step_axis(axes)
    low, high = axes.get_xlim()
    shown = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert shown and all(tick == round(tick) for tick in shown)
    assert axes.get_xlabel() == "training step"
