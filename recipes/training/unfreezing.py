"""When the frozen layers of a pretrained network begin to learn in `recipes.train`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import keras

from recipes.callbacks.unfreeze import Unfreeze
from recipes.common.models import output_layers
from recipes.models.describe_backbone import upper_half
from recipes.models.transfer import is_transfer
from recipes.training.settings import Settings

_FEWEST_EPOCHS = 4
_PARTS = (0.3, 0.6)  # of the epochs, after which the upper half, and all of the backbone, join
_RATES = {"head": 1.0, "backbone": 0.1}


def with_unfreezing(model: keras.Model, settings: Settings) -> Settings:
    """The settings with a `callbacks.Unfreeze` for `unfreeze=`, and the rates per layer that go with "auto".

    Raises:
        ValueError: for a schedule beside a callback that has one.
    """
    own = stages_of(settings)
    if settings.unfreeze is None or (settings.unfreeze == "auto" and own is not None):
        return settings
    if own is not None:
        raise ValueError(
            f"recipes.train expects one schedule of unfreezing. Received unfreeze={settings.unfreeze!r} beside an "
            "Unfreeze among the callbacks. Leave one of them out."
        )
    if settings.unfreeze != "auto":
        return replace(settings, callbacks=[*settings.callbacks, Unfreeze(settings.unfreeze)])
    schedule = _automatic(model, settings)
    if schedule is None:
        return settings
    rates = _RATES if settings.rates is None else settings.rates
    return replace(settings, callbacks=[*settings.callbacks, Unfreeze(schedule)], rates=rates)


def stages_of(settings: Settings) -> Unfreeze | None:
    """The `Unfreeze` among the callbacks, if any."""
    return next((one for one in settings.callbacks if isinstance(one, Unfreeze)), None)


def _automatic(model: keras.Model, settings: Settings) -> Mapping[int, Any] | None:
    usual = isinstance(settings.optimizer, str) and settings.optimizer.lower() not in (
        "nadam",
        "ftrl",
        "adafactor",
    )
    on_tensorflow = keras.backend.backend() == "tensorflow"
    if (
        model.compiled
        or not usual
        or not on_tensorflow
        or settings.epochs < _FEWEST_EPOCHS
        or not is_transfer(model)
    ):
        return None
    first, second = (round(part * settings.epochs) for part in _PARTS)
    head = {layer.name for layer in output_layers(model)}
    if any(layer.trainable_variables for layer in model.layers if layer.name not in head):
        return None  # the user has said what learns
    upper = [name for name in upper_half(model) if name not in head]
    return {max(1, first): upper, max(2, second): "backbone"}
