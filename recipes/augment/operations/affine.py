"""Turning, shifting, zooming, stretching and shearing."""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from recipes.augment.engine.geometry import Geometric
from recipes.augment.engine.magnitudes import PlusMinus, draw, draw_log, read_range
from recipes.augment.engine.operation import operation
from recipes.augment.engine.warp import Warp, about_center

# Sources of the family. For symbols: Simard et al. 2003, "Best practices for convolutional neural networks applied to
# visual document analysis", section 2. For photographs: Dieleman et al. 2015, "Rotation-invariant convolutional neural
# networks for galaxy morphology prediction", on data augmentation, https://arxiv.org/abs/1503.07077.


@operation
class Rotate(Geometric):
    """Turn the image about its middle.

    Source: Simard et al. 2003, section 2.

    Args:
        degrees: A number d for -d to d, a pair, or `PlusMinus`; positive is counter-clockwise.
        fill: What lies outside: "black", "mean", "edge", "reflect", a number, or one number a channel.
        probability: Chance that an image is turned.
    """

    degrees: object = 15
    _: dataclasses.KW_ONLY
    fill: object = "black"
    probability: float = 1.0

    uniforms = 1

    def __post_init__(self):
        super().__post_init__()
        self._limits = read_range("Rotate", "degrees", self.degrees, lowest=-360, highest=360)

    def warp(self, uniform, frame):
        angle = draw(uniform[0], self._limits, self.degrees) * (math.pi / 180)
        sine, cosine = tf.sin(angle), tf.cos(angle)
        return about_center(frame, yy=cosine, yx=sine, xy=-sine, xx=cosine)


@operation
class Translate(Geometric):
    """Shift the image by whole pixels, every shift in the range equally likely. Exact.

    Source: Simard et al. 2003, section 2.

    Args:
        height: Fraction of the height: f for -f to f, a pair, or `PlusMinus`, within -1 and 1; positive is down.
        width: The same for the width; positive is to the right.
        fill: What lies outside, as for `Rotate`.
        probability: Chance that an image is shifted.
    """

    height: object = 0.125
    width: object = 0.125
    _: dataclasses.KW_ONLY
    fill: object = "black"
    probability: float = 1.0

    whole_pixels = True
    uniforms = 2

    def __post_init__(self):
        super().__post_init__()
        for name in ("height", "width"):
            read_range("Translate", name, getattr(self, name), lowest=-1, highest=1)

    def warp(self, uniform, frame):
        shifts = []
        for row, (name, side) in enumerate((("height", frame.height), ("width", frame.width))):
            fraction = getattr(self, name)
            low, high = (float(round(edge * side)) for edge in read_range("Translate", name, fraction))
            if isinstance(fraction, PlusMinus):
                shifts.append(draw(uniform[row], (low, high), fraction))
            else:
                shifts.append(low + tf.floor(uniform[row] * (high - low + 1)))
        return Warp(y0=-shifts[0], x0=-shifts[1])


@operation
class Zoom(Geometric):
    """Enlarge or shrink the image about its middle; a factor and its inverse are equally likely.

    Source: Dieleman et al. 2015 (factors 1/1.3 to 1.3, uniform in the logarithm).

    Args:
        factor: A number z for 1 / (1 + z) to 1 + z, a pair of factors > 0, or `PlusMinus` about 1; above 1 enlarges.
        fill: What lies outside, as for `Rotate`.
        probability: Chance that an image is zoomed.
    """

    factor: object = 0.2
    _: dataclasses.KW_ONLY
    fill: object = "black"
    probability: float = 1.0

    uniforms = 1

    def __post_init__(self):
        super().__post_init__()
        self._limits = _read_factor("Zoom", self.factor)

    def warp(self, uniform, frame):
        step = 1 / draw_log(uniform[0], self._limits, self.factor)
        return about_center(frame, yy=step, xx=step)


@operation
class Stretch(Geometric):
    """Change the ratio of width to height and keep the area; a ratio and its inverse are equally likely.

    The counterpart of `Zoom` for the shape, drawn the same way.

    Args:
        factor: A number s for 1 / (1 + s) to 1 + s, a pair of ratios > 0, or `PlusMinus` about 1; above 1 widens.
        fill: What lies outside, as for `Rotate`.
        probability: Chance that an image is stretched.
    """

    factor: object = 0.2
    _: dataclasses.KW_ONLY
    fill: object = "black"
    probability: float = 1.0

    uniforms = 1

    def __post_init__(self):
        super().__post_init__()
        self._limits = _read_factor("Stretch", self.factor)

    def warp(self, uniform, frame):
        root = tf.sqrt(draw_log(uniform[0], self._limits, self.factor))
        return about_center(frame, yy=root, xx=1 / root)


@operation
class Shear(Geometric):
    """Slant the image: rows slide sideways, columns up or down, about the middle.

    Source: Simard et al. 2003, section 2 (skewing).

    Args:
        horizontal: Pixels a row slides for each row from the middle (tangent of the slant): s for -s to s, a pair,
            or `PlusMinus`, within -1 and 1.
        vertical: The same for columns.
        fill: What lies outside, as for `Rotate`.
        probability: Chance that an image is slanted.
    """

    horizontal: object = 0.1
    vertical: object = 0.0
    _: dataclasses.KW_ONLY
    fill: object = "black"
    probability: float = 1.0

    uniforms = 2

    def __post_init__(self):
        super().__post_init__()
        self._limits = [
            read_range("Shear", name, getattr(self, name), lowest=-1, highest=1)
            for name in ("horizontal", "vertical")
        ]
        if np.max(np.outer(*self._limits)) >= 1:
            raise ValueError(
                "augment.Shear expects horizontal times vertical to stay below 1, where the image collapses to a "
                f"line. Received horizontal={self.horizontal!r}, vertical={self.vertical!r}. Write smaller ones."
            )

    def warp(self, uniform, frame):
        slants = [0.0, 0.0]
        for row, limits in enumerate(self._limits):
            if limits != (0.0, 0.0):
                slants[row] = draw(uniform[row], limits, (self.horizontal, self.vertical)[row])
        return about_center(frame, xy=slants[0], yx=slants[1])


def _read_factor(owner, factor):
    """`(low, high)` of a factor > 0; a number z stands for 1 / (1 + z) to 1 + z."""
    low, high = read_range(owner, "factor", factor, center=1.0)
    if isinstance(factor, int | float):
        low = 1 / (1 + factor)
    if low <= 0:
        raise ValueError(
            f"augment.{owner} expects factors > 0. Received factor={factor!r}, which reaches down to {low:g}. "
            f"Write {owner}(0.2) for 1/1.2 to 1.2, or a pair such as {owner}((0.8, 1.25))."
        )
    return low, high
