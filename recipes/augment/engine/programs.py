"""Programs: a separate sequence of operations for each image, applied to uint8 levels one after the other as in PIL."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from recipes.augment.engine.geometry import Geometric
from recipes.augment.engine.levels import (
    blend_bytes,
    equalized,
    gray_levels,
    invert_from,
    keep_bits,
    smoothed,
    stretch_levels,
)
from recipes.augment.engine.operation import Drawn, Fill, Frame, Operation, check_fill, resolve_fill
from recipes.augment.engine.resample import resample
from recipes.augment.engine.spatial_filters import Filter, FilterStep
from recipes.augment.engine.warp import IDENTITY, Warp, compose

#: The operations of a program, with the names that the papers use.
KINDS = (
    "Identity",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "Rotate",
    "Brightness",
    "Color",
    "Contrast",
    "Sharpness",
    "Posterize",
    "Solarize",
    "AutoContrast",
    "Equalize",
    "Invert",
)
_MOVES = KINDS.index("ShearX"), KINDS.index("Rotate")


class Program(NamedTuple):
    """The operations on each image, step by step.

    Attributes:
        kinds: `(batch, steps)`, int32: indices into `KINDS`.
        strengths: `(batch, steps)`, float32, in the unit of the kind: a slope, pixels, degrees (counterclockwise), a
            factor (1 changes nothing), bits, or the level from which values are inverted. Kinds without a strength
            ignore it.
    """

    kinds: tf.Tensor
    strengths: tf.Tensor


class Programmed(Filter):
    """Base of the operations that run a `Program`.

    Between two steps the levels are whole numbers, clipped to 0 to 255. Steps that move pixels read them bilinearly and
    round; all other steps follow PIL's arithmetic.
    """

    fill: Fill
    moves = True
    alike = True
    plain_is_slow = True

    def used(self) -> Sequence[str]:
        """The names of the `KINDS` that may occur."""
        raise NotImplementedError

    def program(self, drawn: Drawn, frame: Frame) -> Program:
        """The `Program` of each image."""
        raise NotImplementedError

    def check(self, frame: Frame) -> None:
        check_fill(self, frame, ("black", "mean", "edge", "reflect"))
        if frame.normalized:
            raise ValueError(
                f"augment.{self.name} expects pixels in the value range. Received normalized pixels, because it comes "
                f"after Normalize. Move {self.name} before Normalize."
            )
        if frame.channels not in (1, 3):
            raise ValueError(
                f"augment.{self.name} expects gray images, or red, green and blue. Received images of "
                f"{frame.channels} channels. Write augment.RandAugment(color=False) in its place, which only moves "
                "pixels and works on any number of channels."
            )

    def steps(self, *, compiled: bool) -> list[FilterStep]:
        return [self._apply]

    def moved_by(self) -> "Operation":
        """The geometric operation that moves annotations in the same way as the program moves the pixels."""
        return ProgramWarp(self)

    def _apply(self, images, drawn, active, frame):
        levels = to_levels(images, frame)
        program = self.program(drawn, frame)
        result = run_programs(levels, program, self.used(), active, self.fill, frame)
        return _where_active(active, from_levels(result, frame), images)


class ProgramWarp(Geometric):
    """The geometric part of a program: where each output pixel comes from."""

    turns = True

    def __init__(self, owner: Programmed) -> None:
        self.owner, self.fill = owner, owner.fill
        self.draws = owner.draws

    def warp(self, drawn: Drawn, frame: Frame) -> Warp:
        program, total = self.owner.program(drawn, frame), IDENTITY
        for kind, strength in zip(
            tf.unstack(program.kinds, axis=1), tf.unstack(program.strengths, axis=1), strict=True
        ):
            total = compose(total, kind_warp(kind, strength, frame))
        return total


def kind_warp(kind: tf.Tensor, strength: tf.Tensor, frame: Frame) -> Warp:
    """The `Warp` of one step, the identity for kinds that do not move pixels.

    The fixed point of a shear is the upper left corner, as in PIL's `transform`; that of a rotation is the center.
    """
    amount = lambda name: tf.where(kind == KINDS.index(name), strength, 0.0)  # noqa: E731
    across, down = amount("ShearX"), amount("ShearY")
    angle = amount("Rotate") * np.float32(np.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    center_y, center_x = (frame.height - 1) / 2, (frame.width - 1) / 2
    return Warp(
        yy=cos,
        yx=sin + down,
        y0=center_y * (1 - cos) - sin * center_x + down / 2 - amount("TranslateY"),
        xy=across - sin,
        xx=cos,
        x0=center_x * (1 - cos) + sin * center_y + across / 2 - amount("TranslateX"),
    )


def to_levels(images: tf.Tensor, frame: Frame) -> tf.Tensor:
    """Convert images of any range to rounded uint8 levels.

    Args:
        images: `(batch, height, width, channels)`; uint8 images are returned unchanged.
        frame: Size and range of the images; the range of the first channel is used for all channels.

    Returns:
        uint8 of the same shape: 0 for the lowest value of the range, 255 for the highest; values outside are clipped.
    """
    if images.dtype == tf.uint8:
        return images
    low, high = float(frame.low[0]), float(frame.high[0])
    levels = tf.clip_by_value((images - low) * (255 / (high - low)), 0.0, 255.0)
    return tf.cast(tf.round(levels), tf.uint8)


def from_levels(levels: tf.Tensor, frame: Frame) -> tf.Tensor:
    """Convert levels back to the range of the images: the inverse of `to_levels`.

    Args:
        levels: `(batch, height, width, channels)`, uint8 or float32 from 0 to 255.
        frame: Size and range of the images.

    Returns:
        float32 of the same shape in the range; `levels` unchanged if the range is 0 to 255.
    """
    low, high = float(frame.low[0]), float(frame.high[0])
    if (low, high) == (0.0, 255.0):
        return levels
    return tf.cast(levels, tf.float32) * ((high - low) / 255) + low


def run_programs(
    levels: tf.Tensor,
    program: Program,
    used: Sequence[str],
    active: tf.Tensor | None,
    fill: Fill,
    frame: Frame,
) -> tf.Tensor:
    """Run the steps of its program on each image; only the operations of its own steps are computed.

    Args:
        levels: `(batch, height, width, channels)`, uint8.
        program: The steps of each image.
        used: Names of the kinds that may occur.
        active: bool `(batch,)`, the images to change, or None for all; the others are returned unchanged.
        fill: Color outside the image, in pixel values of the frame.
        frame: The `Frame` of the images.

    Returns:
        uint8 of the same shape.
    """
    run = step_runner(used, fill, frame)
    steps = program.kinds.shape[1]
    result = tf.map_fn(
        lambda given: run_steps(run, *given, 0, steps),
        (levels, *prepared(program, active, frame)),
        fn_output_signature=tf.uint8,
    )
    return tf.reshape(result, tf.shape(levels))  # map_fn does not know the shape of an empty batch


def prepared(
    program: Program, active: tf.Tensor | None, frame: Frame
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Kinds, strengths and warps, `(batch, steps, ...)`; images that are not `active` get the kind "Identity"."""
    kinds = program.kinds if active is None else tf.where(active[:, None], program.kinds, 0)
    return kinds, program.strengths, step_warps(kinds, program.strengths, frame)


