"""MixUp: blend each image with another."""

import dataclasses

import tensorflow as tf

from recipes.augment.engine.mixing import Mixing
from recipes.augment.engine.operation import Drawn, Frame, operation


@operation
class MixUp(Mixing):
    """Blend every image and its label with another example of the batch.

    Source: Zhang et al. 2018, "mixup", equations 1 and 2, https://arxiv.org/abs/1710.09412 (alpha 0.1 to 0.4 on
    ImageNet). Unlike in the paper's code, which draws one weight per batch, each image draws its own weight. Every
    image is the partner of one other image, and never of itself.

    Args:
        alpha: Both parameters of the Beta distribution of the weight, > 0. With a small alpha most blends consist
            almost of one image.
        probability: Chance that an image is blended.
        until_epoch: Number of the first epoch, counted from 0, in which no image is mixed any more; labels are still
            returned as `(batch, classes)`. In a data set it is compared with the epoch of `apply`. None mixes to the
            end.

    Raises:
        ValueError: when an argument is outside its range.
    """

    alpha: float = 0.2
    _: dataclasses.KW_ONLY
    probability: float = 1.0
    until_epoch: int | None = None

    def mix(
        self, images: tf.Tensor, partners: tf.Tensor, weight: tf.Tensor, drawn: Drawn, frame: Frame
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return blend_images(images, partners, weight), weight


def blend_images(images: tf.Tensor, partners: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """`weight * image + (1 - weight) * partner` with `weight` `(batch,)`; Zhang et al. 2018, equation 1."""
    wide = weight[:, None, None, None]
    return images * wide + partners * (1 - wide)
