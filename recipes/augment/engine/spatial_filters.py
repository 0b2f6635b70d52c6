"""The filter stage: operations that read the neighbors of a pixel or add to it, each a step of its own."""

from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

import tensorflow as tf

from recipes.augment.engine.operation import Operation

#: `(images, drawn, active, frame) -> images`: images uint8 or float32, draws by name, bool `(batch,)` or None, `Frame`.
FilterStep: TypeAlias = Callable[..., tf.Tensor]


class Filter(Operation):
    """Base of the operations that need the finished image."""

    stage = "filter"
    alike: ClassVar[bool] = (
        False  # True: what runs compiled and plain is the same; it is traced once for both
    )

    def steps(self, *, compiled: bool) -> list[FilterStep]:
        """Functions that run one after the other, each a program of its own where they are compiled.

        What leaves the last is float32 and of the shape that came in; unchanged where `active` is False.
        """
        raise NotImplementedError


def build_filter(slot: Any, *, compiled: bool) -> list[Callable[..., tf.Tensor]]:
    """Functions `(images, draws) -> images` for one operation."""

    keep_bytes = compiled or slot.op.alike

    def bind(step):
        def filtering(images, draws):
            images = images if images.dtype == tf.uint8 and keep_bytes else tf.cast(images, tf.float32)
            return step(images, slot.drawn(draws), slot.active(draws), slot.frame)

        return filtering

    steps = [bind(step) for step in slot.op.steps(compiled=compiled)]
    return (
        [slot.shared((number, "filter"), step) for number, step in enumerate(steps)]
        if slot.op.alike
        else steps
    )
