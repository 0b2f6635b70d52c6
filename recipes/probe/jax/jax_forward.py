"""A forward pass that tells which units are active."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from recipes.common.lazy_jax import jax
from recipes.common.patching import wrapped
from recipes.probe.hooks import tapping_call
from recipes.probe.jax import jax_measure as measure
from recipes.probe.jax.jax_seen import Seen
from recipes.probe.layout import Watched


class Forward:
    """A compiled forward pass in inference mode.

    Args:
        model: A built `keras.Model`.
        watched: Layers to look at.

    Attributes:
        names: Names of the layers whose calls were seen, in forward order; known after the first call.
    """

    def __init__(self, model: keras.Model, watched: list[Watched]) -> None:
        self.names: list[str] = []
        self._model, self._watched = model, watched
        self._function = jax.jit(self._forward)

    def __call__(self, inputs: Any) -> list[np.ndarray]:
        """For each of `names`: bool (units,), whether a unit was above zero anywhere in the batch."""
        model = self._model
        model.jax_state_sync()
        state = [
            [v.value for v in some] for some in (model.trainable_variables, model.non_trainable_variables)
        ]
        inputs = keras.tree.map_structure(np.asarray, inputs)
        return [np.asarray(layer) > 0 for layer in self._function(*state, inputs)]

    def _forward(self, trainable, non_trainable, inputs):
        seen = Seen()
        with wrapped([(w.operation, "call", tapping_call(w, seen)) for w in self._watched]):
            self._model.stateless_call(trainable, non_trainable, inputs, training=False)
        calls = [(w, arrays[0]) for _, w, arrays in seen.calls()]
        self.names = [w.name for w, _ in calls]
        return [measure.ever_active(array, w) for w, array in calls]
