"""The checks that `recipes.train(preflight=True)` makes before the first step, and the time they may take."""

from __future__ import annotations

import warnings
from typing import Any

import keras

from recipes import diagnose
from recipes.training.settings import Settings
from recipes.training.training_data import TrainingData

_SECONDS = 5.0  # for all checks together


def preflight_facts(model: keras.Model, data: TrainingData, settings: Settings) -> Any:
    """Run the checks for a few seconds; what they learned of model and data, or None where they could not run."""
    if not settings.preflight:
        return None
    train, validation = data.preview(), data.validation_preview()
    try:
        return diagnose.preflight(
            model, train, validation, seconds=_SECONDS, verbose=int(settings.verbose != 0)
        ).facts
    except Exception as error:
        # A check that fails on an unusual model shall not keep it from being trained.
        warnings.warn(
            f"recipes.train could not run its checks before training ({type(error).__name__}: {error}). It trains "
            "without them; preflight=False leaves them out.",
            stacklevel=3,
        )
        return None
