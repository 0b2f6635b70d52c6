"""Crops that are scaled to one size."""

import dataclasses
import math

import tensorflow as tf

from recipes.augment.engine.geometry import Geometric
from recipes.augment.engine.magnitudes import draw, draw_log, read_pair
from recipes.augment.engine.operation import operation
from recipes.augment.engine.warp import Warp
from recipes.augment.operations.crop import check_size
from recipes.common.validation import as_row, is_whole


@operation
class RandomResizedCrop(Geometric):
    """Cut a window of random area, shape and place, and scale it to one size.

    Source: Szegedy et al. 2014, "Going deeper with convolutions", section 6 (8 to 100 % of the area, ratios 3/4 to
    4/3), https://arxiv.org/abs/1409.4842. A window longer than the image is cut to the image, where
    implementations of the paper draw again. Shrinking by more than 1.5 averages over the pixels it passes
    (antialiasing), unless the same pass turns or bends the image.

    Args:
        size: Side of the square that comes out, in pixels, or `(height, width)`.
        scale: `(low, high)`, fraction of the image's area, in (0, 1].
        ratio: `(low, high)` of width to height of the window, uniform in the logarithm.
        probability: Chance of a window; other images are scaled whole.
    """

    size: int | tuple[int, int]
    _: dataclasses.KW_ONLY
    scale: tuple = (0.08, 1.0)
    ratio: tuple = (3 / 4, 4 / 3)
    probability: float = 1.0

    uniforms = 4

    def __post_init__(self):
        super().__post_init__()
        check_size(self, self.output_size(None))
        self._scale = read_pair("RandomResizedCrop", "scale", self.scale)
        self._ratio = read_pair("RandomResizedCrop", "ratio", self.ratio)
        if not (0 < self._scale[0] and self._scale[1] <= 1 and 0 < self._ratio[0]):
            raise ValueError(
                f"augment.RandomResizedCrop expects scale in (0, 1] and ratio > 0. Received scale={self.scale}, "
                f"ratio={self.ratio}. The paper's are scale=(0.08, 1) and ratio=(3 / 4, 4 / 3)."
            )

    def output_size(self, frame):
        return (self.size, self.size) if is_whole(self.size) else as_row(self.size)

    def shrinks(self, frame):
        height, width = self.output_size(frame)
        return max(frame.height / height, frame.width / width)

    def warp(self, uniform, frame):
        pixels = draw(uniform[0], self._scale) * (frame.height * frame.width)
        ratio = draw_log(uniform[1], self._ratio)
        height = tf.minimum(tf.sqrt(pixels / ratio), float(frame.height))
        width = tf.minimum(tf.sqrt(pixels * ratio), float(frame.width))
        out_height, out_width = self.output_size(frame)
        return _window(
            height / out_height,
            width / out_width,
            uniform[2] * (frame.height - height),
            uniform[3] * (frame.width - width),
        )

    def neutral(self, frame):
        height, width = self.output_size(frame)
        return _window(frame.height / height, frame.width / width, 0.0, 0.0)


@operation
class ScaleCrop(Geometric):
    """Scale the image so that its shorter side has a random length, then cut a square at a random place.

    Source: Simonyan and Zisserman 2014, section 3.1 (multi-scale training, 224 from [256, 512]),
    https://arxiv.org/abs/1409.1556; He et al. 2015, section 3.4 ([256, 480]). Scaling and cutting are one read;
    antialiasing as for `RandomResizedCrop`.

    Args:
        size: Side of the square that comes out, in pixels.
        short_side: `(low, high)`, length of the shorter side after scaling, whole pixels, each equally likely.
        probability: Chance of a random scale and place; other images get the middle of the smallest scale.
    """

    size: int = 224
    _: dataclasses.KW_ONLY
    short_side: tuple = (256, 480)
    probability: float = 1.0

    uniforms = 3

    def __post_init__(self):
        super().__post_init__()
        check_size(self, self.output_size(None))
        low, high = read_pair("ScaleCrop", "short_side", self.short_side)
        if low < self.size or low != math.floor(low) or high != math.floor(high):
            raise ValueError(
                f"augment.ScaleCrop expects short_side in whole pixels, at least size={self.size}. Received "
                f"{self.short_side}. The paper's are ScaleCrop(224, short_side=(256, 480))."
            )

    def output_size(self, frame):
        return self.size, self.size

    def shrinks(self, frame):
        return min(frame.height, frame.width) / self.short_side[0]

    def warp(self, uniform, frame):
        low, high = self.short_side
        step = min(frame.height, frame.width) / (low + tf.floor(uniform[0] * (high - low + 1)))
        return _window(
            step,
            step,
            uniform[1] * (frame.height - self.size * step),
            uniform[2] * (frame.width - self.size * step),
        )

    def neutral(self, frame):
        step = min(frame.height, frame.width) / self.short_side[0]
        return _window(
            step, step, (frame.height - self.size * step) / 2, (frame.width - self.size * step) / 2
        )


def _window(step_y, step_x, top, left):
    """Read a window whose upper left corner (not pixel center) is at (top, left), a step for each output pixel."""
    return Warp(yy=step_y, y0=top + (step_y / 2 - 0.5), xx=step_x, x0=left + (step_x / 2 - 0.5))
