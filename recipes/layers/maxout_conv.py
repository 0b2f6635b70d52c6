"""A convolution whose filters each take the largest of several affine functions."""

from typing import Any, Literal

import keras

from recipes.common.validation import are_whole, is_whole
from recipes.layers.maxout import check_pieces, largest_piece, maxout_config


@keras.saving.register_keras_serializable(package="recipes")
class MaxoutConv2D(keras.layers.Layer):
    """Output, for each filter and position, the largest of `pieces` convolutions.

    It is `Maxout` with weights shared over positions: "max across affine feature maps".
    Source: Goodfellow et al. 2013, section 2, https://arxiv.org/abs/1302.4389. The paper's networks also take the
    maximum over neighboring positions; here pooling is left to a separate layer.

    Args:
        filters: Channels of the output, >= 1.
        kernel_size: Height and width of the kernel in pixels, one number or two, each from 1 to 1024.
        pieces: Convolutions per filter, >= 2 (k in the paper).
        strides: Rows and columns from one position to the next, one number or two, each from 1 to 1024.
        padding: "valid" or "same".
        use_bias: Whether each piece adds a bias.
        kernel_initializer: Initializer of the kernel `(height, width, channels, pieces * filters)`, in which piece
            `j` of filter `i` is number `j * filters + i`.
        bias_initializer: Initializer of the bias `(pieces * filters,)`.
        kernel_regularizer: Penalty on the kernel.
        kernel_constraint: Applied to the kernel after each update.

    Input shape: `(batch, height, width, channels)`, float.
    Output shape: `(batch, new height, new width, filters)`, the same as for `keras.layers.Conv2D`.

    Raises:
        ValueError: when an argument is outside its range, the input is not of rank 4, or the image is smaller than
            the kernel under `padding="valid"`.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        pieces: int = 2,
        *,
        strides: int | tuple[int, int] = 1,
        padding: Literal["valid", "same"] = "valid",
        use_bias: bool = True,
        kernel_initializer: str | keras.initializers.Initializer | dict[str, Any] | None = "glorot_uniform",
        bias_initializer: str | keras.initializers.Initializer | dict[str, Any] | None = "zeros",
        kernel_regularizer: str | keras.regularizers.Regularizer | None = None,
        kernel_constraint: str | keras.constraints.Constraint | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_pieces("MaxoutConv2D", filters, pieces)
        self.filters = filters
        self.kernel_size = _pair("kernel_size", kernel_size)
        self.pieces = pieces
        self.strides = _pair("strides", strides)
        if padding not in ("valid", "same"):
            raise ValueError(
                f"MaxoutConv2D expects padding to be 'valid' or 'same'. Received padding={padding!r}. "
                "'same' keeps height and width at strides=1."
            )
        self.padding = padding
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 4:
            raise ValueError(
                f"MaxoutConv2D expects inputs (batch, height, width, channels). Received shape {tuple(input_shape)}. "
                "For vectors use Maxout."
            )
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={-1: input_shape[-1]})
        maps = self.pieces * self.filters
        self.kernel = self.add_weight(
            name="kernel",
            shape=(*self.kernel_size, input_shape[-1], maps),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(maps,), initializer=self.bias_initializer)

    def call(self, inputs: Any) -> Any:
        sides = zip(inputs.shape[1:3], self.kernel_size, strict=True)
        if self.padding == "valid" and any(side is not None and side < kernel for side, kernel in sides):
            raise ValueError(
                f"MaxoutConv2D expects images of at least its kernel_size={self.kernel_size}. Received shape "
                f"{tuple(inputs.shape)}. Use padding='same', or a smaller kernel."
            )
        outputs = keras.ops.conv(
            inputs, self.kernel, strides=self.strides, padding=self.padding, data_format="channels_last"
        )
        if self.bias is not None:
            outputs = outputs + self.bias
        return largest_piece(outputs, self.pieces)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, *sizes, _ = input_shape
        if self.padding == "valid":
            sizes = [size and size - kernel + 1 for size, kernel in zip(sizes, self.kernel_size, strict=True)]
        sizes = [size and -(-size // stride) for size, stride in zip(sizes, self.strides, strict=True)]
        return (batch, *sizes, self.filters)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            **maxout_config(self),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
        }


def _pair(argument, given):
    pair = (given, given) if is_whole(given) else given
    if not are_whole(pair) or len(pair) != 2 or min(pair) < 1 or max(pair) > 2**10:
        raise ValueError(
            f"MaxoutConv2D expects {argument} to be a whole number or two of them, from 1 to {2**10}. Received "
            f"{argument}={given!r}. Give for example {argument}=3."
        )
    return tuple(int(side) for side in pair)
