"""CutMix: paste a piece of another image."""

import dataclasses

import tensorflow as tf

from recipes.augment.engine.color import box_mask
from recipes.augment.engine.mixing import Mixing
from recipes.augment.engine.operation import operation


@operation
class CutMix(Mixing):
    """Paste a rectangle of another image of the batch; labels are shared by area.

    Source: Yun et al. 2019, equations 1 and 2, https://arxiv.org/abs/1905.04899. The center is anywhere, so the
    rectangle may be cut by the border, and it has whole pixels; the label's share is counted after both, and equals the
    fraction of pixels exactly. Each image draws its own rectangle.

    Args:
        alpha: Both parameters of the Beta distribution of the share that is kept, > 0; 1 is uniform.
        probability: Chance that an image gets a piece.
    """

    alpha: float = 1.0
    _: dataclasses.KW_ONLY
    probability: float = 1.0

    uniforms = 2

    def mix(self, images, partners, weight, uniform, frame):
        cut = tf.sqrt(1 - weight)
        edges = []
        for center, side in ((uniform[0], frame.height), (uniform[1], frame.width)):
            for half in (-0.5, 0.5):
                edge = tf.floor((center + half * cut) * side + 0.5)
                edges.append(tf.cast(tf.clip_by_value(edge, 0.0, float(side)), tf.int32))
        top, bottom, left, right = edges
        mask = box_mask(edges, frame)[..., None]
        pasted = tf.cast((bottom - top) * (right - left), tf.float32)
        return images * (1 - mask) + partners * mask, 1 - pasted / (frame.height * frame.width)
