"""Random shifts by padding and cropping."""

import dataclasses

from recipes.augment.engine.geometry import Geometric
from recipes.augment.engine.operation import Drawn, Fill, Frame, operation
from recipes.augment.engine.warp import Warp
from recipes.augment.operations.translate import whole_shift


@operation
class PadCrop(Geometric):
    """Pad every side, then cut a random window of the original size.

    Source: He et al. 2015, "Deep residual learning", section 4.2 (4 pixels on 32x32),
    https://arxiv.org/abs/1512.03385. The padded image is never stored: pixels outside are read as the fill. Pixels are
    copied, never interpolated.

    Args:
        pad: Pixels on each side, >= 0; the image moves by up to this many pixels, each shift equally likely.
        fill: Color outside the image: "black" (low end of the value range), "mean", "edge", "reflect", a number, or
            one number per channel. The paper subtracts the mean and then pads with zeros, which is "mean" here.
        probability: Chance that an image is moved at all.

    Raises:
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
    """

    pad: int = 4
    _: dataclasses.KW_ONLY
    fill: Fill = "black"
    probability: float = 1.0

    whole_pixels = True
    draws = ("down", "right")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.pad, int) or self.pad < 0:
            raise ValueError(
                f"augment.PadCrop expects pad to be a whole number of pixels >= 0. Received {self.pad!r}. "
                "Write PadCrop(4), which is usual for 32x32 images."
            )

    def check(self, frame: Frame) -> None:
        super().check(frame)
        shorter = min(frame.height, frame.width)
        if self.pad >= shorter:
            cure = f"Write PadCrop({max(1, shorter // 8)})." if shorter > 1 else "Leave PadCrop out."
            raise ValueError(
                f"augment.PadCrop expects pad smaller than the image. Received pad={self.pad} for images of "
                f"{frame.height}x{frame.width}, where a crop could lie outside the image. {cure}"
            )

    def warp(self, drawn: Drawn, frame: Frame) -> Warp:
        down, right = (whole_shift(drawn[name], -self.pad, self.pad) for name in self.draws)
        return Warp(y0=down, x0=right)
