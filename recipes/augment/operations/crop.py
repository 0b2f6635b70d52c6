"""Random crops by whole pixels."""

import dataclasses

import tensorflow as tf

from recipes.augment.engine.geometry import Geometric
from recipes.augment.engine.operation import operation
from recipes.augment.engine.warp import Warp


@operation
class PadCrop(Geometric):
    """Pad every side, then cut a random window of the original size.

    Source: He et al. 2015, "Deep residual learning", section 4.2 (4 pixels on 32x32),
    https://arxiv.org/abs/1512.03385. Nothing is really padded: places outside read the fill. Exact.

    Args:
        pad: Pixels on each side, >= 0; the image moves by up to this many pixels, each shift equally likely.
        fill: What lies outside: "black" (low end of the value range), "mean", "edge", "reflect", a number, or
            one number a channel. The paper pads images less their mean with zeros, which is "mean".
        probability: Chance that an image is moved at all.
    """

    pad: int = 4
    _: dataclasses.KW_ONLY
    fill: object = "black"
    probability: float = 1.0

    whole_pixels = True
    uniforms = 2

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.pad, int) or self.pad < 0:
            raise ValueError(
                f"augment.PadCrop expects pad to be a whole number of pixels >= 0. Received {self.pad!r}. "
                "For 32x32 images PadCrop(4) is usual."
            )

    def check(self, frame):
        super().check(frame)
        if self.pad >= min(frame.height, frame.width):
            raise ValueError(
                f"augment.PadCrop expects pad smaller than the image. Received pad={self.pad} for images of "
                f"{frame.height}x{frame.width}, where a crop could miss the image. "
                f"Write PadCrop({max(1, min(frame.height, frame.width) // 8)})."
            )

    def warp(self, uniform, frame):
        shift = tf.floor(uniform * (2 * self.pad + 1)) - self.pad
        return Warp(y0=shift[0], x0=shift[1])


@operation
class Crop(Geometric):
    """Cut a window of fixed size at a random place; images that `probability` leaves out get the middle one.

    Source: Krizhevsky et al. 2012, section 4.1 (224 from 256). Exact.

    Args:
        height: Height of the window in pixels, at most the image's.
        width: Width of the window; None means the same as `height`.
        probability: Chance of a random place instead of the middle.
    """

    height: int
    width: int | None = None
    _: dataclasses.KW_ONLY
    probability: float = 1.0

    whole_pixels = True
    uniforms = 2

    def __post_init__(self):
        super().__post_init__()
        check_size(self, self.output_size(None))

    def output_size(self, frame):
        return self.height, self.height if self.width is None else self.width

    def check(self, frame):
        height, width = self.output_size(frame)
        if height > frame.height or width > frame.width:
            raise ValueError(
                f"augment.Crop expects a window no larger than the image. Received {height}x{width} for images "
                f"of {frame.height}x{frame.width}. Write Crop({min(height, frame.height)}, "
                f"{min(width, frame.width)}), or enlarge first with ScaleCrop or RandomResizedCrop."
            )

    def warp(self, uniform, frame):
        height, width = self.output_size(frame)
        return Warp(
            y0=tf.floor(uniform[0] * (frame.height - height + 1)),
            x0=tf.floor(uniform[1] * (frame.width - width + 1)),
        )

    def neutral(self, frame):
        height, width = self.output_size(frame)
        return Warp(y0=float((frame.height - height) // 2), x0=float((frame.width - width) // 2))


def check_size(op, size):
    """Raise when an output size is not two whole numbers of pixels >= 1."""
    if size is None or len(size) != 2 or any(not isinstance(side, int) or side < 1 for side in size):
        raise ValueError(
            f"augment.{op.name} expects a height and a width in whole pixels >= 1. Received {size}. "
            f"For example: {op.name}(224)."
        )
