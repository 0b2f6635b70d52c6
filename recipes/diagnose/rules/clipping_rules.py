"""Gradient clipping that leaves next to nothing of the gradients."""

from typing import Any

import numpy as np

from recipes.diagnose.finding import Finding
from recipes.diagnose.rules.batch_rules import found
from recipes.diagnose.rules.record_view import median
from recipes.diagnose.rules.words import share, typed


def clipping(view: Any) -> list[Finding]:
    """Steps that gradient clipping makes far too short, in a run that has not learned.

    Args:
        view: A `recipes.diagnose.rules.record_view.RecordView`.

    Returns:
        A list of `Finding`, empty where the rule does not apply.
    """
    for name in ("clipnorm", "global_clipnorm"):
        limit = view.optimizer.get(name)
        if not limit or not view.kernels.size:
            continue
        gradient = median(view.gradient)
        whole = float(np.sqrt(np.nansum(np.square(gradient))))
        size = whole if name == "global_clipnorm" else float(np.nanmax(np.append(gradient, 0.0)))
        # With a usual limit, it is the gradients that are unusual; other rules report those.
        if size > 100 * limit and (limit < 0.1 or size < 100) and not view.learned:
            return [
                found(
                    "clipping_too_hard",
                    "warning",
                    None,
                    view.epoch[0],
                    f"Gradients have a norm of {size:.3g}, and {name}={limit:.2g} cuts them to "
                    f"{share(limit / size)} of that, so steps are as much shorter.",
                    f"Use {name}={typed(size)}, or leave it out.",
                )
            ]
    return _clipped_by_value(view)


def _clipped_by_value(view):
    limit = view.optimizer.get("clipvalue")
    if not limit or view.learned or not view.kernels.size:
        return []
    size = np.sqrt(np.maximum(view.record.axes["variables"]["size"], 1))
    usual = float(np.nanmax(np.append(median(view.gradient) / size, 0.0)))
    if not usual > 100 * limit or limit >= 0.1:
        return []
    return [
        found(
            "clipping_too_hard",
            "warning",
            None,
            view.epoch[0],
            f"A number in a gradient is about {usual:.3g}, and clipvalue={limit:.2g} cuts each to "
            f"{share(limit / usual)} of that: steps are as much shorter, and all numbers count alike.",
            "Leave clipvalue out, or use clipnorm=1.0, which keeps the direction.",
        )
    ]
