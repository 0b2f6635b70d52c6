"""The filter stage: operations that read the neighbors of a pixel or add to it, each a step of its own."""

import tensorflow as tf

from recipes.augment.engine.operation import Operation


class Filter(Operation):
    """Base of the operations that need the finished image."""

    stage = "filter"

    def filter(self, images, uniform, noise, active, frame):
        """Filtered float32 images of the same shape; unchanged where `active` is False."""
        raise NotImplementedError


def build_filter(slot):
    """The function `(images, draws) -> images` for one operation."""

    def filtering(images, draws):
        images = tf.cast(images, tf.float32)
        return slot.op.filter(images, slot.uniform(draws), slot.noise(draws), slot.active(draws), slot.frame)

    return filtering
