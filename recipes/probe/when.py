"""Which executions of one fit are probed: what the monitors ask for, what the budget allows, what writes weights."""

from collections.abc import Iterable
from typing import Any

from recipes.probe.cadence import Budget, Every

_WORKERS_EVERY = 100


class When:
    """Decides before each execution of training steps whether it is probed.

    Attributes:
        executions: Executions that have begun.
        budget: The `Budget` by the clock, or None where every monitor has `every_steps`.
        urgent: Whether the next probe is to be read at once.
    """

    def __init__(self) -> None:
        self.executions = 0
        self.budget: Budget | None = None
        self.urgent = False
        self._cadences: list[Every] = []
        self._forced = self._owed = False
        self._accumulation, self._aligns = 1, True
        self._micro_steps = 0

    def start(
        self,
        monitors: Iterable[Any],
        *,
        executions: int | None,
        several_workers: bool,
        accumulation: int,
        stride: int,
    ) -> list[str]:
        """Read what the monitors ask for; return notes for the record.

        Args:
            monitors: The monitors, each with `every_steps`, `budget` and `checks_every_step`.
            executions: Length of the run, or None when unknown.
            several_workers: Whether other machines take part in the training, whose clocks differ.
            accumulation: Batches per update.
            stride: Steps per execution.
        """
        notes, monitors = [], list(monitors)
        shares = [monitor.budget for monitor in monitors if monitor.budget is not None]
        if several_workers and shares:
            # Every worker must probe the same step.
            notes.append(f"Several workers: probed every {_WORKERS_EVERY} steps in place of a budget.")
            self._cadences.append(Every(_WORKERS_EVERY))
        elif shares:
            self.budget = Budget(min(shares), executions)
        self._cadences += [
            Every(monitor.every_steps)
            for monitor in monitors
            if monitor.every_steps is not None and not monitor.checks_every_step
        ]
        self._accumulation, start = accumulation, self._micro_steps
        self._aligns = any((start + j * stride) % accumulation == 0 for j in range(1, accumulation + 1))
        if not self._aligns:
            notes.append(
                "No execution ends on a step that writes weights (gradient accumulation against "
                "steps_per_execution), so update ratios could not be measured."
            )
        return notes

    def epoch_begins(self, micro_steps: int) -> None:
        """Take over the number of batches that the optimizer has seen, which matters under gradient accumulation."""
        self._micro_steps = micro_steps

    def execution_begins(self, stride: int) -> None:
        """Count an execution of `stride` steps."""
        self.executions += 1
        self._micro_steps += stride

    def force(self) -> None:
        """Probe the next execution in any case, and read it at once."""
        self._forced = True

    def alarm(self) -> None:
        """Probe the next executions densely, as far as the budget allows."""
        if self.budget is not None:
            self.budget.alarm(self.executions)

    def due(self, first: int, last: int, *, last_of_epoch: bool) -> bool:
        """Whether the execution of steps `first..last`, which begins now, is probed."""
        forced, self._forced = self._forced, False
        self.urgent = self.urgent or forced
        due = self._owed or forced or any(cadence.due(first, last) for cadence in self._cadences)
        if not due and self.budget is not None:
            # A smaller last batch would trace the twin once more; another step will do as well.
            due = not last_of_epoch and self.budget.due(self.executions - 1)
        if not due:
            return False
        # Under gradient accumulation only some steps write weights: wait for one of those.
        writes = self._micro_steps % self._accumulation == 0
        self._owed = self._aligns and not writes and not forced
        if self._owed:
            return False
        if self.budget is not None:
            self.budget.probed(self.executions - 1)
        return True

    def timed(self, seconds: float, kind: str, probed: bool) -> None:
        """Tell the budget how long an execution took (see `collect.Timing`)."""
        if self.budget is None:
            return
        if kind in ("probe", "plain"):
            self.budget.timed(seconds, probed=kind == "probe")
        elif kind == "trace" and probed:
            self.budget.traced()

    def reserve(self, price: float) -> bool:
        """Spend the time of `price` plain executions on something else; False where the budget has no room for it."""
        if self.budget is None:
            return True
        if not self.budget.affords(self.executions, price, credit=0.5):
            return False
        self.budget.spent += price
        return True

    def cost(self) -> dict[str, float]:
        """What was spent of the budget, for the record; empty without a budget."""
        if self.budget is None:
            return {}
        probes, cost = self.budget.probes, self.budget.cost
        return {
            "budget": self.budget.share,
            "probes": probes,
            "probe_cost": cost,
            "share": probes * cost / max(1, self.executions),
        }
