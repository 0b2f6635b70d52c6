"""Scale augmentation: resize to a random scale, then cut a window of fixed size."""

import dataclasses
import math

from recipes.augment.engine.geometry import Geometric
from recipes.augment.engine.magnitudes import read_pair
from recipes.augment.engine.operation import Drawn, Frame, operation
from recipes.augment.engine.warp import Warp, window
from recipes.augment.operations.crop import check_size
from recipes.augment.operations.translate import whole_shift


@operation
class ScaleCrop(Geometric):
    """Resize the image so that its shorter side has a random length, then cut a square at a random position.

    Source: Simonyan and Zisserman 2014, section 3.1 (multi-scale training, 224 from [256, 512]),
    https://arxiv.org/abs/1409.1556; He et al. 2015, section 3.4 ([256, 480]). Both are done in one resampling, which is
    antialiased as in `RandomResizedCrop`.

    Args:
        size: Side of the square output in pixels.
        short_side: `(low, high)`, length of the shorter side after resizing in whole pixels, each equally likely; at
            least `size`.
        probability: Chance of a random scale and position; all other images get the center of the smallest scale.

    Raises:
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
    """

    size: int = 224
    _: dataclasses.KW_ONLY
    short_side: tuple[int, int] = (256, 480)
    probability: float = 1.0

    resizes = True
    draws = ("side", "top", "left")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size(self, self.output_size(None))
        low, high = read_pair("ScaleCrop", "short_side", self.short_side)
        if low < self.size or low != math.floor(low) or high != math.floor(high):
            raise ValueError(
                f"augment.ScaleCrop expects short_side in whole pixels, at least size={self.size}. Received "
                f"{self.short_side}. He et al. 2015 use ScaleCrop(224, short_side=(256, 480))."
            )

    def output_size(self, frame: Frame | None) -> tuple[int, int]:
        return self.size, self.size

    def shrinks(self, frame: Frame) -> float:
        return min(frame.height, frame.width) / self.short_side[0]

    def warp(self, drawn: Drawn, frame: Frame) -> Warp:
        step = min(frame.height, frame.width) / whole_shift(drawn["side"], *self.short_side)
        return window(
            step,
            step,
            drawn["top"] * (frame.height - self.size * step),
            drawn["left"] * (frame.width - self.size * step),
        )

    def neutral(self, frame: Frame) -> Warp:
        step = min(frame.height, frame.width) / self.short_side[0]
        return window(step, step, (frame.height - self.size * step) / 2, (frame.width - self.size * step) / 2)
