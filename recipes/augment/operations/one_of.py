"""One of several operations per image."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from recipes.augment.engine.operation import Drawn, Operation, operation
from recipes.augment.operations.groups import Group
from recipes.common.validation import as_numbers


@operation
class OneOf(Group):
    """Apply exactly one of several operations to each image.

    Args:
        operations: list of operations that keep the image size. A member's own `probability` still applies.
        weights: The relative chances, one number >= 0 per operation; None means equal chances.
        probability: Chance that an image gets one of the operations at all.

    Raises:
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
    """

    operations: Sequence[Operation]
    _: dataclasses.KW_ONLY
    weights: Sequence[float] | None = None
    probability: float = 1.0

    draws = ("choice",)

    def __post_init__(self) -> None:
        super().__post_init__()
        count = len(self.operations)
        weights = (
            np.ones(count) if self.weights is None else as_numbers("augment.OneOf", "weights", self.weights)
        )
        if (
            weights.shape != (count,)
            or not np.isfinite(weights).all()
            or weights.min() < 0
            or weights.sum() <= 0
        ):
            raise ValueError(
                f"augment.OneOf expects one weight >= 0 for each of {count} operations. Received "
                f"{self.weights!r}. Leave weights out for equal chances."
            )
        edges = np.concatenate([[0], np.cumsum(weights) / weights.sum()])
        edges[-1] = 1
        self._edges = [float(edge) for edge in edges]

    def chosen(self, drawn: Drawn, index: int) -> tf.Tensor:
        return (drawn["choice"] >= self._edges[index]) & (drawn["choice"] < self._edges[index + 1])
