"""The operations that policies choose from."""

from recipes.augment.engine.magnitudes import Strength
from recipes.augment.engine.operation import Fill, Operation
from recipes.augment.operations.brightness import Brightness
from recipes.augment.operations.contrast import Contrast
from recipes.augment.operations.rotate import Rotate
from recipes.augment.operations.saturation import Saturation
from recipes.augment.operations.shear import Shear
from recipes.augment.operations.translate import Translate


def linear_operations(
    degrees: Strength, shear: Strength, shift: Strength, factor: Strength, *, fill: Fill, color: bool
) -> list[Operation]:
    """The operations of the policies that are linear in places or colors, of these strengths."""
    members: list[Operation] = [
        Rotate(degrees, fill=fill),
        Shear(shear, 0.0, fill=fill),
        Shear(0.0, shear, fill=fill),
        Translate(shift, 0.0, fill=fill),
        Translate(0.0, shift, fill=fill),
    ]
    return members + [Brightness(factor), Contrast(factor), Saturation(factor)] if color else members
