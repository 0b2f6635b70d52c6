"""The part of the probe that belongs to Keras' backend; the rest of `recipes.probe` is the same for all."""

from importlib import import_module
from typing import Any

import keras


def adapter() -> Any:
    """The module of this backend, `recipes.probe.tensorflow.tensorflow_adapter` or `recipes.probe.jax.jax_adapter`.

    Each has

    - `Twin`, a train function that measures, and `Forward`, a forward pass that finds active units;
    - `several_workers(model)`, `wait_for_step(model)`, `bring_back(model)`;
    - `WRITES_AT_ONCE`: whether a step has written the model's variables when the train function returns;
    - `SWEEP_COST`: the share of a step that a look at active units takes;
    - `UNSEEN`: quantities that its twin does not measure.
    """
    backend = keras.backend.backend()
    return import_module(f"recipes.probe.{backend}.{backend}_adapter")
