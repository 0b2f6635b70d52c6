"""Normalization of every channel of every image by itself."""

from typing import Any

import keras

from recipes.common.validation import is_number


@keras.saving.register_keras_serializable(package="recipes")
class InstanceNormalization(keras.layers.Layer):
    """Give every channel of every example zero mean and unit variance over its positions.

    `y = (x - mean) / sqrt(variance + epsilon)`, where mean and variance are taken over the height and width of one
    channel of one example. A learned gain and offset per channel follow. Training and inference do the same.
    Source: Ulyanov et al. 2016, equation 5, https://arxiv.org/abs/1607.08022; the gain and offset are those of
    Dumoulin et al. 2016, equation 5, https://arxiv.org/abs/1610.07629

    Args:
        epsilon: Added to the variance, > 0.
        center: Whether to learn an offset per channel (starts at 0).
        scale: Whether to learn a gain per channel (starts at 1).

    Input shape: `(batch, ..., channels)` with at least one spatial axis, float. Output shape: the same.

    Raises:
        ValueError: when `epsilon` is not positive, or the input has no spatial axis to average over.
    """

    def __init__(
        self, *, epsilon: float = 1e-5, center: bool = True, scale: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not is_number(epsilon) or epsilon <= 0:
            raise ValueError(
                f"InstanceNormalization expects epsilon > 0. Received epsilon={epsilon}. Use 1e-5."
            )
        self.epsilon = epsilon
        self.center = center
        self.scale = scale

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) < 3:
            raise ValueError(
                "InstanceNormalization expects inputs (batch, ..., channels) with a spatial axis to average over. "
                f"Received shape {tuple(input_shape)}. For vectors use keras.layers.LayerNormalization."
            )
        channels = (input_shape[-1],)
        self.gain = self.add_weight(name="gain", shape=channels, initializer="ones") if self.scale else None
        self.offset = (
            self.add_weight(name="offset", shape=channels, initializer="zeros") if self.center else None
        )

    def call(self, inputs: Any) -> Any:
        # A float16 sum over a large image overflows, so the statistics are computed in float32 or better.
        x = keras.ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        places = list(range(1, len(inputs.shape) - 1))
        mean, variance = keras.ops.moments(x, axes=places, keepdims=True)
        x = (x - mean) * keras.ops.rsqrt(variance + self.epsilon)
        if self.gain is not None:
            x = x * keras.ops.cast(self.gain, x.dtype)
        if self.offset is not None:
            x = x + keras.ops.cast(self.offset, x.dtype)
        return keras.ops.cast(x, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        config = {"epsilon": self.epsilon, "center": self.center, "scale": self.scale}
        return {**super().get_config(), **config}
