"""The compiled training step of a `Trial`, for TensorFlow or JAX."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import keras

from recipes.common.backends import require_probe


def trial_step(trial: Any) -> Callable[[tuple], tuple[Any, Any]]:
    """Make the compiled training step of a trial.

    Args:
        trial: A `Trial`, whose `model`, `optimizer`, `regularized` and `own_step` are read. Its `told` is set to what a
            custom training step returns, if that is no single loss.

    Returns:
        Function from `(inputs, labels)` or `(inputs, labels, weights)` of tensors to `(loss, outputs)`. It updates the
        variables of model and optimizer. Outputs are None for a custom training step.

    Raises:
        RuntimeError: on a backend other than TensorFlow and JAX.
    """
    require_probe("A training step on trial")
    return import_module(f"recipes.diagnose.checks.on_{keras.backend.backend()}").trial_step(trial)
