"""Layers whose numbers come from a data set rather than from training."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np


class AdaptedLayer(keras.layers.Layer):
    """A layer whose statistics are set by `adapt`, and that raises when it is called on images before that.

    A subclass makes its weights with `add_statistic` and calls `check_adapted` in `call`. Weights start as NaN, which
    shows that the layer was neither adapted nor loaded nor given weights.
    """

    def add_statistic(self, name: str, shape: tuple[int, ...]) -> Any:
        """A weight that is never trained, float32 under every dtype policy."""
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=keras.initializers.Constant(np.nan),
            trainable=False,
            dtype="float32",
            autocast=False,
        )

    def check_adapted(self, statistic: Any) -> None:
        """Raise a ValueError when `statistic` is still NaN. Where this cannot be checked, the output is NaN."""
        # A model that is being built or loaded is called once without images, before it gets its weights.
        if keras.backend.backend() != "tensorflow" or _is_symbolic():
            return
        import tensorflow as tf  # noqa: PLC0415 - other backends do not need it

        with tf.init_scope():
            first = float(keras.ops.ravel(statistic)[0])
        if np.isnan(first):
            raise ValueError(
                f"{type(self).__name__} expects to be adapted to the training images first. Received a call of layer "
                f"{self.name!r} before adapt. Type layer.adapt(train) before the model is trained or used."
            )

    def compute_on_float(self, function: Callable[[Any], Any], inputs: Any) -> Any:
        """Apply `function` to the inputs cast to float32, and cast the result to the layer's compute dtype."""
        result = function(keras.ops.cast(inputs, "float32"))
        return keras.ops.cast(result, self.compute_dtype)


def _is_symbolic():
    with keras.SymbolicScope() as scope:
        return scope.original_scope is not None
