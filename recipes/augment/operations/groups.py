"""Groups of operations of which each image gets some."""

import dataclasses

import numpy as np
import tensorflow as tf

from recipes.augment.engine.operation import Operation, leaves, operation
from recipes.common.validation import as_numbers


class Group(Operation):
    """Base of the groups: `operations`, and which of them each image gets.

    All members are laid out in the same pass, in the order of the stages, and switched on image by image; so a
    group costs what its members cost together, not one after the other.
    """

    def __post_init__(self):
        super().__post_init__()
        members = list(self.operations) if isinstance(self.operations, (list, tuple)) else []
        if not members or not all(isinstance(member, Operation) for member in members):
            raise ValueError(
                f"augment.{self.name} expects a list of operations. Received {self.operations!r}. "
                f"For example: {self.name}([augment.Rotate(10), augment.Shear(0.1)])."
            )
        if any(type(member).__name__ == "Normalize" for member in members):
            raise ValueError(
                f"augment.{self.name} expects operations that an image may go without. Received a Normalize. "
                "Put Normalize into the pipeline itself, after the group."
            )
        self.operations = members

    def check(self, frame):
        fills = []
        for member in self.operations:
            after = member.after(frame)
            if (after.height, after.width) != (frame.height, frame.width):
                raise ValueError(
                    f"augment.{self.name} expects operations that keep the size of the image. Received {member!r} "
                    f"for images of {frame.height}x{frame.width}. Put it into the pipeline itself, before the group."
                )
            for leaf in leaves(member):
                if leaf.stage == "geometry" and leaf.fill is not None and leaf.fill not in fills:
                    fills.append(leaf.fill)
        if len(fills) > 1:
            raise ValueError(
                f"augment.{self.name} expects one fill for all that is moved. Received {fills}. "
                "Give every geometric operation of the group the same fill=."
            )


@operation
class OneOf(Group):
    """Give each image exactly one of several operations.

    Args:
        operations: list of operations that keep the image size. A member's own `probability` still counts.
        weights: One number >= 0 for each, the relative chances; None means all the same.
        probability: Chance that an image gets any.
    """

    operations: list
    _: dataclasses.KW_ONLY
    weights: tuple | None = None
    probability: float = 1.0

    uniforms = 1

    def __post_init__(self):
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

    def chosen(self, uniform, index):
        return (uniform[0] >= self._edges[index]) & (uniform[0] < self._edges[index + 1])


@operation
class SomeOf(Group):
    """Give each image several of some operations, all different.

    They act in the order of the stages and, within a stage, of the list, whatever was drawn.

    Args:
        operations: list of operations that keep the image size. A member's own `probability` still counts.
        count: How many, or a pair `(low, high)` from which each image draws its number.
        probability: Chance that an image gets any.
    """

    operations: list
    count: object = 2
    _: dataclasses.KW_ONLY
    probability: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        self._counts = self.count if isinstance(self.count, tuple) else (self.count, self.count)
        whole = len(self._counts) == 2 and all(isinstance(one, int) for one in self._counts)
        if not (whole and 0 <= self._counts[0] <= self._counts[1] <= len(self.operations)):
            raise ValueError(
                f"augment.SomeOf expects count to be a whole number, or a pair, within 0 and {len(self.operations)}, "
                f"the number of operations. Received {self.count!r}. For example: SomeOf([...], count=(1, 2))."
            )

    @property
    def uniforms(self):
        return len(self.operations) + 1

    def chosen(self, uniform, index):
        low, high = self._counts
        count = low + tf.floor(uniform[-1] * (high - low + 1))
        # The members with the smallest draws are taken: every choice of `count` is equally likely.
        rank = tf.reduce_sum(tf.cast(uniform[:-1] < uniform[index], tf.float32), 0)
        return rank < count
