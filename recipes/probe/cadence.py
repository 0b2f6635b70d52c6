"""Which training steps to probe: every n-th step, or as many steps as a share of the training time allows."""

import math
from collections import deque
from statistics import median

DENSE_STEPS = 8
_UNKNOWN_RUN = 1000
_GUESS = 0.3
_LEAST = 0.03
_NEIGHBORS = 5


class Every:
    """Probe the steps that are multiples of a number, which are the same in every run.

    Args:
        steps: Training steps from one probe to the next, an integer >= 1.
    """

    def __init__(self, steps: int) -> None:
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ValueError(
                f"A monitor expects every_steps to be an integer number of training steps, >= 1. "
                f"Received every_steps={steps!r}. "
                "Use every_steps=1 for each step, or leave it out and give budget=, a share of the training time."
            )
        self.steps = steps

    def due(self, first: int, last: int) -> bool:
        """Whether one of the steps `first..last` of an execution is a multiple."""
        return last // self.steps * self.steps >= first


class Budget:
    """Probe as often as a share of the training time allows, by the clock.

    The first execution is not probed, unless it is the only one. Early steps are probed densely (gaps grow by a quarter
    of the steps so far), and so are the steps after an alarm. Both are on credit that later steps pay back: a quarter
    of the run's budget may be spent ahead at the start, and half of what remains after an alarm. The cost of a probe is
    the median ratio of its time to the time of the five unprobed executions before it, minus 1. Which steps are probed
    depends on the clock, so two runs probe different steps (their weights are the same).

    Args:
        share: Share of the training time, in (0, 1].
        executions: Length of the run in executions (calls of the train function), or None when unknown.
    """

    def __init__(self, share: float, executions: int | None = None) -> None:
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
            raise ValueError(
                f"A monitor expects budget to be a share of the training time in (0, 1]. Received budget={share!r}. "
                "Use budget=0.01 for one percent, or give every_steps=, a number of steps."
            )
        self.share = share
        self.executions = executions
        # A twin is traced for the first probe: not while the user waits for the first step.
        self.first = 0 if executions == 1 else 1
        self.probes = 0
        self._fresh = True
        self.spent = 0.0  # on other things than probes, in plain executions
        self._next = 0
        self._alarmed_until = -1
        self._plain = deque(maxlen=_NEIGHBORS)
        self._costs = deque(maxlen=32)

    @property
    def cost(self) -> float:
        """The time that one probe adds, in plain executions; a guess until probes have been timed."""
        return max(median(self._costs), _LEAST) if self._costs else _GUESS

    def timed(self, seconds: float, probed: bool) -> None:
        """Take the length of one execution that did not trace."""
        if not probed:
            self._plain.append(seconds)
        elif len(self._plain) == _NEIGHBORS:
            # Against the executions just before it: machines warm up, and are shared.
            self._costs.append(seconds / median(self._plain) - 1)

    def traced(self) -> None:
        """Note that the last probe traced: its time is spent only once, and is not part of the budget."""
        self.probes -= 1

    def due(self, execution: int) -> bool:
        """Whether execution number `execution` (from 0) should be probed."""
        if self._fresh:
            return execution >= self.first
        alarmed = execution <= self._alarmed_until
        if execution < self._next and not alarmed:
            return False
        return self.affords(execution, self.cost, credit=0.5 if alarmed else 0.25)

    def affords(self, execution: int, price: float, credit: float = 0.25) -> bool:
        """Whether the time of `price` more plain executions can be spent now and be paid back before the run ends."""
        length = self.executions or max(_UNKNOWN_RUN, 2 * execution)
        passed = execution + 1
        allowed = self.share * (passed + credit * max(length - passed, 0))
        return self.spent + self.probes * self.cost + price <= allowed

    def probed(self, execution: int) -> None:
        """Note that this execution is probed."""
        self._fresh = False
        self.probes += 1
        self._next = execution + min(max(1, math.ceil(self.cost / self.share)), 1 + execution // 4)

    def alarm(self, execution: int) -> None:
        """Probe the executions after this one densely."""
        self._alarmed_until = execution + DENSE_STEPS
