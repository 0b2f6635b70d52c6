"""When a backup within an epoch is due: every so many minutes, or steps."""

from __future__ import annotations

import re
import time

_UNITS = {"s": 1, "sec": 1, "second": 1, "min": 60, "minute": 60, "h": 3600, "hour": 3600}


def backup_interval(backup_every: str | int | None) -> tuple[float | None, int | None]:
    """`(seconds, steps)` from one backup to the next, one of them None; both None where only ends of epochs have one.

    Args:
        backup_every: "10 min", "30 s", "1 h", a number of steps, or None.

    Raises:
        ValueError: for anything else.
    """
    if backup_every is None:
        return None, None
    if isinstance(backup_every, int) and not isinstance(backup_every, bool) and backup_every >= 1:
        return None, backup_every
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+?)s?\s*", str(backup_every)) or re.fullmatch(
        r"\s*(\d+(?:\.\d+)?)\s*(s)\s*", str(backup_every)
    )
    if isinstance(backup_every, str) and match and match[2] in _UNITS and float(match[1]) > 0:
        return float(match[1]) * _UNITS[match[2]], None
    raise ValueError(
        "recipes.train expects backup_every to be a time such as '10 min', a number of steps, or None. Received "
        f"backup_every={backup_every!r}. Leave it out for a backup after every epoch."
    )


class Timetable:
    """When the next backup within an epoch is due.

    Args:
        backup_every: As in `backup_interval`.
    """

    def __init__(self, backup_every: str | int | None) -> None:
        self.seconds, self.steps = backup_interval(backup_every)
        self.written()

    def written(self) -> None:
        """Note that a backup was written just now."""
        self._since, self._count = time.monotonic(), 0

    def is_due(self, steps: int) -> bool:
        """Whether a backup is due, after so many more steps."""
        self._count += steps
        if self.steps is not None:
            return self._count >= self.steps
        return self.seconds is not None and time.monotonic() - self._since >= self.seconds
