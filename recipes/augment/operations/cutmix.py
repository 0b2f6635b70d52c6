"""CutMix: paste a piece of another image."""

import dataclasses

import tensorflow as tf

from recipes.augment.engine.color_maps import box_mask
from recipes.augment.engine.mixing import Mixing
from recipes.augment.engine.operation import Drawn, Frame, operation


@operation
class CutMix(Mixing):
    """Paste a rectangle of another image of the batch; labels are mixed in proportion to the area.

    Source: Yun et al. 2019, equations 1 and 2, https://arxiv.org/abs/1905.04899. The center may be anywhere in the
    image, so the rectangle is cut at the border, and its edges are rounded to whole pixels. The shares of the labels
    are computed after that and equal the fractions of pixels exactly. Each image draws its own rectangle.

    Args:
        alpha: Both parameters of the Beta distribution of the share that is kept, > 0; 1 is uniform.
        probability: Chance that a rectangle is pasted into an image.
        until_epoch: Number of the first epoch, counted from 0, in which no image is mixed any more; labels are still
            returned as `(batch, classes)`. In a data set it is compared with the epoch of `apply`. None mixes to the
            end.

    Raises:
        ValueError: when an argument is outside its range.
    """

    alpha: float = 1.0
    _: dataclasses.KW_ONLY
    probability: float = 1.0
    until_epoch: int | None = None

    pastes = True
    draws = ("row", "column")

    def mix(
        self, images: tf.Tensor, partners: tf.Tensor, weight: tf.Tensor, drawn: Drawn, frame: Frame
    ) -> tuple[tf.Tensor, tf.Tensor]:
        top, bottom = pasted_edges(drawn["row"], weight, frame.height)
        left, right = pasted_edges(drawn["column"], weight, frame.width)
        mask = box_mask((top, bottom, left, right), frame)[..., None]
        share = 1 - tf.cast((bottom - top) * (right - left), tf.float32) / (frame.height * frame.width)
        if images.dtype.is_integer:
            return tf.where(mask > 0, partners, images), share
        return images * (1 - mask) + partners * mask, share


def pasted_edges(center: tf.Tensor, weight: tf.Tensor, side: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The first row and the row after the last of a rectangle over sqrt(1 - weight) of a side; each int32 `(batch,)`.

    It is equation 2 in whole pixels: `center`, `(batch,)` in [0, 1), is a position along the side of `side` pixels, and
    the part of the rectangle outside the image is cut off.
    """
    cut = tf.sqrt(1 - weight)
    first, behind = (tf.floor((center + half * cut) * side + 0.5) for half in (-0.5, 0.5))
    return tuple(tf.cast(tf.clip_by_value(edge, 0.0, float(side)), tf.int32) for edge in (first, behind))
