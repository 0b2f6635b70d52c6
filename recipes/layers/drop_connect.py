"""Dropout of weights instead of activations."""

from typing import Any

import keras

from recipes.common.models import value_of
from recipes.common.validation import check_seed, is_number

KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel")


@keras.saving.register_keras_serializable(package="recipes")
class DropConnect(keras.layers.Wrapper):
    """Drop a random share of the wrapped layer's weights at every training step.

    `r = a((M * W) v)` with a new mask `M` of zeros and ones at each step.
    Source: Wan et al. 2013, section 3, equation 2, https://proceedings.mlr.press/v28/wan13.html. Three differences:

    - There is one mask per batch instead of one per example, because storing one kernel per example is slow.
    - Kept weights are divided by the share kept, so that inference uses the weights as they are. The paper samples
      from a Gaussian at inference.
    - Biases are not dropped.

    Everything else that `layer` does in training still happens: penalties on weights and activations, moving
    statistics, metrics. The weights of a frozen layer are dropped too, just as a frozen `keras.layers.Dropout` still
    drops activations.

    Args:
        layer: A Dense, convolution or other layer with a kernel. Only its weights called `kernel`,
            `depthwise_kernel` and `pointwise_kernel` are dropped.
        rate: Share of weights dropped, in [0, 1). Paper: 0.5.
        seed: Integer that fixes the masks; None draws other masks in each run.

    Input and output shapes: those of `layer`.

    Raises:
        ValueError: when `rate` is outside [0, 1) or `layer` has no kernel.

    Example:
        >>> DropConnect(keras.layers.Dense(256, activation="relu"), rate=0.5)
    """

    def __init__(
        self, layer: keras.layers.Layer, rate: float, *, seed: int | None = None, **kwargs: Any
    ) -> None:
        if not isinstance(layer, keras.layers.Layer) or not _has_kernel(layer):
            raise ValueError(
                f"DropConnect expects a layer with a kernel, such as Dense or Conv2D. Received {layer!r}. "
                "Wrap the layer whose weights are to be dropped, not the activation or normalization after it."
            )
        super().__init__(layer, **kwargs)
        if not is_number(rate) or not 0 <= rate < 1:
            raise ValueError(
                f"DropConnect expects rate in [0, 1), the share that is dropped. Received rate={rate}. "
                "The paper uses 0.5."
            )
        self.rate = rate
        if seed is not None:
            check_seed("DropConnect", seed)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training or self.rate == 0:
            return self.layer(inputs)
        variables = [*self.layer.variables, *self.layer.metrics_variables]
        # The layer is called with these values in place of its own weights, so that the weights never change.
        given = {id(variable): self._dropped(variable) for variable in variables}
        mapping = [(variable, given[id(variable)]) for variable in variables]
        with keras.StatelessScope(mapping, collect_losses=True) as scope:
            before = [scope.get_current_value(variable) for variable in variables]
            outputs = self.layer(inputs)
            after = [scope.get_current_value(variable) for variable in variables]
        # All other effects of the call belong to the layer itself: activity penalties, statistics, metrics.
        for loss in scope.losses:
            self.add_loss(loss)
        for variable, old, new in zip(variables, before, after, strict=True):
            if new is not old:
                variable.assign(new)
        return outputs

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return self.layer.compute_output_shape(input_shape)

    def _dropped(self, variable):
        value = value_of(variable)
        if variable.name not in KERNELS:
            return value
        return keras.random.dropout(value, self.rate, seed=self.seed_generator)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


def _has_kernel(layer):
    # Before a layer is built, its arguments show whether it will have a kernel.
    return any(hasattr(layer, f"{name}_initializer") for name in ("kernel", "depthwise", "pointwise"))
