"""The initialization that lets residual networks train without normalization."""

from collections.abc import Sequence
from typing import Any

import keras

from recipes.common.validation import is_whole


@keras.saving.register_keras_serializable(package="recipes")
class Fixup(keras.initializers.Initializer):
    """Draw from another initializer and shrink the draw by the depth of the network.

    Rule 2 of Fixup: weights inside residual branches are scaled by `branches ** (-1 / (2 * layers - 2))`, so that the
    sum of all branches changes by the order of the learning rate at each step, whatever the depth.
    `recipes.models.resnet(norm=None)` applies the rest of the method: zeros in each branch's last layer and in the
    classifier, and `recipes.layers.ScalarAffine` before each convolution and activation.
    Source: Zhang et al. 2019, section 3, https://arxiv.org/abs/1901.09321

    Args:
        branches: Number of residual branches in the whole network, >= 1 (L in the paper).
        layers: Number of layers with weights in one branch, >= 2 (m in the paper).
        initializer: The initializer whose draws are scaled: a Keras initializer or its name.

    Raises:
        ValueError: when `branches < 1` or `layers < 2`.

    Example:
        >>> keras.layers.Conv2D(16, 3, kernel_initializer=Fixup(branches=27))  # a new object for each layer
    """

    def __init__(
        self,
        branches: int,
        layers: int = 2,
        initializer: str | keras.initializers.Initializer | dict[str, Any] | None = "he_normal",
    ) -> None:
        if not (is_whole(branches) and is_whole(layers) and branches >= 1 and layers >= 2):
            raise ValueError(
                f"Fixup expects whole numbers, branches >= 1 and layers >= 2. Received branches={branches!r}, "
                f"layers={layers!r}. "
                "branches is the number of residual additions in the network, layers the number of convolutions "
                "in one branch."
            )
        self.branches = branches
        self.layers = layers
        self.initializer = keras.initializers.get(initializer)

    def __call__(self, shape: Sequence[int], dtype: str | None = None) -> Any:
        return self.initializer(shape, dtype=dtype) * self.branches ** (-1 / (2 * self.layers - 2))

    def get_config(self) -> dict[str, Any]:
        return {
            "branches": self.branches,
            "layers": self.layers,
            "initializer": keras.initializers.serialize(self.initializer),
        }
