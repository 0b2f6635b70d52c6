"""The operations that policies choose from."""

from typing import Any

from recipes.augment.engine.magnitudes import Strength
from recipes.augment.engine.operation import Fill, Frame, Operation
from recipes.augment.operations.brightness import Brightness
from recipes.augment.operations.contrast import Contrast
from recipes.augment.operations.rotate import Rotate
from recipes.augment.operations.saturation import Saturation
from recipes.augment.operations.shear import Shear
from recipes.augment.operations.translate import Translate
from recipes.common.validation import is_one_of


def linear_operations(
    degrees: Strength, shear: Strength, shift: Strength, factor: Strength, *, fill: Fill, color: bool
) -> list[Operation]:
    """The operations of the policies that are affine in positions or colors, with the given strengths."""
    members: list[Operation] = [
        Rotate(degrees, fill=fill),
        Shear(shear, 0.0, fill=fill),
        Shear(0.0, shear, fill=fill),
        Translate(shift, 0.0, fill=fill),
        Translate(0.0, shift, fill=fill),
    ]
    return members + [Brightness(factor), Contrast(factor), Saturation(factor)] if color else members


def check_space(policy: str, space: Any, color: bool) -> None:
    """Raise `ValueError` when the space is neither "linear" nor "full", or is "full" without colors."""
    if not is_one_of(space, ("linear", "full")) or (space == "full" and not color):
        raise ValueError(
            f"augment.{policy} expects space to be 'linear' or 'full', and color=True for the latter. Received "
            f"space={space!r}, color={color!r}. Write {policy}(space='full') for the paper's 14 operations."
        )


def check_colors(policy: Operation, frame: Frame, colors: bool) -> None:
    """Raise `ValueError` when a policy changes colors and the images do not have three channels."""
    if colors and frame.channels != 3:
        raise ValueError(
            f"augment.{policy.name} expects red, green and blue to change their colors. Received images of "
            f"{frame.channels} channels. Write {policy.name}(color=False), which only moves pixels, or, for gray "
            f"images, {policy.name}(space='full')."
        )
