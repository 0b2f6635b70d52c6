"""A dense layer whose units each take the largest of several affine functions."""

import functools
from typing import Any

import keras

from recipes.common.validation import is_whole


@keras.saving.register_keras_serializable(package="recipes")
class Maxout(keras.layers.Layer):
    """Output, for each unit, the largest of `pieces` affine functions of the input.

    `h_i(x) = max_j (x W_ij + b_ij)`: a convex, piecewise linear activation that is learned.
    Source: Goodfellow et al. 2013, section 2, https://arxiv.org/abs/1302.4389

    Args:
        units: Features of the output, >= 1.
        pieces: Affine functions per unit, >= 2 (k in the paper). The layer has `pieces` times the weights of a
            Dense layer with as many units.
        use_bias: Whether each piece adds a bias.
        kernel_initializer: Initializer of the kernel `(features, pieces * units)`, in which piece `j` of unit `i` is
            column `j * units + i`.
        bias_initializer: Initializer of the bias `(pieces * units,)`.
        kernel_regularizer: Penalty on the kernel.
        kernel_constraint: Applied to the kernel after each update; the paper limits each column's norm, as
            `recipes.layers.MaxNorm` does.

    Input shape: `(batch, ..., features)`, float. Output shape: `(batch, ..., units)`.

    Raises:
        ValueError: when `units < 1`, `pieces < 2`, either is above 2**20 or the input has no batch axis.
    """

    def __init__(
        self,
        units: int,
        pieces: int = 2,
        *,
        use_bias: bool = True,
        kernel_initializer: str | keras.initializers.Initializer | dict[str, Any] | None = "glorot_uniform",
        bias_initializer: str | keras.initializers.Initializer | dict[str, Any] | None = "zeros",
        kernel_regularizer: str | keras.regularizers.Regularizer | None = None,
        kernel_constraint: str | keras.constraints.Constraint | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_pieces("Maxout", units, pieces)
        self.units = units
        self.pieces = pieces
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) < 2:
            raise ValueError(
                f"Maxout expects inputs (batch, ..., features). Received shape {tuple(input_shape)}. "
                "Add the batch axis with inputs[None]."
            )
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: input_shape[-1]})
        columns = self.pieces * self.units
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], columns),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(columns,), initializer=self.bias_initializer)

    def call(self, inputs: Any) -> Any:
        outputs = keras.ops.matmul(inputs, self.kernel)
        if self.bias is not None:
            outputs = outputs + self.bias
        return largest_piece(outputs, self.pieces)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **maxout_config(self), "units": self.units}


def largest_piece(outputs: Any, pieces: int) -> Any:
    """Reduce `(..., pieces * units)` to `(..., units)`; the gradient goes to the largest piece alone."""
    return functools.reduce(keras.ops.maximum, keras.ops.split(outputs, pieces, axis=-1))


def maxout_config(layer: Any) -> dict[str, Any]:
    """The arguments that `Maxout` and `MaxoutConv2D` share."""
    return {
        "pieces": layer.pieces,
        "use_bias": layer.use_bias,
        "kernel_initializer": keras.initializers.serialize(layer.kernel_initializer),
        "bias_initializer": keras.initializers.serialize(layer.bias_initializer),
        "kernel_regularizer": keras.regularizers.serialize(layer.kernel_regularizer),
        "kernel_constraint": keras.constraints.serialize(layer.kernel_constraint),
    }


def check_pieces(layer: str, outputs: int, pieces: int) -> None:
    """Raise a ValueError in the name of `layer` unless `outputs >= 1` and `pieces >= 2`, both at most 2**20."""
    known = is_whole(outputs) and is_whole(pieces) and max(outputs, pieces) <= 2**20
    if not known or outputs < 1 or pieces < 2:
        raise ValueError(
            f"{layer} expects at least one output, at most {2**20}, and pieces >= 2. Received {outputs} outputs, "
            f"pieces={pieces}. "
            "With one piece there is nothing to choose from: use the Keras layer without maxout."
        )
