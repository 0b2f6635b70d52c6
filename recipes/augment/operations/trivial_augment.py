"""TrivialAugment: one random operation per image."""

import dataclasses
from typing import Literal

import tensorflow as tf

from recipes.augment.engine.operation import Drawn, Fill, operation
from recipes.augment.operations.groups import Group
from recipes.augment.operations.policy_operations import check_space, curved_operations, linear_operations


@operation
class TrivialAugment(Group):
    """Give each image one operation of random strength, or none.

    Source: Mueller and Hutter 2021, section 3, https://arxiv.org/abs/2103.10158. Each operation of a space is
    equally likely. The "linear" one holds nine of the paper's 14: nothing, rotate, shear and translate along each axis,
    brightness, contrast and color (saturation), which are composed to one read and one affine map. The "full" one has
    sharpness, posterize, solarize, autocontrast and equalize as well, five further runs over the images. Strengths are
    continuous, where the paper has 31 steps.

    Args:
        wide: The paper's wide strengths (rotate 135 degrees, shear 0.99, translate 32 pixels, taken as 32 of 224,
            colors and sharpness 0.99, 2 to 8 bits) or, when False, RandAugment's (30 degrees, 0.3, 10 pixels of 32,
            0.9, 4 to 8 bits).
        space: "linear" or "full".
        color: False leaves colors out, as for symbols and for other than three channels.
        fill: What lies outside: "black", "mean", "edge", "reflect", a number, or one number per channel.
        probability: Chance that an image takes part.
    """

    wide: bool = True
    _: dataclasses.KW_ONLY
    space: Literal["linear", "full"] = "linear"
    color: bool = True
    fill: Fill = "black"
    probability: float = 1.0

    draws = ("choice",)

    def __post_init__(self) -> None:
        check_space("TrivialAugment", self.space, self.color)
        degrees, shear, shift, factor = (135, 0.99, 32 / 224, 0.99) if self.wide else (30, 0.3, 10 / 32, 0.9)
        self.operations = linear_operations(degrees, shear, shift, factor, fill=self.fill, color=self.color)
        if self.space == "full":
            self.operations += curved_operations(factor, (2 if self.wide else 4, 8), (0.0, 1.0))
        super().__post_init__()

    def chosen(self, drawn: Drawn, index: int) -> tf.Tensor:
        place = drawn["choice"] * (len(self.operations) + 1)  # the last one is to do nothing
        return (place >= index) & (place < index + 1)
