"""The filter stage: operations that read the neighbors of a pixel or add noise; each is a separate step."""

from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

import tensorflow as tf

from recipes.augment.engine.operation import Operation

#: `(images, drawn, active, frame) -> images`: images uint8 or float32, draws by name, bool `(batch,)` or None, `Frame`.
FilterStep: TypeAlias = Callable[..., tf.Tensor]


class Filter(Operation):
    """Base of the operations that need the image after geometry and colors."""

    stage = "filter"
    alike: ClassVar[bool] = (
        False  # True: compiled and plain code run the same function, which is traced once for both
    )

    def steps(self, *, compiled: bool) -> list[FilterStep]:
        """Functions that run one after the other, each compiled as a separate program.

        The last one returns float32 images of the same shape, unchanged where `active` is False.
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
