"""Affine maps from a pixel of the output to a place in the input, one per image, and their composition."""

from typing import NamedTuple

import tensorflow as tf


class Warp(NamedTuple):
    """`source_y = yy * y + yx * x + y0` and `source_x = xy * y + xx * x + x0`, in pixels from the first center.

    Each entry is a tensor of shape `(batch,)`, or a Python float where all images share it: so an axis that
    nothing mixes (`yx == xy == 0.0`) is known before tracing, and cheaper code is chosen.
    """

    yy: object = 1.0
    yx: object = 0.0
    y0: object = 0.0
    xy: object = 0.0
    xx: object = 1.0
    x0: object = 0.0

    @property
    def along_axes(self):
        return all(isinstance(entry, float) and entry == 0.0 for entry in (self.yx, self.xy))


IDENTITY = Warp()


def about_center(frame, *, yy=1.0, yx=0.0, xy=0.0, xx=1.0, shift_y=0.0, shift_x=0.0):
    """The linear map about the middle of the image, then a shift, both acting on places in the input."""
    center_y, center_x = (frame.height - 1) / 2, (frame.width - 1) / 2
    y0 = _add(_add(center_y, shift_y), _add(_times(yy, -center_y), _times(yx, -center_x)))
    x0 = _add(_add(center_x, shift_x), _add(_times(xy, -center_y), _times(xx, -center_x)))
    return Warp(yy, yx, y0, xy, xx, x0)


def compose(outer, inner):
    """The warp that reads through `inner` first (the later operation) and `outer` after it."""
    return Warp(
        yy=_add(_times(outer.yy, inner.yy), _times(outer.yx, inner.xy)),
        yx=_add(_times(outer.yy, inner.yx), _times(outer.yx, inner.xx)),
        y0=_add(_add(_times(outer.yy, inner.y0), _times(outer.yx, inner.x0)), outer.y0),
        xy=_add(_times(outer.xy, inner.yy), _times(outer.xx, inner.xy)),
        xx=_add(_times(outer.xy, inner.yx), _times(outer.xx, inner.xx)),
        x0=_add(_add(_times(outer.xy, inner.y0), _times(outer.xx, inner.x0)), outer.x0),
    )


def select(active, warp, neutral):
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
