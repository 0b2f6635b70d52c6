"""Brightness, contrast, saturation, hue, and all of them together."""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from recipes.augment.engine.color import ColorOperation
from recipes.augment.engine.magnitudes import draw, read_range
from recipes.augment.engine.operation import Operation, operation
from recipes.common.color import LUMA, YIQ

# Without clipping in between, all four commute: contrast and hue keep gray where it is, and brightness is a
# number. So the order in which other libraries draw them makes no difference here.


class _Factor(ColorOperation):
    """A color operation with one factor about 1."""

    uniforms = 1

    def __post_init__(self):
        super().__post_init__()
        self._limits = read_range(self.name, "factor", self.factor, center=1.0, lowest=0.0)

    def _draw(self, uniform):
        return draw(uniform[0], self._limits, self.factor)


@operation
class Brightness(_Factor):
    """Multiply all channels by one factor; black stays black.

    Source: Howard 2013, "Some improvements on deep convolutional neural network based image classification",
    https://arxiv.org/abs/1312.5402.

    Args:
        factor: A number b for 1 - b to 1 + b (b at most 1), a pair of factors >= 0, or `PlusMinus` about 1.
        probability: Chance that an image is changed.
    """

    factor: object = 0.4
    _: dataclasses.KW_ONLY
    probability: float = 1.0

    def color_map(self, uniform, normal, mean, frame):
        factor = self._draw(uniform)[:, None]
        return factor, (1 - factor) * frame.low[:1]


@operation
class Contrast(_Factor):
    """Move all pixels away from, or towards, the mean gray of the image.

    Source: Howard 2013. The gray is the luma of the mean color (BT.601); for other than three
    channels, the mean of all channels.

    Args:
        factor: A number c for 1 - c to 1 + c (c at most 1), a pair of factors >= 0, or `PlusMinus` about 1.
        probability: Chance that an image is changed.
    """

    factor: object = 0.4
    _: dataclasses.KW_ONLY
    probability: float = 1.0

    needs_mean = True

    def color_map(self, uniform, normal, mean, frame):
        factor = self._draw(uniform)[:, None]
        share = LUMA if frame.channels == 3 else np.full(frame.channels, 1 / frame.channels, "float32")
        return factor, (1 - factor) * tf.reduce_sum(mean * share, 1, keepdims=True)


@operation
class Saturation(_Factor):
    """Move each pixel away from, or towards, its own gray. Three channels only.

    Source: Howard 2013, where it is called color. Gray is the luma of BT.601.

    Args:
        factor: A number s for 1 - s to 1 + s (s at most 1), a pair of factors >= 0, or `PlusMinus` about 1;
            0 is gray.
        probability: Chance that an image is changed.
    """

    factor: object = 0.4
    _: dataclasses.KW_ONLY
    probability: float = 1.0

    mixes_channels = True

    def color_map(self, uniform, normal, mean, frame):
        factor = self._draw(uniform)[:, None, None]
        return factor * np.eye(3, dtype="float32") + (1 - factor) * np.tile(LUMA, (3, 1)), np.zeros(
            (1, 3), "float32"
        )


@operation
class Hue(ColorOperation):
    """Turn all colors about the gray axis. Three channels only.

    A rotation of the two color axes of YIQ: linear, keeps luma and gray, and, unlike a shift of the hue of HSV,
    neither jumps nor keeps HSV's saturation. Source of the axes: NTSC 1953, as in Foley et al., "Computer
    graphics: principles and practice", section 13.3.3.

    Args:
        turns: A number h for -h to h, a pair, or `PlusMinus`, within -0.5 and 0.5; 0.5 gives the opposite colors.
        probability: Chance that an image is changed.
    """

    turns: object = 0.1
    _: dataclasses.KW_ONLY
    probability: float = 1.0

    mixes_channels = True
    uniforms = 1

    def __post_init__(self):
        super().__post_init__()
        self._limits = read_range("Hue", "turns", self.turns, lowest=-0.5, highest=0.5)

    def color_map(self, uniform, normal, mean, frame):
        angle = draw(uniform[0], self._limits, self.turns)[:, None, None] * (2 * math.pi)
        gray, kept, turned = (
            np.float32(np.linalg.inv(YIQ) @ np.array(part) @ YIQ)
            for part in (
                [[1, 0, 0], [0, 0, 0], [0, 0, 0]],
                [[0, 0, 0], [0, 1, 0], [0, 0, 1]],
                [[0, 0, 0], [0, 0, -1], [0, 1, 0]],
            )
        )
        return gray + tf.cos(angle) * kept + tf.sin(angle) * turned, np.zeros((1, 3), "float32")


@operation
class ColorJitter(Operation):
    """Brightness, contrast, saturation and hue, each with its own draw.

    Source: Howard 2013; the four ranges as in common use since He et al. 2015's reimplementations.
    The four commute here, because nothing is clipped in between, so their order is of no account.

    Args:
        brightness, contrast, saturation: As `factor` of the operations of that name; 0 leaves one out.
        hue: As `turns` of `Hue`; 0 leaves it out.
        probability: Chance that an image is changed.
    """

    brightness: object = 0.4
    contrast: object = 0.4
    saturation: object = 0.4
    hue: object = 0.0
    _: dataclasses.KW_ONLY
    probability: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        parts = (
            (Brightness, self.brightness),
            (Contrast, self.contrast),
            (Saturation, self.saturation),
            (Hue, self.hue),
        )
        self.operations = [kind(strength) for kind, strength in parts if strength != 0]
        if not self.operations:
            raise ValueError(
                "augment.ColorJitter expects at least one strength above 0. Received 0 for all four. "
                "Leave ColorJitter out of the pipeline, or write ColorJitter(0.4, 0.4, 0.4)."
            )


@operation
class Grayscale(ColorOperation):
    """Replace each pixel by its luma (BT.601), in all three channels.

    Source: Chen et al. 2020, "A simple framework for contrastive learning", appendix A (a fifth of the images),
    https://arxiv.org/abs/2002.05709.

    Args:
        probability: Chance that an image is made gray.
    """

    _: dataclasses.KW_ONLY
    probability: float = 0.2

    mixes_channels = True
    leaves_range = False

    def color_map(self, uniform, normal, mean, frame):
        return np.tile(LUMA, (1, 3, 1)), np.zeros((1, 3), "float32")
