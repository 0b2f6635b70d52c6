"""Brightness, contrast, saturation and hue together."""

import dataclasses

from recipes.augment.engine.magnitudes import Strength
from recipes.augment.engine.operation import Frame, Operation, operation
from recipes.augment.operations.brightness import Brightness
from recipes.augment.operations.contrast import Contrast
from recipes.augment.operations.hue import Hue
from recipes.augment.operations.saturation import Saturation


@operation
class ColorJitter(Operation):
    """Change brightness, contrast, saturation and hue, each with its own draw.

    Source: Howard 2013, https://arxiv.org/abs/1312.5402; the default ranges are those of common reimplementations of
    He et al. 2015. Nothing is clipped between the four operations, so their order does not matter.

    Args:
        brightness, contrast, saturation: Like `factor` of the operations of that name; 0 leaves the operation out.
        hue: Like `turns` of `Hue`; 0 leaves it out.
        probability: Chance that an image is changed.

    Raises:
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
    """

    brightness: Strength = 0.4
    contrast: Strength = 0.4
    saturation: Strength = 0.4
    hue: Strength = 0.0
    _: dataclasses.KW_ONLY
    probability: float = 1.0

    def __post_init__(self) -> None:
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

    def check(self, frame: Frame) -> None:
        super().check(frame)
        if frame.channels != 3 and any(member.mixes_channels for member in self.operations):
            raise ValueError(
                f"augment.ColorJitter expects red, green and blue for saturation and hue. Received images of "
                f"{frame.channels} channels. Write ColorJitter({self.brightness!r}, {self.contrast!r}, 0), which "
                "changes only brightness and contrast."
            )
