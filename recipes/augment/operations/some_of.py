"""A random subset of several operations per image."""

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

from recipes.augment.engine.operation import Drawn, Operation, operation
from recipes.augment.operations.groups import Group
from recipes.augment.operations.translate import whole_shift


@operation
class SomeOf(Group):
    """Apply a random subset of several operations to each image.

    The operations of the subset run in the order of the stages and, within a stage, in the order of the list.

    Args:
        operations: list of operations that keep the image size. A member's own `probability` still applies.
        count: Size of the subset, or a pair `(low, high)` from which each image draws it.
        probability: Chance that an image gets a subset at all.

    Raises:
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
    """

    operations: Sequence[Operation]
    count: int | tuple[int, int] = 2
    _: dataclasses.KW_ONLY
    probability: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._counts = self.count if isinstance(self.count, tuple) else (self.count, self.count)
        whole = len(self._counts) == 2 and all(isinstance(one, int) for one in self._counts)
        if not (whole and 0 <= self._counts[0] <= self._counts[1] <= len(self.operations)):
            raise ValueError(
                f"augment.SomeOf expects count to be a whole number, or a pair, within 0 and {len(self.operations)}, "
                f"the number of operations. Received {self.count!r}. Write for example SomeOf([...], count=(1, 2))."
            )

    @property
    def draws(self) -> tuple[str, ...]:
        return (*(f"rank {index}" for index in range(len(self.operations))), "count")

    def chosen(self, drawn: Drawn, index: int) -> tf.Tensor:
        count = whole_shift(drawn["count"], *self._counts)
        # The members with the smallest draws are taken: every choice of `count` is equally likely.
        ranks = tf.stack([drawn[name] for name in self.draws[:-1]])
        rank = tf.reduce_sum(tf.cast(ranks < ranks[index], tf.float32), 0)
        return rank < count
