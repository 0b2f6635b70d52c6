"""A forward pass that tells which units are active."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from recipes.common.patching import wrapped
from recipes.probe.hooks import tapping_call
from recipes.probe.layout import Watched
from recipes.probe.tensorflow import measure
from recipes.probe.tensorflow.twin import Seen


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
        self._function = tf.function(self._forward, reduce_retracing=True)

    def __call__(self, inputs: Any) -> list[np.ndarray]:
        """For each of `names`: bool (units,), whether a unit was above zero anywhere in the batch."""
        return [layer.numpy() > 0 for layer in self._function(inputs)]

    def _forward(self, inputs):
        seen = Seen()
        with wrapped([(w.operation, "call", tapping_call(w, seen)) for w in self._watched]):
            self._model(inputs, training=False)
        calls = [(w, outputs[0]) for _, w, outputs in seen.calls()]
        self.names = [w.name for w, _ in calls]
        return [measure.ever_active(output, w) for w, output in calls]
