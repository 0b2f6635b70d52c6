"""A ceiling on the norm of each unit's incoming weights."""

from collections.abc import Sequence
from typing import Any

import keras

from recipes.common.validation import are_whole, is_number, is_whole


@keras.saving.register_keras_serializable(package="recipes")
class MaxNorm(keras.constraints.Constraint):
    """Scale down the incoming weights of every unit whose norm is above `limit`, to a norm of exactly `limit`.

    Source: Srivastava et al. 2014, section 5.1, https://jmlr.org/papers/v15/srivastava14a.html.
    `keras.constraints.MaxNorm` does the same for Dense kernels; for a convolution its default `axis=0` takes
    norms along the kernel's height only, which leaves filters far above the limit.

    Args:
        limit: Largest L2 norm, > 0 (c in the paper, which uses 3 to 4).
        unit_axes: Axes of the kernel that number the units; norms are taken over all other axes. -1 for Dense and
            convolutions, (-2, -1) for depthwise convolutions, -2 for transposed convolutions.

    Raises:
        ValueError: when `limit` is not positive or `unit_axes` are not axes of the weights.

    Example:
        >>> keras.layers.Conv2D(64, 3, kernel_constraint=MaxNorm(3.0))
    """

    def __init__(self, limit: float = 3.0, *, unit_axes: int | Sequence[int] = -1) -> None:
        if not is_number(limit) or limit <= 0:
            raise ValueError(f"MaxNorm expects limit > 0. Received limit={limit}. The paper uses 3 to 4.")
        if not is_whole(unit_axes) and not (are_whole(unit_axes) and len(unit_axes)):
            raise ValueError(
                f"MaxNorm expects unit_axes to be an axis or a tuple of axes. Received unit_axes={unit_axes!r}. "
                "-1 suits Dense and convolutions, (-2, -1) depthwise convolutions."
            )
        self.limit = limit
        self.unit_axes = unit_axes if is_whole(unit_axes) else tuple(int(axis) for axis in unit_axes)

    def __call__(self, w: Any) -> Any:
        axes = (self.unit_axes,) if isinstance(self.unit_axes, int) else self.unit_axes
        if not all(-len(w.shape) <= axis < len(w.shape) for axis in axes):
            raise ValueError(
                f"MaxNorm expects unit_axes among the {len(w.shape)} axes of the weights. Received "
                f"unit_axes={self.unit_axes} for weights of shape {tuple(w.shape)}. -1 suits Dense and convolutions."
            )
        units = {axis % len(w.shape) for axis in axes}
        incoming = [axis for axis in range(len(w.shape)) if axis not in units]
        norms = keras.ops.sqrt(keras.ops.sum(keras.ops.square(w), axis=incoming, keepdims=True))
        # A norm below the limit gives limit / limit, so those weights keep their exact value.
        return w * (self.limit / keras.ops.maximum(norms, self.limit))

    def get_config(self) -> dict[str, Any]:
        return {"limit": self.limit, "unit_axes": self.unit_axes}
