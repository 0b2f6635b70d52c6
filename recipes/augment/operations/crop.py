"""Random crops by whole pixels."""

import dataclasses

from recipes.augment.engine.geometry import Geometric
from recipes.augment.engine.operation import Drawn, Frame, Operation, operation
from recipes.augment.engine.warp import Warp
from recipes.augment.operations.translate import whole_shift


@operation
class Crop(Geometric):
    """Cut a window of fixed size at a random position.

    Source: Krizhevsky et al. 2012, section 4.1 (224 from 256). Pixels are copied, never interpolated.

    Args:
        height: Height of the window in pixels, at most that of the image.
        width: Width of the window in pixels; None means the same as `height`.
        probability: Chance of a random position; all other images get the window at the center.

    Raises:
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
    """

    height: int
    width: int | None = None
    _: dataclasses.KW_ONLY
    probability: float = 1.0

    whole_pixels = True
    draws = ("top", "left")

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.height, tuple):
            numbers = ", ".join(map(repr, self.height))
            raise ValueError(
                "augment.Crop expects the height and the width as two numbers. Received a pair, "
                f"{self.height!r}. Write Crop({numbers})."
            )
        check_size(self, self.output_size(None))

    def output_size(self, frame: Frame | None) -> tuple[int, int]:
        return self.height, self.height if self.width is None else self.width

    def check(self, frame: Frame) -> None:
        height, width = self.output_size(frame)
        if height > frame.height or width > frame.width:
            raise ValueError(
                f"augment.Crop expects a window no larger than the image. Received {height}x{width} for images "
                f"of {frame.height}x{frame.width}. Write Crop({min(height, frame.height)}, "
                f"{min(width, frame.width)}), or use ScaleCrop or RandomResizedCrop, which enlarge small images."
            )

    def warp(self, drawn: Drawn, frame: Frame) -> Warp:
        height, width = self.output_size(frame)
        return Warp(
            y0=whole_shift(drawn["top"], 0, frame.height - height),
            x0=whole_shift(drawn["left"], 0, frame.width - width),
        )

    def neutral(self, frame: Frame) -> Warp:
        height, width = self.output_size(frame)
        return Warp(y0=float((frame.height - height) // 2), x0=float((frame.width - width) // 2))


def check_size(op: Operation, size: tuple[int, ...]) -> None:
    """Raise `ValueError` when an output size is not two whole numbers of pixels >= 1."""
    if size is None or len(size) != 2 or any(not isinstance(side, int) or side < 1 for side in size):
        raise ValueError(
            f"augment.{op.name} expects a height and a width in whole pixels >= 1. Received {size}. "
            f"Write for example {op.name}(224)."
        )
