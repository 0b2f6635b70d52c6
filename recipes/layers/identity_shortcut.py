"""The residual shortcut without parameters: subsample, then pad the channels with zeros."""

from typing import Any

import keras

from recipes.common.validation import is_whole


@keras.saving.register_keras_serializable(package="recipes")
class IdentityShortcut(keras.layers.Layer):
    """Carry the input past a residual branch that changes the size or the channels, without any weight.

    It keeps every `strides`-th row and column and appends channels of zeros until there are `filters` channels.
    Source: He et al. 2015, section 3.3, option A, https://arxiv.org/abs/1512.03385 (the shortcut of all their
    CIFAR-10 networks).

    Args:
        filters: Channels of the output, at least as many as the input has.
        strides: Rows and columns from one kept pixel to the next, >= 1.

    Input shape: `(batch, height, width, channels)`, float.
    Output shape: `(batch, ceil(height / strides), ceil(width / strides), filters)`.

    Raises:
        ValueError: when a number is not positive, or the input has more channels than `filters`.
    """

    def __init__(self, filters: int, strides: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        known = is_whole(filters) and is_whole(strides) and max(filters, strides) <= 2**20
        if not known or filters < 1 or strides < 1:
            raise ValueError(
                f"IdentityShortcut expects filters >= 1 and strides >= 1. "
                f"Received filters={filters}, strides={strides}. Give the shape the residual branch has."
            )
        self.filters = filters
        self.strides = strides

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 4:
            raise ValueError(
                "IdentityShortcut expects inputs (batch, height, width, channels). Received shape "
                f"{tuple(input_shape)}. "
                "Place it on the shortcut of a convolutional block."
            )
        if input_shape[-1] > self.filters:
            raise ValueError(
                f"IdentityShortcut expects at most filters={self.filters} input channels. "
                f"Received shape {tuple(input_shape)}. To reduce the channels, use a 1x1 Conv2D instead."
            )

    def call(self, inputs: Any) -> Any:
        kept = inputs[:, :: self.strides, :: self.strides, :]
        return keras.ops.pad(kept, [[0, 0], [0, 0], [0, 0], [0, self.filters - inputs.shape[-1]]])

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, height, width, _ = input_shape
        height, width = (size if size is None else -(-size // self.strides) for size in (height, width))
        return (batch, height, width, self.filters)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "filters": self.filters, "strides": self.strides}
