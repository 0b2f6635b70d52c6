"""The pointwise stage: nonlinear curves on the 256 levels that PIL uses; consecutive curves are fused.

For curves that need a histogram (`Equalize`), the levels of uint8 images are counted once. All curves are composed to
one table of 256 levels for each channel of each image, and the pixels are looked up in it. Curves without a histogram
run on the pixels, in one program.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import tensorflow as tf

from recipes.augment.engine.operation import Drawn, Frame
from recipes.augment.engine.spatial_filters import Filter, FilterStep


class PointOperation(Filter):
    """A curve for the values of each image, on levels 0 to 255 of the value range."""

    counts: ClassVar[bool] = False  # True: the curve depends on how often each level occurs

    def check(self, frame: Frame) -> None:
        if frame.normalized:
            raise ValueError(
                f"augment.{self.name} expects pixels in the value range. Received normalized pixels, because it comes "
                f"after Normalize. Move {self.name} before Normalize."
            )

    def steps(self, *, compiled: bool) -> list[FilterStep]:
        return [self._apply]

    def curve(self, levels: tf.Tensor, drawn: Drawn) -> tf.Tensor:
        """New levels for levels `(batch, height, width, channels)`, float32 from 0 to 255."""
        raise NotImplementedError

    def move_table(self, table: tf.Tensor, counts: tf.Tensor, drawn: Drawn) -> tf.Tensor:
        """Apply the curve to a table of levels.

        Args:
            table: `(batch, 256, 1, channels)`, float32: the present value of each original level, after the curves
                before.
            counts: `(batch, 256, 1, channels)`, int32: how often each original level occurs in the image.
            drawn: The operation's draws by name.

        Returns:
            The new table, of the same shape.
        """
        return self.curve(table, drawn)

    def _apply(self, images, drawn, active, frame):
        images = tf.cast(images, tf.float32)
        low, high = float(frame.low[0]), float(frame.high[0])
        bytes_already = (low, high) == (0.0, 255.0)
        levels = images if bytes_already else (images - low) * (255 / (high - low))
        levels = self.curve(tf.clip_by_value(levels, 0.0, 255.0), drawn)
        changed = levels if bytes_already else levels * ((high - low) / 255) + low
        return changed if active is None else tf.where(active[:, None, None, None], changed, images)


def build_points(slots: Sequence[Any]) -> Callable[..., tf.Tensor]:
    """The function `(images, draws) -> images` for consecutive point operations, for compiled code.

    It compiles its parts itself, as its attribute `compiles` tells, because counting is ten times slower in XLA than
    in plain TensorFlow.
    """
    frame = slots[0].frame
    bytes_there = (float(frame.low[0]), float(frame.high[0])) == (0.0, 255.0)

    def chain(images, draws):
        for slot in slots:
            for step in slot.op.steps(compiled=True):
                images = step(images, slot.drawn(draws), slot.active(draws), slot.frame)
        return images

    if not any(slot.op.counts for slot in slots):
        return chain
    compiled = {
        function: tf.function(function, jit_compile=True, autograph=False)
        for function in (chain, level_places, read_table)
    }

    def points(images, draws):
        if images.dtype != tf.uint8 or not bytes_there:
            return compiled[chain](images, draws)
        counts = tf.raw_ops.DenseBincount(
            input=compiled[level_places](images), size=256 * frame.channels, weights=tf.zeros((0,), tf.int32)
        )
        # The table is made outside the program that reads it, which would compute it again for every pixel.
        return compiled[read_table](images, composed_table(slots, counts, draws))

    points.compiles = True
    return points


def level_places(images: tf.Tensor) -> tf.Tensor:
    """The flat index of each uint8 value in a table `(channels, 256)`: int32 `(batch, height * width * channels)`."""
    height, width, channels = images.shape[1:]
    places = tf.cast(images, tf.int32) + 256 * tf.range(channels)
    return tf.reshape(places, (-1, height * width * channels))


def composed_table(slots: Sequence[Any], counts: tf.Tensor, draws: Any) -> tf.Tensor:
    """The new value of each level, uint8 `(batch, channels, 256)`, for counts `(batch, channels * 256)`, int32."""
    counts = tf.transpose(tf.reshape(counts, (-1, counts.shape[1] // 256, 256)), (0, 2, 1))[:, :, None]
    levels = tf.reshape(tf.range(256, dtype=tf.float32), (1, 256, 1, 1))
    table = levels + tf.zeros_like(counts, tf.float32)
    for slot in slots:
        moved = slot.op.move_table(table, counts, slot.drawn(draws))
        active = slot.active(draws)
        table = moved if active is None else tf.where(active[:, None, None, None], moved, table)
    return tf.cast(tf.round(tf.transpose(table[:, :, 0], (0, 2, 1))), tf.uint8)


def read_table(images: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    """Look up uint8 images in a table uint8 `(batch, channels, 256)`."""
    channels = images.shape[-1]
    first = tf.range(tf.shape(images)[0])[:, None, None, None] * channels + tf.range(channels)
    return tf.gather(tf.reshape(table, (-1,)), first * 256 + tf.cast(images, tf.int32))