def run_steps(
    run: Callable[..., tf.Tensor],
    image: tf.Tensor,
    kinds: tf.Tensor,
    strengths: tf.Tensor,
    warps: tf.Tensor,
    first: Any,
    end: Any,
) -> tf.Tensor:
    """Run the steps from `first` to `end - 1`, integers or tensors, on one uint8 image `(height, width, channels)`."""
    return tf.while_loop(
        lambda step, _: step < end,
        lambda step, image: (step + 1, run(image, kinds[step], strengths[step], warps[step])),
        [tf.convert_to_tensor(first), image],
    )[1]


def step_warps(kinds: tf.Tensor, strengths: tf.Tensor, frame: Frame) -> tf.Tensor:
    """The six numbers of each step's warp, `(batch, steps, 6)`."""
    return tf.stack(list(kind_warp(kinds, strengths, frame)), -1)


def step_runner(used: Sequence[str], fill: Fill, frame: Frame) -> Callable[..., tf.Tensor]:
    """The function `(image, kind, strength, warp) -> image` on uint8 images `(height, width, channels)`."""
    branches: list[Any] = [lambda image, *_: image]
    place = np.zeros(len(KINDS), "int32")
    moved = lambda image, _, warp: move_bytes(image, warp, fill, frame)  # noqa: E731
    for name in dict.fromkeys(used):
        kind = KINDS.index(name)
        if name == "Identity":
            continue
        if _MOVES[0] <= kind <= _MOVES[1]:
            if moved not in branches:
                branches.append(moved)
            place[kind] = branches.index(moved)
            continue
        branches.append(_LEVELS[name])
        place[kind] = len(branches) - 1

    def run(image, kind, strength, warp):
        calls = [lambda branch=branch: branch(image, strength, warp) for branch in branches]
        return tf.ensure_shape(tf.switch_case(tf.gather(place, kind), calls), image.shape)

    return run


