"""The filter stage: operations that read the neighbors of a pixel or add to it, each a step of its own."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from recipes.augment.engine.operation import Drawn, Frame, Operation


class Filter(Operation):
    """Base of the operations that need the finished image."""

    stage = "filter"

    def filter(
        self, images: tf.Tensor, drawn: Drawn, active: tf.Tensor | None, frame: Frame, *, compiled: bool
    ) -> tf.Tensor:
        """Filtered float32 images of the same shape; unchanged where `active` is False."""
        raise NotImplementedError


def build_filter(slot: Any, *, compiled: bool) -> Callable[..., tf.Tensor]:
    """The function `(images, draws) -> images` for one operation."""

    def filtering(images, draws):
        images = tf.cast(images, tf.float32)
        return slot.op.filter(images, slot.drawn(draws), slot.active(draws), slot.frame, compiled=compiled)

    return filtering
