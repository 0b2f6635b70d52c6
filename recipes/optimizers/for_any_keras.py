"""Save a model so that a process without this library loads it, including its optimizer."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from recipes.common.optimizers import innermost
from recipes.common.patching import wrapped
from recipes.optimizers.layerwise import plain_class
from recipes.optimizers.muon_sgd import MuonSGD


def save_for_any_keras(model: keras.Model, path: Any) -> None:
    """Save a model so that a process without this library loads it.

    SGD takes the place of `MuonSGD`, and the plain optimizer the place of one made `layerwise`. They have the same
    variables, so that the rate and the moments are read as they were.

    Args:
        model: Compiled or not; with another optimizer it is saved as it is.
        path: The `.keras` file.
    """
    with for_any_keras(model):
        model.save(path)


@contextlib.contextmanager
def for_any_keras(model: keras.Model) -> Iterator[None]:
    """Within the context, this thread saves the model with an optimizer of Keras in place of one of recipes.

    Args:
        model: Compiled or not; with another optimizer nothing changes.
    """
    optimizer = innermost(getattr(model, "optimizer", None))
    kind = plain_class(type(optimizer))
    kind = keras.optimizers.SGD if kind is MuonSGD else kind
    if optimizer is None or kind is type(optimizer):
        yield
        return
    config = optimizer.get_config()
    known = kind(nesterov=True).get_config() if kind is keras.optimizers.SGD else kind().get_config()
    known |= {name: value for name, value in config.items() if name in known}
    stand_in = keras.saving.serialize_keras_object(kind.from_config(known))
    compiled = model.get_compile_config()
    given = compiled["optimizer"]
    if given["class_name"] == "LossScaleOptimizer":
        stand_in = {**given, "config": {**given["config"], "inner_optimizer": stand_in}}
    compiled = {**compiled, "optimizer": stand_in}
    with wrapped([(model, "get_compile_config", lambda method: lambda: compiled)]):
        yield
