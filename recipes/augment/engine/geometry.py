"""The geometry stage: the operations of a pass are composed where the result stays the same; then images are read."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import tensorflow as tf

from recipes.augment.engine import resample as reads
from recipes.augment.engine.operation import Drawn, Frame, Operation, check_fill, resolve_fill
from recipes.augment.engine.warp import IDENTITY, Warp, compose, forward, select

# Bilinear reading takes two pixels and misses none up to a factor of 2; from 1.5 on its aliasing becomes visible.
# Operations that resize average at every factor, as PIL does.
AVERAGE_FROM = 1.5
FILLS = ("black", "mean", "edge", "reflect")


class Geometric(Operation):
    """Base of the operations that move pixels: it tells where each output pixel comes from."""

    stage = "geometry"
    whole_pixels: ClassVar[bool] = False  # only moves by whole pixels and mirrors
    mirrors: ClassVar[bool] = False  # only mirrors; has a method `mirrored` too
    turns: ClassVar[bool] = False  # mixes the axes: rows do not stay rows
    bends: ClassVar[bool] = False  # not an affine map: has `bend` and `unbend` in place of `warp`
    resizes: ClassVar[bool] = False  # scales a window to a size of its own

    def output_size(self, frame: Frame) -> tuple[int, int]:
        """`(height, width)` of the images after this operation, in pixels."""
        return frame.height, frame.width

    def after(self, frame: Frame) -> Frame:
        height, width = self.output_size(frame)
        return dataclasses.replace(frame, height=height, width=width)

    def check(self, frame: Frame) -> None:
        if self.fill is not None:
            check_fill(self, frame, FILLS)

    def shrinks(self, frame: Frame) -> float:
        """The largest number of input pixels per output pixel along an axis, >= 1."""
        return 1.0

    def warp(self, drawn: Drawn, frame: Frame) -> Warp:
        """The `Warp` of each image."""
        raise NotImplementedError

    def neutral(self, frame: Frame) -> Warp:
        """The `Warp` of an image on which the operation does not act, because of `probability`."""
        return IDENTITY


class Read:
    """Operations that are composed, so that the images are read once for all of them.

    Attributes:
        slots: The `Slot`s of the operations, the earliest first.
        first, last: The `Frame` before the first and after the last operation.
        fill: The color outside the image, as an operation gives it; "edge" if none does.
        exact: Whether all operations only move by whole pixels and mirror.
        averages: Whether shrinking is antialiased; then no operation here turns.
        turns: Whether some operation turns or bends, so that rows do not stay rows.
    """

    def __init__(self, slots: Sequence[Any]) -> None:
        self.slots = slots
        self.first, self.last = slots[0].frame, slots[-1].op.after(slots[-1].frame)
        fills = [slot.op.fill for slot in slots if slot.op.fill is not None]
        self.fill = fills[0] if fills else "edge"
        self.exact = all(slot.op.whole_pixels for slot in slots)
        self.turns = any(slot.op.turns or slot.op.bends for slot in slots)
        self.bends = any(slot.op.bends for slot in slots)
        self.averages = any(_averages(slot) for slot in slots)
        self.most = 1.0
        for slot in slots:
            self.most *= slot.op.shrinks(slot.frame)

    def color(self, images: tf.Tensor) -> Any:
        """The fill in the form that the functions of `resample` take."""
        if isinstance(self.fill, str) and self.fill in ("edge", "reflect"):
            return self.fill
        mean = lambda: tf.reduce_mean(tf.cast(images, tf.float32), (1, 2))  # noqa: E731
        return resolve_fill(self.fill, self.first, mean)

    def warp(self, draws: Any) -> Warp:
        """One `Warp` for all operations."""
        total = IDENTITY
        for slot in self.slots:
            total = compose(total, slot_warp(slot, draws))
        return total

    def lines(self, draws: Any, batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Source positions along both axes, `(batch, out_height)` and `(batch, out_width)`, if nothing turns."""
        number = tf.int32 if self.exact else tf.float32  # computing in integers is an eighth faster
        warp = self.warp(draws)
        y = _line(warp.yy, warp.y0, tf.range(self.last.height, dtype=number), batch)
        return y, _line(warp.xx, warp.x0, tf.range(self.last.width, dtype=number), batch)

    def places(self, draws: Any, batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Source positions `y` and `x` of every output pixel, each `(batch, out_height, out_width)`."""
        down = tf.range(self.last.height, dtype=tf.float32)
        across = tf.range(self.last.width, dtype=tf.float32)
        if self.bends:
            return _bent_places(self.slots, draws, batch, down, across)
        return _places(self.warp(draws), batch, down[None, :, None], across[None, None, :])

    def taps(self, places: tf.Tensor, size: int, fill: Any) -> reads.Taps:
        if self.averages:
            return reads.triangle_taps(places, size, fill, self.most)
        return reads.bilinear_taps(places, size, fill)


def split_reads(slots: Sequence[Any]) -> list[Read]:
    """Divide the operations of a pass where composing them would change the result of one of them.

    Antialiased shrinking averages along rows and columns. So it is not composed with operations that turn or bend, nor
    with operations that shrink too little to average. A window that is scaled to another size reads the nearest pixel
    at the border of the image. So it is not composed with operations that fill borders.
    """
    groups: list[list[Any]] = []
    for slot in slots:
        if not groups or _conflict(groups[-1], slot):
            groups.append([])
        groups[-1].append(slot)
    return [Read(group) for group in groups]


def build_geometry(
    read: Read, *, compiled: bool, keep_integers: bool = False
) -> list[Callable[..., tf.Tensor]]:
    """Functions `(images, draws) -> images` that together do one `Read`.

    Rows and columns have separate functions, because compiled as one, a row would be read again for each column.
    With `keep_integers`, whole-pixel reads keep the dtype of the images where possible; all others give float32.
    """

    def exactly(images, draws):
        y, x = read.lines(draws, tf.shape(images)[0])
        fill = read.color(images)
        if compiled and not keep_integers and reads.slides(images, fill, read.last.height, read.last.width):
            down, across = _may_mirror(read.slots, draws)
            return tf.cast(reads.slide_pixels(images, y, x, fill, down=down, across=across), tf.float32)
        return reads.gather_pixels(images, y, x, fill, keep_integers=keep_integers)

    def mirrored(images, draws):
        return reads.mirror(images, *_mirrored(read.slots, draws))

    def anywhere(images, draws):
        return reads.resample(images, *read.places(draws, tf.shape(images)[0]), read.color(images))

    def rows(images, draws):
        y, _ = read.lines(draws, tf.shape(images)[0])
        fill = read.color(images)
        return reads.read_rows(images, read.taps(y, read.first.height, fill), fill)

    def columns(images, draws):
        _, x = read.lines(draws, tf.shape(images)[0])
        fill = read.color(images)
        return reads.read_columns(images, read.taps(x, read.first.width, fill), fill)

    def rows_then_columns(images, draws):
        y, x = read.lines(draws, tf.shape(images)[0])
        fill = read.color(images)  # the mean of the whole image, not of its rows
        lines = reads.read_rows(images, read.taps(y, read.first.height, fill), fill)
        return reads.read_columns(lines, read.taps(x, read.first.width, fill), fill)

    if compiled and all(slot.op.mirrors for slot in read.slots):
        return [mirrored]
    if read.turns:
        return [read.slots[0].shared("anywhere", anywhere)]
    if read.exact:
        return [exactly]
    measured = isinstance(read.fill, str) and read.fill == "mean" and read.first.mean is None
    along = [rows_then_columns] if measured else [rows, columns]
    return [read.slots[0].shared(step.__name__, step) for step in along]


def slot_warp(slot: Any, draws: Any) -> Warp:
    """The `Warp` of one operation, neutral for images on which it does not act."""
    return select(
        slot.active(draws), slot.op.warp(slot.drawn(draws), slot.frame), slot.op.neutral(slot.frame)
    )


def move_points(slots: Sequence[Any], draws: Any, y: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The new positions of points of the input: `y` and `x`, float32 `(batch, points)`, in pixels.

    Position 0 is the center of the first pixel.
    """
    for slot in slots:
        if not slot.op.bends:
            y, x = forward(slot_warp(slot, draws), y, x)
            continue
        bent = slot.op.unbend(slot.drawn(draws), slot.frame, y, x)
        y, x = _where_active(slot.active(draws), bent, (y, x), axes=1)
    return y, x


def _averages(slot):
    most = slot.op.shrinks(slot.frame)
    return most > 1 + 1e-6 if slot.op.resizes else most > AVERAGE_FROM


def _conflict(group, slot):
    def traits(one):
        apart = one.op.turns or one.op.bends or (one.op.shrinks(one.frame) > 1 + 1e-6 and not _averages(one))
        return one.op.resizes, one.op.fill is not None, _averages(one), apart

    resizes, fills, averages, apart = (any(found) for found in zip(*map(traits, group), strict=True))
    resizes_now, fills_now, averages_now, apart_now = traits(slot)
    return (
        (resizes and (resizes_now or fills_now))
        or (fills and resizes_now)
        or (averages and apart_now)
        or (apart and averages_now)
    )


def _mirrored(slots, draws):
    """Which images are mirrored along each axis after all operations; mirroring twice has no effect."""
    totals = [None, None]
    for slot in slots:
        active = slot.active(draws)
        for axis, chosen in enumerate(slot.op.mirrored(slot.drawn(draws))):
            if chosen is None:
                continue
            chosen = chosen if active is None else chosen & active
            totals[axis] = chosen if totals[axis] is None else tf.logical_xor(totals[axis], chosen)
    return totals


def _may_mirror(slots, draws):
    """Whether any operation mirrors up-down, and left-right."""
    chosen = [slot.op.mirrored(slot.drawn(draws)) for slot in slots if slot.op.mirrors]
    return [any(one[axis] is not None for one in chosen) for axis in range(2)]


def _line(slope, offset, steps, batch):
    """Source positions along one axis, (batch, steps)."""
    slope, offset = (tf.cast(_per_image(entry, 1), steps.dtype) for entry in (slope, offset))
    places = slope * steps[None] + offset
    return tf.broadcast_to(places, (batch, steps.shape[0]))


def _places(warp, batch, y, x):
    """Source positions of output positions, (batch, height, width) each."""
    shape = (batch, y.shape[1] or 1, x.shape[2])
    entries = [_per_image(entry, 2) for entry in warp]
    yy, yx, y0, xy, xx, x0 = entries
    return (
        tf.broadcast_to(yy * y + (yx * x + y0), shape),
        tf.broadcast_to(xx * x + (xy * y + x0), shape),
    )


def _bent_places(slots, draws, batch, down, across):
    """Source positions when some operations bend: go through the operations backwards, from output to input."""
    shape = (batch, down.shape[0], across.shape[0])
    y = tf.broadcast_to(down[None, :, None], shape)
    x = tf.broadcast_to(across[None, None, :], shape)
    pending = IDENTITY
    for slot in reversed(slots):
        if slot.op.bends:
            y, x = _places(pending, batch, y, x)
            pending = IDENTITY
            bent = slot.op.bend(slot.drawn(draws), slot.frame, y, x)
            y, x = _where_active(slot.active(draws), bent, (y, x), axes=2)
        else:
            pending = compose(slot_warp(slot, draws), pending)
    return _places(pending, batch, y, x)


def _where_active(active, new, old, *, axes):
    if active is None:
        return new
    chosen = tf.reshape(active, (-1,) + (1,) * axes)
    return tuple(tf.where(chosen, one, other) for one, other in zip(new, old, strict=True))


def _per_image(entry, axes):
    """A warp entry with `axes` axes added after the batch axis."""
    if isinstance(entry, float):
        return tf.constant(entry, tf.float32)
    return tf.reshape(entry, (-1,) + (1,) * axes)
