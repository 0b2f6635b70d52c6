"""The mixing stage: each image is mixed with another image of its batch, and so are their labels."""

from collections.abc import Callable
from typing import Any, ClassVar

import tensorflow as tf

from recipes.augment.engine.operation import Drawn, Frame, Operation
from recipes.common.validation import is_whole


class Mixing(Operation):
    """Base of the operations that make one example from two."""

    stage = "mix"
    alpha: Any
    pastes: ClassVar[bool] = (
        False  # True: every pixel comes from one of the two images, so integers stay integers
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.alpha, (int, float)) or not self.alpha > 0:
            raise ValueError(
                f"augment.{self.name} expects alpha > 0. Received alpha={self.alpha!r}. "
                f"To turn it off, leave {self.name} out of the pipeline."
            )

        if self.until_epoch is not None and not (is_whole(self.until_epoch) and self.until_epoch >= 0):
            raise ValueError(
                f"augment.{self.name} expects until_epoch to be a whole number >= 0, or None. Received "
                f"{self.until_epoch!r}. Write {self.name}({self.alpha!r}, until_epoch=20) to use it for 20 epochs."
            )

    def mix(
        self, images: tf.Tensor, partners: tf.Tensor, weight: tf.Tensor, drawn: Drawn, frame: Frame
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Mix each image with its partner.

        Args:
            images: `(batch, height, width, channels)`.
            partners: The same shape, the image that each image is mixed with.
            weight: `(batch,)`, the Beta(alpha, alpha) draws; 1 for images that are not mixed.
            drawn: The operation's draws by name.
            frame: The `Frame` of the images at this point.

        Returns:
            `(images, share)`: the mixed images, and the share `(batch,)` of the first image in them, in [0, 1].
        """
        raise NotImplementedError


def draw_weight(seed: tf.Tensor, batch: tf.Tensor, alpha: float) -> tf.Tensor:
    """Draw from Beta(alpha, alpha), float32 `(batch,)`: the share of the first of two Gamma(alpha) draws in their sum.

    A Gamma(alpha) draw is a Gamma(alpha + 1) draw times uniform^(1 / alpha). It is computed in logarithms, because it
    would underflow for small alpha.
    """
    gammas = tf.random.stateless_gamma((2, batch), seed, alpha + 1.0)
    uniforms = tf.random.stateless_uniform((2, batch), seed + tf.constant([1, 0], seed.dtype))
    logs = tf.math.log(gammas) + tf.math.log(1 - uniforms) / alpha
    return tf.sigmoid(logs[0] - logs[1])


def draw_partner(seed: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
    """Draw a partner for each image, int32 `(batch,)`: each image is a partner once, and never its own partner.

    The images are arranged in a circle in random order, and each takes the next image as its partner.
    """
    circle = tf.argsort(tf.random.stateless_uniform((batch,), seed), stable=True)
    return tf.gather(tf.roll(circle, -1, 0), tf.argsort(circle, stable=True))


def build_mixing(slot: Any, *, keep_integers: bool = False) -> Callable[..., tuple[Any, Any, Any]]:
    """The function `(images, labels, sample_weight, draws) -> the same three` for one operation.

    Labels are float `(batch, classes)` or None, sample weights `(batch,)` or None.
    """

    def mixing(images, labels, sample_weight, draws):
        if not (keep_integers and slot.op.pastes):
            images = tf.cast(images, tf.float32)
        images, share = mix_images(slot, images, draws)
        partner = slot.mixture(draws)[1]
        if labels is not None:
            labels = blend(labels, partner, share)
        if sample_weight is not None:
            sample_weight = blend(sample_weight, partner, share)
        return images, labels, sample_weight

    return mixing


def mix_images(slot: Any, images: tf.Tensor, draws: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Mix images, or masks of their pixels, by one operation; return them and the share `(batch,)` of the first."""
    weight, partner = slot.mixture(draws)
    active = slot.active(draws)
    if active is not None:
        weight = tf.where(active, weight, 1.0)
    return slot.op.mix(images, tf.gather(images, partner), weight, slot.drawn(draws), slot.frame)


def blend(values: tf.Tensor, partner: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """`share * row + (1 - share) * partner's row` for each row; Zhang et al. 2018, equation 2."""
    share = tf.reshape(tf.cast(share, values.dtype), (-1,) + (1,) * (values.shape.rank - 1))
    return values * share + tf.gather(values, partner) * (1 - share)
