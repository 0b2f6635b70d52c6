"""Policies without anything to tune: each image gets one or a few operations at random."""

import dataclasses

from recipes.augment.engine.magnitudes import PlusMinus
from recipes.augment.engine.operation import operation
from recipes.augment.operations.affine import Rotate, Shear, Translate
from recipes.augment.operations.color_jitter import Brightness, Contrast, Saturation
from recipes.augment.operations.groups import Group, OneOf
from recipes.common.validation import is_number, is_whole


@operation
class TrivialAugment(Group):
    """Give each image one operation of random strength, or none.

    Source: Mueller and Hutter 2021, section 3, https://arxiv.org/abs/2103.10158. Of the paper's 14
    operations, the nine that are linear are here, each equally likely: nothing, rotate, shear and translate
    along each axis, brightness, contrast and color (saturation); without equalize, autocontrast, posterize, solarize
    and sharpness. Strengths are continuous, where the paper has 31 steps.

    Args:
        wide: The paper's wide strengths (rotate 135 degrees, shear 0.99, translate 32 pixels, taken as 32 of 224,
            colors 0.99) or, when False, RandAugment's (30 degrees, 0.3, 10 pixels of 32, 0.9).
        color: False leaves colors out, as for symbols and for other than three channels.
        fill: What lies outside: "black", "mean", "edge", "reflect", a number, or one number a channel.
        probability: Chance that an image takes part.
    """

    wide: bool = True
    _: dataclasses.KW_ONLY
    color: bool = True
    fill: object = "black"
    probability: float = 1.0

    uniforms = 1

    def __post_init__(self):
        degrees, shear, shift, factor = (135, 0.99, 32 / 224, 0.99) if self.wide else (30, 0.3, 10 / 32, 0.9)
        self.operations = _members(degrees, shear, shift, factor, fill=self.fill, color=self.color)
        super().__post_init__()

    def chosen(self, uniform, index):
        choices = len(self.operations) + 1  # the last one is to do nothing
        return (uniform[0] * choices >= index) & (uniform[0] * choices < index + 1)


@operation
class RandAugment(Group):
    """Give each image a few operations, each drawn anew, all of the same strength.

    Source: Cubuk et al. 2019, section 3, https://arxiv.org/abs/1909.13719, with the linear ones of its 14
    operations (see `TrivialAugment`), nothing among them. The sign of each is random. An image's geometry is composed
    and runs before its colors, whatever the order of the draws; that saves a pass and changes only the borders.

    Args:
        count: Operations an image, N in the paper, 1 to 100.
        magnitude: Strength from 0 to 30, M in the paper; 30 is rotate 30 degrees, shear 0.3, translate 0.45 of the
            side, colors 0.9.
        color: False leaves colors out.
        fill: What lies outside, as for `TrivialAugment`.
        probability: Chance that an image takes part.
    """

    count: int = 2
    magnitude: float = 9
    _: dataclasses.KW_ONLY
    color: bool = True
    fill: object = "black"
    probability: float = 1.0

    def __post_init__(self):
        known = is_whole(self.count) and is_number(self.magnitude)
        if not known or not 1 <= self.count <= 100 or not 0 <= self.magnitude <= 30:
            raise ValueError(
                "augment.RandAugment expects count in 1 to 100 and magnitude in 0 to 30. Received "
                f"count={self.count!r}, magnitude={self.magnitude!r}. The paper's usual choice is RandAugment(2, 9)."
            )
        share = self.magnitude / 30
        strengths = [PlusMinus(most * share) for most in (30, 0.3, 150 / 331, 0.9)]
        members = _members(*strengths, fill=self.fill, color=self.color)
        chance = len(members) / (len(members) + 1)  # the rest of the time nothing is drawn
        self.operations = [OneOf(members, probability=chance) for _ in range(self.count)]
        super().__post_init__()


def _members(degrees, shear, shift, factor, *, fill, color):
    members = [
        Rotate(degrees, fill=fill),
        Shear(shear, 0.0, fill=fill),
        Shear(0.0, shear, fill=fill),
        Translate(shift, 0.0, fill=fill),
        Translate(0.0, shift, fill=fill),
    ]
    return members + [Brightness(factor), Contrast(factor), Saturation(factor)] if color else members
