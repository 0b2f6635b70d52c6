"""TrivialAugment: one random operation per image."""

import dataclasses
from typing import Literal

import tensorflow as tf

from recipes.augment.engine.operation import Drawn, Fill, Frame, operation
from recipes.augment.operations.groups import Group
from recipes.augment.operations.policy_operations import check_colors, check_space, linear_operations
from recipes.augment.operations.policy_spaces import RandomSteps


@operation
class TrivialAugment(Group):
    """Apply one operation of random strength to each image, or none.

    Source: Mueller and Hutter 2021, section 3, https://arxiv.org/abs/2103.10158. Each operation of a space is
    equally likely. The space "full" has the paper's 14 operations and 31 strengths, on the whole levels 0 to 255 of
    PIL. The space "linear" has nine of the 14: identity, rotate, shear and translate along each axis, brightness,
    contrast and color (saturation). They are composed to one resampling and one affine color map, and their strengths
    are continuous. Sharpness, posterize, solarize, autocontrast and equalize are left out.

    Args:
        wide: True takes the paper's wide strengths: rotate 135 degrees, shear 0.99, translate 32 pixels (in the linear
            space 32 of 224), colors and sharpness 0.99, 2 to 8 bits. False takes those of RandAugment: 30 degrees, 0.3,
            10 pixels of 32, 0.9, 4 to 8 bits.
        space: "linear" or "full".
        color: False leaves out the color operations, as for symbols and for images without exactly three channels.
        fill: Color outside the image: "black", "mean", "edge", "reflect", a number, or one number per channel.
        probability: Chance that an image is augmented.

    Raises:
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
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
        if self.space == "full":
            self.operations = [RandomSteps(self.name, 1, level=None, wide=self.wide, fill=self.fill)]
            super().__post_init__()
            return
        degrees, shear, shift, factor = (135, 0.99, 32 / 224, 0.99) if self.wide else (30, 0.3, 10 / 32, 0.9)
        self.operations = linear_operations(degrees, shear, shift, factor, fill=self.fill, color=self.color)
        super().__post_init__()

    def chosen(self, drawn: Drawn, index: int) -> tf.Tensor:
        if self.space == "full":
            return tf.ones_like(drawn["choice"], tf.bool)
        place = drawn["choice"] * (len(self.operations) + 1)  # the last one is the identity
        return (place >= index) & (place < index + 1)

    def check(self, frame: Frame) -> None:
        check_colors(self, frame, self.color and self.space == "linear")
        super().check(frame)