def move_bytes(image: tf.Tensor, warp: tf.Tensor, fill: Fill, frame: Frame) -> tf.Tensor:
    """Move one uint8 image by a warp, `(6,)`, with bilinear reading and rounding."""
    y = tf.range(frame.height, dtype=tf.float32)[None, :, None]
    x = tf.range(frame.width, dtype=tf.float32)[None, None, :]
    yy, yx, y0, xy, xx, x0 = tf.unstack(warp)
    color: Any = fill
    if not (isinstance(fill, str) and fill in ("edge", "reflect")):
        color = resolve_fill(fill, frame, lambda: tf.reduce_mean(tf.cast(image, tf.float32), (0, 1))[None])
        low, high = frame.low[0], frame.high[0]
        if isinstance(color, np.ndarray):
            color = (color - low) * np.float32(255 / (high - low))
    moved = resample(image[None], yy * y + yx * x + y0, xy * y + xx * x + x0, color)
    return _bytes(tf.floor(moved[0] + 0.5))


def _blended(background):
    """A PIL enhancement: the blend `strength * image + (1 - strength) * background(image)`."""

    def branch(image, strength, _):
        levels = tf.cast(image, tf.float32)
        return _bytes(blend_bytes(background(levels), levels, strength))

    return branch


def _curved(curve):
    def branch(image, strength, _):
        return _bytes(curve(tf.cast(image, tf.float32)[None], strength[None])[0])

    return branch


def _mean_gray(levels):
    return tf.floor(tf.reduce_mean(gray_levels(levels)) + 0.5)


_LEVELS: dict[str, Callable[..., tf.Tensor]] = {
    "Brightness": _blended(lambda levels: 0.0),
    "Color": _blended(gray_levels),
    "Contrast": _blended(_mean_gray),
    "Sharpness": _blended(smoothed),
    "Posterize": _curved(keep_bits),
    "Solarize": _curved(invert_from),
    "AutoContrast": _curved(lambda levels, _: stretch_levels(levels)),
    "Equalize": _curved(lambda levels, _: equalized(levels)),
    "Invert": _curved(lambda levels, _: 255 - levels),
}


def _bytes(levels):
    # Through int32, because processors have an instruction for that conversion.
    return tf.cast(tf.cast(tf.clip_by_value(levels, 0.0, 255.0), tf.int32), tf.uint8)


def _where_active(active, new, old):
    if active is None or new.dtype == old.dtype == tf.uint8:
        return new
    return tf.where(active[:, None, None, None], tf.cast(new, tf.float32), tf.cast(old, tf.float32))


@dataclasses.dataclass(frozen=True)
class Space:
    """A search space: the operations to choose from and their strengths.

    Attributes:
        names: Names of operations, from `KINDS`.
        table: `(names, levels)`, float32: the strength of each operation at each level.
        signed: bool `(names,)`: whether the strength (for a factor, its distance from 1) may be negative.
    """

    names: tuple[str, ...]
    table: np.ndarray
    signed: np.ndarray

    def step(self, choice: tf.Tensor, level: tf.Tensor, negative: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """`(kinds, strengths)` of one step, from indices of names, indices of levels, and signs, each `(batch,)`."""
        flat = tf.gather(self.table.reshape(-1), choice * self.table.shape[1] + level)
        signed = tf.gather(self.signed, choice)
        flat = tf.where(signed & negative, -flat, flat)
        factors = np.array([name in _FACTORS for name in self.names])
        kinds = tf.gather(np.array([KINDS.index(name) for name in self.names], "int32"), choice)
        return kinds, flat + tf.cast(tf.gather(factors, choice), tf.float32)


_FACTORS = ("Brightness", "Color", "Contrast", "Sharpness")
