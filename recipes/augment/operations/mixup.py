"""MixUp: blend each image with another."""

import dataclasses

from recipes.augment.engine.mixing import Mixing
from recipes.augment.engine.operation import operation


@operation
class MixUp(Mixing):
    """Blend every image and its label with another of the batch.

    Source: Zhang et al. 2018, "mixup", equations 1 and 2, https://arxiv.org/abs/1710.09412 (alpha 0.1 to 0.4 on
    ImageNet). Unlike the paper's code, which draws one weight a batch, each image draws its own; every image
    is the partner of one other, and never of itself.

    Args:
        alpha: Both parameters of the Beta distribution of the weight, > 0. Small means mostly one image.
        probability: Chance that an image is blended.
    """

    alpha: float = 0.2
    _: dataclasses.KW_ONLY
    probability: float = 1.0

    def mix(self, images, partners, weight, uniform, frame):
        wide = weight[:, None, None, None]
        return images * wide + partners * (1 - wide), weight
