"""The filter stage: operations that read the neighbors of a pixel or add to it, each a step of its own."""

from collections.abc import Callable
from typing import Any, TypeAlias

import tensorflow as tf

from recipes.augment.engine.operation import Operation

#: `(images, drawn, active, frame) -> images`: images uint8 or float32, draws by name, bool `(batch,)` or None, `Frame`.
FilterStep: TypeAlias = Callable[..., tf.Tensor]


class Filter(Operation):
    """Base of the operations that need the finished image."""

    stage = "filter"

    def steps(self, *, compiled: bool) -> list[FilterStep]:
        """Functions that run one after the other, each a program of its own where they are compiled.

        What leaves the last is float32 and of the shape that came in; unchanged where `active` is False.
        """
        raise NotImplementedError


def build_filter(slot: Any, *, compiled: bool) -> list[Callable[..., tf.Tensor]]:
    """Functions `(images, draws) -> images` for one operation."""

    def bind(step):
        def filtering(images, draws):
            images = images if images.dtype == tf.uint8 and compiled else tf.cast(images, tf.float32)
            return step(images, slot.drawn(draws), slot.active(draws), slot.frame)

        return filtering

    return [bind(step) for step in slot.op.steps(compiled=compiled)]
