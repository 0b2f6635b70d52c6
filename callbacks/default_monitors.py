"""The monitors that `recipes.train` puts into every run."""

from collections.abc import Sequence
from typing import Any

import keras

from recipes.callbacks.activation_monitor import ActivationMonitor
from recipes.callbacks.dead_relu_detector import DeadReluDetector
from recipes.callbacks.gradient_monitor import GradientMonitor
from recipes.callbacks.non_finite_guard import NonFiniteGuard
from recipes.callbacks.update_ratio_monitor import UpdateRatioMonitor


def default_monitors(beside: Sequence[keras.callbacks.Callback] = (), **options: Any) -> list[Any]:
    """Make one of each monitor, for `model.fit(callbacks=[..., *default_monitors()])`.

    They share one hub and together stay within the budget, 1 % of the training time unless told otherwise, after
    the one-off trace of the instrumented train function. Place them after callbacks that set the learning rate. In a
    model without ReLU the dead-ReLU detector stays silent.

    Args:
        beside: Callbacks of the same fit: a monitor among them takes the place of the default of its kind.
        **options: `every_steps`, `budget`, `samples`, `log_dir`, `strict` for all of them, see `Monitor`.

    Returns:
        A list of monitors, empty when `beside` holds one of each kind. The `record` of any of them is what they all
        saw, a `recipes.probe.Record`; None before the first fit.

    Raises:
        ValueError: as the monitors do for their options.

    Example:
        >>> monitors = default_monitors(every_steps=10)
        >>> model.fit(images, labels, callbacks=monitors)
        >>> monitors[0].record.save("record.npz")
    """
    kinds = {
        UpdateRatioMonitor: {},
        DeadReluDetector: {"warn_when_idle": False},
        GradientMonitor: {},
        ActivationMonitor: {},
        NonFiniteGuard: {},
    }
    wanted = {kind: own for kind, own in kinds.items() if not any(isinstance(one, kind) for one in beside)}
    return [kind(**own, **options) for kind, own in wanted.items()]
