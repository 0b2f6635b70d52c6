"""Where the time of each epoch goes, as the hooks of callbacks tell."""

import time


class EpochClock:
    """Splits an epoch into its first step, the other steps and validation.

    Call its methods from the callback's hooks of the same meaning.

    Attributes:
        epochs: Seconds of each epoch that ended: {"steps", "first" (what its first step took longer than a usual one:
            tracing, or filling a shuffle's buffer), "validation", "epoch"}.
    """

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []
        self.epoch_begins()

    def epoch_begins(self) -> None:
        """Start the clock of an epoch."""
        self._began, self._validation, self._since = time.perf_counter(), 0.0, None
        self._steps: list[float] = []

    def step_begins(self) -> None:
        """Note when a step began, or several that are executed at once."""
        self._steps.append(time.perf_counter())

    def validation_begins(self) -> None:
        """Start the clock of validation."""
        self._since = time.perf_counter()

    def validation_ends(self) -> None:
        """Stop the clock of validation."""
        if self._since is not None:
            self._validation, self._since = time.perf_counter() - self._since, None

    def epoch_ends(self) -> dict[str, float]:
        """Stop the clock of the epoch, and add its row to `epochs`."""
        whole = time.perf_counter() - self._began
        lengths = [after - before for before, after in zip(self._steps, self._steps[1:], strict=False)]
        usual = sorted(lengths)[len(lengths) // 2] if lengths else 0.0
        first = max(0.0, lengths[0] - usual) if lengths else 0.0
        steps = max(0.0, whole - self._validation - first)
        row = {"steps": steps, "first": first, "validation": self._validation, "epoch": whole}
        self.epochs.append({name: round(seconds, 5) for name, seconds in row.items()})
        return self.epochs[-1]
