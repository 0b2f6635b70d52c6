"""The color stage: linear color operations are composed to one map per image, and erasing becomes masks."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from recipes.augment.engine.noise import uniform_noise
from recipes.augment.engine.operation import Drawn, Frame, Operation, paint_over, resolve_fill
from recipes.augment.engine.resample import fits


class ColorOperation(Operation):
    """Base of the operations that map every pixel of an image by the same affine map `matrix @ color + offset`."""

    stage = "color"
    mixes_channels: ClassVar[bool] = False
    leaves_range = True

    def color_map(self, drawn: Drawn, mean: tf.Tensor | None, frame: Frame) -> tuple[Any, Any]:
        """The map of each image.

        Args:
            drawn: The operation's draws by name, each `(batch,)`.
            mean: Mean color of each image at this point, `(batch, channels)`; None unless `needs_mean`.
            frame: The `Frame` of the images at this point.

        Returns:
            `(scale, offset)`: scale of shape (batch or 1, channels or 1), or a matrix (batch or 1, channels,
            channels) when `mixes_channels`; offset of shape (batch or 1, channels or 1).
        """
        raise NotImplementedError

    def check(self, frame: Frame) -> None:
        if frame.normalized:
            raise ValueError(
                f"augment.{self.name} expects pixels in the value range. Received normalized pixels, because it comes "
                f"after Normalize. Move {self.name} before Normalize."
            )
        if self.mixes_channels and frame.channels != 3:
            raise ValueError(
                f"augment.{self.name} expects red, green and blue. Received images of {frame.channels} channels. "
                f"Leave {self.name} out; Brightness and Contrast work on any number of channels."
            )


class Erasing(Operation):
    """Base of the operations that paint over a box."""

    stage = "erase"

    def boxes(self, drawn: Drawn, frame: Frame) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """The box to paint, `(top, bottom, left, right)`, each int32 `(batch,)`, in pixels.

        Rows top <= y < bottom and columns left <= x < right are painted.
        """
        raise NotImplementedError

    def paint(self, frame: Frame, image_mean: Callable[[], tf.Tensor] | None, noise: tf.Tensor | None) -> Any:
        """Colors that broadcast over `(batch, height, width, channels)`.

        `noise` is uniform in [0, 1) and of this shape if the operation has `pixel_noise`, otherwise None.
        """
        return resolve_fill(self.fill, frame, image_mean)


def build_color(
    slots: Sequence[Any], *, compiled: bool, keep_integers: bool = False
) -> Callable[..., tf.Tensor]:
    """The function `(images, draws) -> images` for the colors and erasures of one pass.

    The function returns float32 images. With `keep_integers` it keeps the integer dtype of the images when all it does
    is to paint boxes with whole numbers.
    """
    paints_only = all(slot.op.stage == "erase" for slot in slots)
    matrix = any(slot.op.stage == "color" and slot.op.mixes_channels for slot in slots)
    needs_mean = color_needs_mean(slots)

    def integers(images, draws):
        for slot in slots:
            mask = box_mask(slot.op.boxes(slot.drawn(draws), slot.frame), slot.frame, slot.active(draws))
            color = tf.constant(slot.op.paint(slot.frame, None, None), images.dtype)
            images = tf.where(mask[..., None] > 0, color, images)
        return images

    def whole(images):
        plain = lambda op, frame: not op.pixel_noise and not (op.fill == "mean" and frame.mean is None)  # noqa: E731
        return images.dtype.is_integer and all(
            plain(slot.op, slot.frame) and fits(slot.op.paint(slot.frame, None, None), images.dtype)
            for slot in slots
        )

    def color(images, draws):
        if keep_integers and paints_only and whole(images):
            return integers(images, draws)
        alone = len(slots) == 1 and slots[0].op.pixel_noise and large(slots[0].frame)
        if keep_integers and alone and images.dtype.is_integer:
            return paint_noise(slots[0], images, draws)
        images = tf.cast(images, tf.float32)
        channels = images.shape[-1]
        image_mean = channel_means(images) if needs_mean else None
        scale = tf.eye(channels, batch_shape=(1,)) if matrix else tf.ones((1, channels))
        offset = tf.zeros((1, channels))
        holes = []
        for slot in slots:
            active = slot.active(draws)
            mean = _move_color(scale, offset, image_mean) if needs_mean else None
            if slot.op.stage == "erase":
                drawn, frame = slot.drawn(draws), slot.frame
                mask = box_mask(slot.op.boxes(drawn, frame), frame, active)
                noise = None
                if slot.op.pixel_noise:
                    noise = uniform_noise(drawn["noise"], (frame.height, frame.width, frame.channels))
                holes.append((mask, slot.op.paint(frame, lambda mean=mean: mean, noise)))
                continue
            step, shift = slot.op.color_map(slot.drawn(draws), mean, slot.frame)
            step, shift = _gated(step, shift, active, matrix, channels)
            scale = tf.einsum("bij,bjk->bik", *_same_batch(step, scale)) if matrix else step * scale
            offset = _move_color(tf.convert_to_tensor(step), shift, offset)
            holes = [(mask, _move_paint(step, shift, paint)) for mask, paint in holes]
        if any(slot.op.stage == "color" for slot in slots):
            images = _move_pixels(scale, offset, images, wide=not compiled)
        for mask, paint in holes:
            images = paint_over(images, mask[..., None], paint)
        return images

    return color


def large(frame: Frame) -> bool:
    """Whether images are large enough for a loop over blocks of rows to be faster."""
    return frame.height * frame.width >= 96 * 96 and _blocks(frame.height) > 1


def _blocks(height):
    """The number of blocks into which the rows of an image are divided: blocks of equal height, 28 rows or more."""
    return next(count for count in range(max(1, min(16, height // 28)), 0, -1) if height % count == 0)


def paint_noise(slot: Any, images: tf.Tensor, draws: Any) -> tf.Tensor:
    """Paint boxes of noise over uint8 images; no noise is drawn for blocks of rows without a box.

    Each painted pixel gets the number that `uniform_noise` of the whole image would give it.
    """
    frame, drawn = slot.frame, slot.drawn(draws)
    count = _blocks(frame.height)
    rows, line = frame.height // count, frame.width * frame.channels
    top, bottom, left, right = slot.op.boxes(drawn, frame)
    active = slot.active(draws)
    if active is not None:
        bottom = tf.where(active, bottom, top)
    blocks = tf.reshape(images, (-1, rows, frame.width, frame.channels))

    def one(given):
        number, block = given
        image, first = number // count, number % count * rows
        box = tuple(edge[image] for edge in (top - first, bottom - first, left, right))

        def painted():
            noise = uniform_noise(
                drawn["noise"][image][None], (rows, frame.width, frame.channels), start=first * line
            )
            # Through int32, because processors have an instruction for that conversion.
            color = tf.cast(tf.cast(tf.round(slot.op.paint(frame, None, noise)[0]), tf.int32), block.dtype)
            part = dataclasses.replace(frame, height=rows)
            mask = box_mask([edge[None] for edge in box], part)[0, :, :, None]
            return tf.where(mask > 0, color, block)

        return tf.cond((box[0] < rows) & (box[1] > tf.maximum(box[0], 0)), painted, lambda: block)

    numbers = tf.range(tf.shape(blocks)[0])
    painted = tf.map_fn(one, (numbers, blocks), fn_output_signature=images.dtype)
    return tf.reshape(painted, (-1, *images.shape[1:]))


def color_needs_mean(slots: Sequence[Any]) -> bool:
    """Whether the mean color of the images has to be measured."""
    return any(
        slot.op.needs_mean
        or (slot.op.fill == "mean" and slot.frame.mean is None and slot.op.stage == "erase")
        for slot in slots
    )


def channel_means(images: tf.Tensor, block: int = 16) -> tf.Tensor:
    """Mean of each channel, float32 `(batch, channels)`; summed in blocks of pixels, which is faster."""
    height, width, channels = images.shape[1:]
    if height * width % block:
        return tf.reduce_mean(images, (1, 2))
    sums = tf.reduce_mean(tf.reshape(images, (-1, height * width // block, block * channels)), 1)
    return tf.reduce_mean(tf.reshape(sums, (-1, block, channels)), 1)


def box_mask(box: Sequence[tf.Tensor], frame: Frame, active: tf.Tensor | None = None) -> tf.Tensor:
    """float32 `(batch, height, width)`: 1 inside the box, 0 outside."""
    top, bottom, left, right = (edge[:, None] for edge in box)
    rows, columns = tf.range(frame.height)[None], tf.range(frame.width)[None]
    inside_rows = (rows >= top) & (rows < bottom)
    if active is not None:
        inside_rows = inside_rows & active[:, None]
    inside_columns = (columns >= left) & (columns < right)
    return tf.cast(inside_rows, tf.float32)[:, :, None] * tf.cast(inside_columns, tf.float32)[:, None, :]


def _gated(step, shift, active, matrix, channels):
    """The map in the common form of all maps of this pass, with the identity for images that are not changed."""
    identity = np.eye(channels, dtype="float32")[None] if matrix else np.ones((1, 1), "float32")
    if matrix and len(step.shape) == 2:
        step = step[:, :, None] * identity
    if active is None:
        return step, shift
    chosen = tf.reshape(active, (-1,) + (1,) * (len(step.shape) - 1))
    return tf.where(chosen, step, identity), tf.where(active[:, None], shift, 0.0)


def _same_batch(a, b):
    # A constant has one row; a batch may have no rows.
    rows = tf.where(tf.shape(a)[0] == 1, tf.shape(b)[0], tf.shape(a)[0])
    return [tf.broadcast_to(one, tf.concat([[rows], tf.shape(one)[1:]], 0)) for one in (a, b)]


def _move_paint(step, shift, paint):
    """The map applied to the color of a hole; NumPy constants stay constants, so that zeros are still recognized."""
    if all(isinstance(one, np.ndarray) for one in (step, shift, paint)):
        color = paint[0, 0, 0]
        color = step[0] @ color if step.ndim == 3 else step[0] * color
        return (color + shift[0]).reshape(1, 1, 1, -1)
    return _move_pixels(tf.convert_to_tensor(step), tf.convert_to_tensor(shift), tf.convert_to_tensor(paint))


def _move_color(scale, offset, colors):
    """The map applied to one color per image, (batch, channels)."""
    if scale.shape.rank == 3:
        return tf.reduce_sum(scale * colors[:, None, :], 2) + offset
    return scale * colors + offset


def _move_pixels(scale, offset, pixels, wide=False):
    """The map applied to pixels (batch or 1, height or 1, width or 1, channels)."""
    channels = pixels.shape[-1]
    if scale.shape.rank == 2:
        if wide:
            return _move_rows(scale, offset, pixels)
        return pixels * scale[:, None, None, :] + offset[:, None, None, :]
    # Channel by channel: compiled, this is three multiply-adds per value without a transposition.
    planes = [pixels[..., channel] for channel in range(channels)]
    offset = tf.broadcast_to(offset, (tf.shape(offset)[0], channels))
    entry = lambda row, column: scale[:, row, column][:, None, None]  # noqa: E731
    moved = [
        sum(entry(row, column) * planes[column] for column in range(channels)) + offset[:, row][:, None, None]
        for row in range(channels)
    ]
    return tf.stack(moved, -1)


def _move_rows(scale, offset, images):
    """The same on whole rows: in plain TensorFlow, broadcasting over the short channel axis is seven times slower."""
    height, width, channels = images.shape[1:]
    scale = tf.broadcast_to(scale, (tf.shape(scale)[0], channels))
    offset = tf.broadcast_to(offset, (tf.shape(offset)[0], channels))
    rows = tf.reshape(images, (-1, height, width * channels))
    rows = rows * tf.tile(scale, (1, width))[:, None] + tf.tile(offset, (1, width))[:, None]
    return tf.reshape(rows, (-1, height, width, channels))
