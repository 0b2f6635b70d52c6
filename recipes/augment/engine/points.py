"""Base of the operations that map each value by a curve that is not linear; they count in 256 levels, as PIL does."""

import tensorflow as tf

from recipes.augment.engine.operation import Drawn, Frame
from recipes.augment.engine.spatial_filters import Filter, FilterStep


class PointOperation(Filter):
    """A curve for the values of each image, on levels 0 to 255 of the value range."""

    def check(self, frame: Frame) -> None:
        if frame.normalized:
            raise ValueError(
                f"augment.{self.name} expects pixels in the value range. Received it after Normalize, where "
                f"black is no longer the low end. Move {self.name} before Normalize."
            )

    def steps(self, *, compiled: bool) -> list[FilterStep]:
        return [self._apply]

    def curve(self, levels: tf.Tensor, drawn: Drawn) -> tf.Tensor:
        """New levels for levels `(batch, height, width, channels)`, float32 from 0 to 255."""
        raise NotImplementedError

    def _apply(self, images, drawn, active, frame):
        images = tf.cast(images, tf.float32)
        low, high = float(frame.low[0]), float(frame.high[0])
        bytes_already = (low, high) == (0.0, 255.0)
        levels = images if bytes_already else (images - low) * (255 / (high - low))
        levels = self.curve(tf.clip_by_value(levels, 0.0, 255.0), drawn)
        changed = levels if bytes_already else levels * ((high - low) / 255) + low
        return changed if active is None else tf.where(active[:, None, None, None], changed, images)
