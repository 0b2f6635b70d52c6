"""Translation."""

import dataclasses

import tensorflow as tf

from recipes.augment.engine.geometry import Geometric
from recipes.augment.engine.magnitudes import PlusMinus, Strength, draw, read_range
from recipes.augment.engine.operation import Drawn, Fill, Frame, operation
from recipes.augment.engine.warp import Warp


@operation
class Translate(Geometric):
    """Shift the image by whole pixels; every shift in the range is equally likely.

    Source: Simard et al. 2003, "Best practices for convolutional neural networks applied to visual document analysis",
    section 2.

    Args:
        height: Vertical shift as a fraction of the height: a number f for -f to f, a pair, or `PlusMinus`, within -1
            and 1. Positive is down.
        width: Horizontal shift as a fraction of the width, in the same form. Positive is to the right.
        fill: Color outside the image, as for `Rotate`.
        probability: Chance that an image is shifted.

    Raises:
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
    """

    height: Strength = 0.125
    width: Strength = 0.125
    _: dataclasses.KW_ONLY
    fill: Fill = "black"
    probability: float = 1.0

    whole_pixels = True
    draws = ("down", "right")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("height", "width"):
            read_range("Translate", name, getattr(self, name), lowest=-1, highest=1)

    def warp(self, drawn: Drawn, frame: Frame) -> Warp:
        down = self._shift(drawn["down"], "height", frame.height)
        right = self._shift(drawn["right"], "width", frame.width)
        return Warp(y0=-down, x0=-right)

    def _shift(self, uniform, name, side):
        fraction = getattr(self, name)
        low, high = (float(round(edge * side)) for edge in read_range("Translate", name, fraction))
        if isinstance(fraction, PlusMinus):
            return draw(uniform, (low, high), fraction)
        return whole_shift(uniform, low, high)


def whole_shift(uniform: tf.Tensor, low: float, high: float) -> tf.Tensor:
    """Map a draw in [0, 1) to a whole number from `low` to `high`, both included, each equally likely; float32."""
    return low + tf.floor(uniform * (high - low + 1))
