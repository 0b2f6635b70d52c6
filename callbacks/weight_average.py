"""What the two averaging callbacks share: a second set of weights, and when it is in the model."""

from typing import Any

import keras
from keras import ops

from recipes.callbacks.fit_member import FitMember
from recipes.callbacks.rate_driver import Logs
from recipes.common.optimizers import averages_weights, learned_variables
from recipes.common.traversal import layers_of
from recipes.common.types import Data


class WeightAverage(FitMember):
    """Base of the averaging callbacks: keeps an average of the weights and lends it to the model between epochs.

    From the validation of an epoch (or its end, without validation) to the beginning of the next, and after training,
    the model holds the averaged weights; in between, the ones being trained. So validation, `ModelCheckpoint`,
    `EarlyStopping` and the finished model see the average. Without validation data, put this callback before those.

    The trainable weights and the statistics of batch normalization are averaged, in float32. With `data`, those
    statistics are recomputed from it each time the average goes into the model. Memory: one more copy of the weights.

    Args:
        data: Training images for the statistics, as in `ensemble.refresh_batch_norm`, or None.
        batch_size: Images per batch for un-batched `data`.
    """

    def __init__(self, data: "Data | None" = None, *, batch_size: int = 128) -> None:
        super().__init__()
        self.data, self.batch_size = data, batch_size

    def on_train_begin(self, logs: Logs = None) -> None:
        model = self.model
        if averages_weights(model.optimizer):
            raise ValueError(
                f"{type(self).__name__} expects to be alone in averaging weights. Received an optimizer with "
                "use_ema=True, which overwrites them at the end of training. "
                "Compile without use_ema, or leave this out."
            )
        self._norms = layers_of(model, keras.layers.BatchNormalization)
        self._has_norms = any(layer.trainable for layer in self._norms)
        self._variables = self._others = ()
        self._refresher = None
        self.samples, self._average_in_model, self._training, self._epoch = 0, False, True, -1
        if model.built:
            self._make_room()

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._epoch = epoch
        if self._average_in_model:
            self._exchange()
            self._average_in_model = False

    def on_test_begin(self, logs: Logs = None) -> None:
        if getattr(self, "_training", False):
            self._end_epoch()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._end_epoch()

    def on_train_end(self, logs: Logs = None) -> None:
        self.put_in_model()
        self._training = False

    def put_in_model(self) -> None:
        """Exchange the trained weights for their average, unless that is done. For use after an interrupted `fit`."""
        if self._average_in_model or not self.samples:
            return
        self._exchange()
        self._average_in_model = True
        if self.data is not None and self._has_norms:
            self._refresh_batch_norm()

    def sample_epoch(self) -> None:
        """Called once, when the last step of an epoch is done, for averages over epochs."""

    def take_sample(self, share: float) -> None:
        """Move the average to the present weights by `share`, from 0 (not at all) to 1 (all the way)."""
        if not self._others:
            self._make_room()
        self._move(ops.convert_to_tensor(1.0 if not self.samples else share, "float32"))
        self.samples += 1

    def get_state(self) -> dict[str, Any]:
        """What a resumed run needs: numbers, and the set of weights that is not in the model, as arrays."""
        return {
            "samples": self.samples,
            "average_in_model": self._average_in_model,
            "other_weights": [ops.convert_to_numpy(other) for other in self._others],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from `get_state()`'s dict. Call it between on_train_begin and the first epoch."""
        for other, value in zip(self._others, state["other_weights"], strict=True):
            other.assign(value)
        self.samples, self._average_in_model = state["samples"], state["average_in_model"]

    def _make_room(self):
        """Allocate the averaged weights; for a subclassed model, after its first batch has built it."""
        statistics = [value for layer in self._norms for value in (layer.moving_mean, layer.moving_variance)]
        self._variables = [*learned_variables(self.model), *statistics]
        # The average while the model trains, the trained weights while it holds the average.
        self._others = [_like(variable) for variable in self._variables]
        self._move, self._exchange = _compiled(self._move_towards, 1), _compiled(self._exchange_all, 0)

    def _end_epoch(self):
        if not self._average_in_model:
            self.sample_epoch()
        self.put_in_model()

    def _refresh_batch_norm(self):
        if self._refresher is None:
            from recipes.averaging.refresh_batch_norm import BatchNormRefresher  # noqa: PLC0415 - needs TensorFlow, which other backends do without

            self._refresher = BatchNormRefresher(self.model)
        self._refresher.refresh(self.data, batch_size=self.batch_size, caller=type(self).__name__)

    def _move_towards(self, share):
        for average, variable in zip(self._others, self._variables, strict=True):
            average.assign_add(share * (ops.cast(variable, average.dtype) - average))

    def _exchange_all(self):
        for other, variable in zip(self._others, self._variables, strict=True):
            held = ops.copy(ops.convert_to_tensor(variable))
            variable.assign(ops.cast(other, variable.dtype))
            other.assign(ops.cast(held, other.dtype))


def _like(variable):
    dtype = "float64" if variable.dtype == "float64" else "float32"
    return keras.Variable(ops.convert_to_numpy(ops.cast(variable, dtype)), dtype=dtype, trainable=False)


def _compiled(function, arguments):
    """The function of so many float32 numbers, as one TensorFlow function on that backend."""
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf  # noqa: PLC0415 - other backends do without

    return tf.function(function).get_concrete_function(*[tf.TensorSpec((), tf.float32)] * arguments)
