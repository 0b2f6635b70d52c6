"""RandAugment: a few random operations of one strength per image."""

import dataclasses
from typing import Literal

from recipes.augment.engine.magnitudes import PlusMinus
from recipes.augment.engine.operation import Fill, Frame, operation
from recipes.augment.operations.groups import Group
from recipes.augment.operations.one_of import OneOf
from recipes.augment.operations.policy_operations import check_colors, check_space, linear_operations
from recipes.augment.operations.policy_spaces import RandomSteps
from recipes.common.validation import is_number, is_whole


@operation
class RandAugment(Group):
    """Apply a few random operations to each image, all of the same strength.

    Source: Cubuk et al. 2019, section 3, https://arxiv.org/abs/1909.13719, with the linear operations of its 14 or all
    of them (see `TrivialAugment`), among them the identity. The sign of each strength is random. In the linear space,
    the geometric operations of an image are composed and run before its color operations, whatever the order of the
    draws; that saves passes and changes only the borders. In the full space, operations run in the order of the draws,
    on whole levels.

    Args:
        count: Number of operations per image, 1 to 100; N in the paper.
        magnitude: Strength from 0 to 30, M in the paper. At 30: rotate by 30 degrees, shear by 0.3, translate by 0.45
            of the side, colors and sharpness by 0.9, posterize to 4 bits, solarize from level 0.
        space: "linear" or "full".
        color: False leaves out the color operations.
        fill: Color outside the image, as for `TrivialAugment`.
        probability: Chance that an image is augmented.

    Raises:
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
    """

    count: int = 2
    magnitude: float = 9
    _: dataclasses.KW_ONLY
    space: Literal["linear", "full"] = "linear"
    color: bool = True
    fill: Fill = "black"
    probability: float = 1.0

    def __post_init__(self) -> None:
        known = is_whole(self.count) and is_number(self.magnitude)
        if not known or not 1 <= self.count <= 100 or not 0 <= self.magnitude <= 30:
            raise ValueError(
                "augment.RandAugment expects count in 1 to 100 and magnitude in 0 to 30. Received "
                f"count={self.count!r}, magnitude={self.magnitude!r}. The paper's usual choice is RandAugment(2, 9)."
            )
        check_space("RandAugment", self.space, self.color)
        if self.space == "full":
            self.operations = [
                RandomSteps(self.name, self.count, level=round(self.magnitude), wide=None, fill=self.fill)
            ]
            super().__post_init__()
            return
        share = self.magnitude / 30
        strengths = [PlusMinus(most * share) for most in (30, 0.3, 150 / 331, 0.9)]
        members = linear_operations(*strengths, fill=self.fill, color=self.color)
        chance = len(members) / (len(members) + 1)  # the remaining chance is that of the identity
        self.operations = [OneOf(members, probability=chance) for _ in range(self.count)]
        super().__post_init__()

    def check(self, frame: Frame) -> None:
        check_colors(self, frame, self.color and self.space == "linear")
        super().check(frame)
