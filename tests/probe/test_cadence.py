import random

import pytest

from recipes.probe.cadence import Budget, Every


def test_every_is_due_once_in_each_execution_that_holds_a_multiple():
    every = Every(4)
    assert [step for step in range(12) if every.due(step, step)] == [0, 4, 8]
    assert [first for first in range(0, 18, 3) if every.due(first, first + 2)] == [0, 3, 6, 12, 15]


def simulate(budget, executions, plain, extra, noise=0.0, alarm_at=None):
    """Run a budget against a made-up clock; return the probed executions and the share of time they took."""
    draw = random.Random(0)
    probed, spent, total = [], 0.0, 0.0
    for execution in range(executions):
        if execution == alarm_at:
            budget.alarm(execution)
        due = budget.due(execution)
        seconds = plain * (1 + noise * draw.random()) + extra * due
        total += seconds
        if due:
            budget.probed(execution)
            if not probed:  # the first one traces
                budget.traced()
            else:
                spent += extra
                budget.timed(seconds, probed=True)
            probed.append(execution)
        else:
            budget.timed(seconds, probed=False)
    return probed, spent / (total - spent)


@pytest.mark.parametrize("relative", [0.02, 0.4, 3.0])
@pytest.mark.parametrize("share", [0.01, 0.1])
def test_budget_is_kept_over_the_run_and_used(share, relative):
    probed, used = simulate(Budget(share, 20_000), 20_000, plain=0.01, extra=0.01 * relative, noise=0.5)
    assert used <= share * 1.1
    assert used >= min(share, relative) * 0.5 or relative < 0.03


def test_budget_probes_early_steps_densely_and_the_steps_after_an_alarm():
    probed, _ = simulate(Budget(0.01, 20_000), 20_000, plain=0.01, extra=0.004, alarm_at=10_000)
    gaps = [b - a for a, b in zip(probed, probed[1:], strict=False)]
    assert probed[:4] == [1, 2, 3, 4] and gaps[30] > 5
    assert {10_001, 10_002, 10_003, 10_004, 10_005} <= set(probed)


def test_a_budget_leaves_the_first_step_of_a_run_alone_unless_it_is_the_only_one():
    assert [Budget(0.01, length).due(0) for length in (1, 2, 1000, None)] == [True, False, False, False]


def test_budget_of_an_unknown_length_still_bounds_the_share():
    _, used = simulate(Budget(0.01), 30_000, plain=0.01, extra=0.005)
    assert 0.005 < used < 0.014


@pytest.mark.parametrize("share", [0, -0.1, 1.5, True, "1%"])
def test_budget_outside_0_1_is_refused(share):
    with pytest.raises(ValueError, match=r"in \(0, 1\]"):
        Budget(share)


@pytest.mark.parametrize("steps", [0, -3, 2.5, True])
def test_every_below_one_step_is_refused(steps):
    with pytest.raises(ValueError, match="integer number of training steps"):
        Every(steps)
