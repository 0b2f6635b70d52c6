"""Which curve of a history is the loss."""

from collections.abc import Iterable
from typing import Any


def loss_name(names: Iterable[str]) -> str | None:
    """ "loss", or the one name that could stand for it; None where there is none, or more than one.

    A training step of the user's own may tell "total_loss" alone, or a "d_loss" beside a "g_loss", of which neither
    is what is brought down.
    """
    names = [name for name in names if not name.startswith(("val_", "monitor/"))]
    if "loss" in names:
        return "loss"
    if "total_loss" in names:
        return "total_loss"
    candidates = [name for name in names if name.endswith("loss")]
    return candidates[0] if len(candidates) == 1 else None


def told_loss(logs: Any) -> tuple[Any, Any]:
    """`(loss, None)` of what a training step returns; `(None, what it is)` where that is no single loss."""
    if not isinstance(logs, dict):
        return None, type(logs).__name__
    name = loss_name(logs)
    return (logs[name], None) if name else (None, sorted(logs))
