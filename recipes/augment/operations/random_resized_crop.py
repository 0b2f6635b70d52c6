"""Random windows that are scaled to one size."""

import dataclasses

import tensorflow as tf

from recipes.augment.engine.geometry import Geometric
from recipes.augment.engine.magnitudes import draw, draw_log, read_pair
from recipes.augment.engine.operation import Drawn, Frame, operation
from recipes.augment.engine.warp import Warp, window
from recipes.augment.operations.crop import check_size
from recipes.common.validation import as_row, is_whole


@operation
class RandomResizedCrop(Geometric):
    """Cut a window of random area, shape and position, and resize it to one size.

    Source: Szegedy et al. 2014, "Going deeper with convolutions", section 6 (8 to 100 % of the area, ratios 3/4 to
    4/3), https://arxiv.org/abs/1409.4842. Where torchvision draws again because a side of the window is longer than the
    image, here that side is cut to the image. With the defaults on square images, the windows have a mean area of 0.535
    here and 0.488 there; one side spans the whole image in 14.7 % of the cases here and in 3.2 % there. Shrinking is
    antialiased, as in PIL. Together with operations that fill borders or rotate the image, it is a separate resampling,
    in the order of the list.

    Args:
        size: Side of the square output in pixels, or `(height, width)`.
        scale: `(low, high)`, area of the window as a fraction of the image's area, in (0, 1].
        ratio: `(low, high)`, ratio of width to height of the window, > 0, uniform in the logarithm.
        probability: Chance of a random window; all other images are resized as a whole.

    Raises:
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
    """

    size: int | tuple[int, int]
    _: dataclasses.KW_ONLY
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    probability: float = 1.0

    resizes = True
    draws = ("area", "ratio", "top", "left")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size(self, self.output_size(None))
        self._scale = read_pair("RandomResizedCrop", "scale", self.scale)
        self._ratio = read_pair("RandomResizedCrop", "ratio", self.ratio)
        if not (0 < self._scale[0] and self._scale[1] <= 1 and 0 < self._ratio[0]):
            raise ValueError(
                f"augment.RandomResizedCrop expects scale in (0, 1] and ratio > 0. Received scale={self.scale}, "
                f"ratio={self.ratio}. The paper uses scale=(0.08, 1) and ratio=(3 / 4, 4 / 3)."
            )

    def output_size(self, frame: Frame | None) -> tuple[int, int]:
        return (self.size, self.size) if is_whole(self.size) else as_row(self.size)

    def shrinks(self, frame: Frame) -> float:
        height, width = self.output_size(frame)
        return max(frame.height / height, frame.width / width)

    def warp(self, drawn: Drawn, frame: Frame) -> Warp:
        area, ratio = draw(drawn["area"], self._scale), draw_log(drawn["ratio"], self._ratio)
        height, width = window_sides(area, ratio, frame)
        out_height, out_width = self.output_size(frame)
        return window(
            height / out_height,
            width / out_width,
            drawn["top"] * (frame.height - height),
            drawn["left"] * (frame.width - width),
        )

    def neutral(self, frame: Frame) -> Warp:
        height, width = self.output_size(frame)
        return window(frame.height / height, frame.width / width, 0.0, 0.0)


def window_sides(area: tf.Tensor, ratio: tf.Tensor, frame: Frame) -> tuple[tf.Tensor, tf.Tensor]:
    """Height and width of a window in pixels, at most those of the image.

    Args:
        area: Fraction of the image's area, `(batch,)`.
        ratio: Width over height, `(batch,)`.
        frame: The `Frame` of the images.
    """
    pixels = area * (frame.height * frame.width)
    height = tf.minimum(tf.sqrt(pixels / ratio), float(frame.height))
    return height, tf.minimum(tf.sqrt(pixels * ratio), float(frame.width))
