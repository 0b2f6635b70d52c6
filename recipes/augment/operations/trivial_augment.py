"""TrivialAugment: one random operation per image."""

import dataclasses

import tensorflow as tf

from recipes.augment.engine.operation import Drawn, Fill, operation
from recipes.augment.operations.groups import Group
from recipes.augment.operations.policy_operations import linear_operations


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
    fill: Fill = "black"
    probability: float = 1.0

    draws = ("choice",)

    def __post_init__(self) -> None:
        degrees, shear, shift, factor = (135, 0.99, 32 / 224, 0.99) if self.wide else (30, 0.3, 10 / 32, 0.9)
        self.operations = linear_operations(degrees, shear, shift, factor, fill=self.fill, color=self.color)
        super().__post_init__()

    def chosen(self, drawn: Drawn, index: int) -> tf.Tensor:
        place = drawn["choice"] * (len(self.operations) + 1)  # the last one is to do nothing
        return (place >= index) & (place < index + 1)
