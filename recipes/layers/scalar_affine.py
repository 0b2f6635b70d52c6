"""One learned offset, and optionally one learned gain, for a whole tensor."""

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="recipes")
class ScalarAffine(keras.layers.Layer):
    """Add one learned number to the whole tensor, optionally after multiplying it by another.

    A Fixup network uses this in place of normalization: an offset before every convolution and activation, and one
    gain at the end of each residual branch.
    Source: Zhang et al. 2019, section 3, rule 3, https://arxiv.org/abs/1901.09321

    Args:
        use_gain: Whether to multiply by a learned gain (starts at 1) before the offset (starts at 0).

    Input shape: `(batch, ...)`, float. Output shape: the same.
    """

    def __init__(self, *, use_gain: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.use_gain = use_gain

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.gain = self.add_weight(name="gain", shape=(), initializer="ones") if self.use_gain else None
        self.offset = self.add_weight(name="offset", shape=(), initializer="zeros")

    def call(self, inputs: Any) -> Any:
        return (inputs if self.gain is None else inputs * self.gain) + self.offset

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "use_gain": self.use_gain}
