"""The name of the loss in the history or the logs of a run."""

from collections.abc import Iterable
from typing import Any


def loss_name(names: Iterable[str]) -> str | None:
    """The name of the curve that is the loss; None where no name, or more than one, could be it.

    A custom training step may log "total_loss" alone. It may also log a "d_loss" beside a "g_loss", neither of which is
    what the training as a whole minimizes.

    Args:
        names: The names in the logs; those of validation and of monitors are skipped.

    Returns:
        One of `names`, or None.
    """
    names = [name for name in names if not name.startswith(("val_", "monitor/"))]
    if "loss" in names:
        return "loss"
    if "total_loss" in names:
        return "total_loss"
    candidates = [name for name in names if name.endswith("loss")]
    return candidates[0] if len(candidates) == 1 else None


def told_loss(logs: Any) -> tuple[Any, Any]:
    """The loss in what a training step returned.

    Args:
        logs: dict of logs, or anything else that the step returned.

    Returns:
        `(loss, None)`, or `(None, description)` where there is no single loss. The description is the sorted names of
        the logs, or the name of the type that was returned.
    """
    if not isinstance(logs, dict):
        return None, type(logs).__name__
    name = loss_name(logs)
    return (logs[name], None) if name else (None, sorted(logs))
