"""When the frozen layers of a pretrained network begin to learn in `recipes.train`."""

from __future__ import annotations

from dataclasses import replace

import keras

from recipes.callbacks.unfreeze import Unfreeze
from recipes.common.models import output_layers
from recipes.models.transfer import is_transfer
from recipes.training.settings import Settings

_WHOLE = {0: "backbone"}  # everything learns from the first step on, but for batch normalizations
_DECAY = 0.75  # of the rate from one layer to the layer below


def with_unfreezing(model: keras.Model, settings: Settings) -> Settings:
    """The settings with a `callbacks.Unfreeze` for `unfreeze=`, and the rates per layer that go with "auto".

    "auto" is what benchmarks/fine_tuning.py found best for a network of `models.transfer`: all of it learns, at rates
    that decay by depth.

    Raises:
        ValueError: for a schedule together with a callback that has its own.
    """
    own = stages_of(settings)
    if settings.unfreeze is None or (settings.unfreeze == "auto" and own is not None):
        return settings
    if own is not None:
        raise ValueError(
            f"recipes.train expects one schedule of unfreezing. Received unfreeze={settings.unfreeze!r} and an "
            "Unfreeze among the callbacks. Leave one of them out."
        )
    if settings.unfreeze != "auto":
        return replace(settings, callbacks=[*settings.callbacks, Unfreeze(settings.unfreeze)])
    if not _head_alone_learns(model, settings):
        return settings
    rates = _DECAY if settings.rates is None else settings.rates
    return replace(settings, callbacks=[*settings.callbacks, Unfreeze(_WHOLE)], rates=rates)


def stages_of(settings: Settings) -> Unfreeze | None:
    """The `Unfreeze` among the callbacks, if any."""
    return next((one for one in settings.callbacks if isinstance(one, Unfreeze)), None)


def _head_alone_learns(model: keras.Model, settings: Settings) -> bool:
    """Whether this is a transferred network that nobody has freed yet, for an optimizer that can have factors."""
    named = settings.optimizer.lower() if isinstance(settings.optimizer, str) else None
    able = named not in (None, "nadam", "ftrl", "adafactor") and keras.backend.backend() == "tensorflow"
    if model.compiled or not able or not is_transfer(model):
        return False
    head = {layer.name for layer in output_layers(model)}
    # Where more learns, or not even the head, the user has said what does.
    return all(
        bool(layer.trainable_variables) == (layer.name in head) for layer in model.layers if layer.variables
    )
