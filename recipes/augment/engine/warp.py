"""Affine maps from a pixel of the output to a position in the input, one per image, and their composition."""

from typing import Any, NamedTuple

import tensorflow as tf

from recipes.augment.engine.operation import Frame


class Warp(NamedTuple):
    """The map `source_y = yy * y + yx * x + y0`, `source_x = xy * y + xx * x + x0`, in pixels.

    Position 0 is the center of the first pixel. Each entry is a float32 tensor `(batch,)`, or a Python float when all
    images share it. So it is known before tracing that the axes are not mixed (`yx == xy == 0.0`), and faster code is
    chosen.
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
    """The linear map about the center of the image, then a shift in pixels; both give positions in the input."""
    center_y, center_x = (frame.height - 1) / 2, (frame.width - 1) / 2
    y0 = _add(_add(center_y, shift_y), _add(_times(yy, -center_y), _times(yx, -center_x)))
    x0 = _add(_add(center_x, shift_x), _add(_times(xy, -center_y), _times(xx, -center_x)))
    return Warp(yy, yx, y0, xy, xx, x0)


def window(step_y: Any, step_x: Any, top: Any, left: Any) -> Warp:
    """The warp that reads a window with its upper left corner (not pixel center) at (top, left), in pixels.

    `step_y` and `step_x` are the distances in the input between neighboring output pixels.
    """
    return Warp(yy=step_y, y0=top + (step_y / 2 - 0.5), xx=step_x, x0=left + (step_x / 2 - 0.5))


def compose(outer: Warp, inner: Warp) -> Warp:
    """The warp that applies `inner` (of the later operation) to a position first, and `outer` to the result."""
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
    """The positions in the output of points in the input, each `(batch, points)`: the inverse of the warp."""
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
