"""The compiled step of a `Trial`, by backend: new weights, the loss of the batch, the outputs."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import keras

from recipes.common.backends import require_probe


def trial_step(trial: Any) -> Callable[[tuple], tuple[Any, Any]]:
    """A compiled training step.

    Args:
        trial: A `Trial`: `model`, `optimizer`, `regularized`, `own_step` are read. Its `told` is set to what
            a training step of the user's own returns where that is no single loss.

    Returns:
        function from `(inputs, labels)` or `(inputs, labels, weights)` of tensors to `(loss, outputs)`, which writes
        the variables of model and optimizer; outputs are None for a training step of the user's own.

    Raises:
        RuntimeError: on another backend than TensorFlow and JAX.
    """
    require_probe("A training step on trial")
    return import_module(f"recipes.diagnose.checks.on_{keras.backend.backend()}").trial_step(trial)
