"""Affine maps from a pixel of the output to a place in the input, one per image, and their composition."""

from typing import Any, NamedTuple

import tensorflow as tf

from recipes.augment.engine.operation import Frame


class Warp(NamedTuple):
    """`source_y = yy * y + yx * x + y0` and `source_x = xy * y + xx * x + x0`, in pixels from the first center.

    Each entry is a tensor of shape `(batch,)`, or a Python float where all images share it: so an axis that
    nothing mixes (`yx == xy == 0.0`) is known before tracing, and cheaper code is chosen.
    """

    yy: Any = 1.0
    yx: Any = 0.0
    y0: Any = 0.0
    xy: Any = 0.0
    xx: Any = 1.0
    x0: Any = 0.0

    @property
    def along_axes(self) -> bool:
        return all(isinstance(entry, float) and entry == 0.0 for entry in (self.yx, self.xy))


IDENTITY = Warp()


def about_center(
    frame: Frame,
    *,
    yy: Any = 1.0,
    yx: Any = 0.0,
    xy: Any = 0.0,
    xx: Any = 1.0,
    shift_y: Any = 0.0,
    shift_x: Any = 0.0,
) -> Warp:
    """The linear map about the middle of the image, then a shift, both acting on places in the input."""
    center_y, center_x = (frame.height - 1) / 2, (frame.width - 1) / 2
    y0 = _add(_add(center_y, shift_y), _add(_times(yy, -center_y), _times(yx, -center_x)))
    x0 = _add(_add(center_x, shift_x), _add(_times(xy, -center_y), _times(xx, -center_x)))
    return Warp(yy, yx, y0, xy, xx, x0)


def window(step_y: Any, step_x: Any, top: Any, left: Any) -> Warp:
    """Read a window whose upper left corner (not pixel center) is at (top, left), a step for each output pixel."""
    return Warp(yy=step_y, y0=top + (step_y / 2 - 0.5), xx=step_x, x0=left + (step_x / 2 - 0.5))


def compose(outer: Warp, inner: Warp) -> Warp:
    """The warp that reads through `inner` first (the later operation) and `outer` after it."""
    return Warp(
        yy=_add(_times(outer.yy, inner.yy), _times(outer.yx, inner.xy)),
        yx=_add(_times(outer.yy, inner.yx), _times(outer.yx, inner.xx)),
        y0=_add(_add(_times(outer.yy, inner.y0), _times(outer.yx, inner.x0)), outer.y0),
        xy=_add(_times(outer.xy, inner.yy), _times(outer.xx, inner.xy)),
        xx=_add(_times(outer.xy, inner.yx), _times(outer.xx, inner.xx)),
        x0=_add(_add(_times(outer.xy, inner.y0), _times(outer.xx, inner.x0)), outer.x0),
    )


def select(active: tf.Tensor | None, warp: Warp, neutral: Warp) -> Warp:
    """`warp` for the images where `active` (bool, `(batch,)`), `neutral` elsewhere; None means everywhere."""
    if active is None:
        return warp
    return Warp(
        *(
            one
            if isinstance(one, float) and isinstance(other, float) and one == other
            else tf.where(active, one, other)
            for one, other in zip(warp, neutral, strict=True)
        )
    )


def forward(warp: Warp, y: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Where points of the input go: the inverse of the warp, for points of shape `(batch, points)`."""
    entries = [tf.reshape(tf.cast(entry, tf.float32), (-1, 1)) for entry in warp]
    yy, yx, y0, xy, xx, x0 = entries
    y, x = y - y0, x - x0
    if isinstance(warp.yx, float) and isinstance(warp.xy, float) and warp.along_axes:
        return y / yy, x / xx
    determinant = yy * xx - yx * xy
    return (xx * y - yx * x) / determinant, (yy * x - xy * y) / determinant


def _times(a, b):
    for one, other in ((a, b), (b, a)):
        if isinstance(one, float):
            if one == 0.0:
                return 0.0
            if one == 1.0:
                return other
    return a * b


def _add(a, b):
    for one, other in ((a, b), (b, a)):
        if isinstance(one, float) and one == 0.0:
            return other
    return a + b
