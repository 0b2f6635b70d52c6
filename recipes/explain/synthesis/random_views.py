"""Random views of an image while it is optimized, so that it has to look right from all of them."""

import dataclasses

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Views:
    """Shift and scale every image of the batch alike, anew at every step; the borders wrap around.

    Source: Olah et al. 2017, "Feature Visualization", section "Transformation robustness",
    https://distill.pub/2017/feature-visualization. Of its transformations the rotation is left out.

    Args:
        jitter: Largest shift in pixels, each way.
        scale: Largest change of size, as a fraction: 0.1 draws from 0.9 ... 1.1.
    """

    jitter: int = 0
    scale: float = 0.0

    def __call__(self, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """`(n, height, width, channels)` -> the same shape, seen from somewhere else."""
        if not self.jitter and not self.scale:
            return images
        draws = tf.random.stateless_uniform([3], seed, -1, 1)
        if not self.scale:
            shift = tf.cast(tf.round(draws[:2] * self.jitter), "int32")
            return tf.roll(images, shift, [1, 2])
        zoom = 1 + draws[2] * self.scale
        height, width, channels = images.shape[1:]
        rows = _sampling(height, draws[0] * self.jitter, zoom)
        columns = _sampling(width, draws[1] * self.jitter, zoom)
        # Two matrix products, with an exact and cheap gradient; each axis is last when it is its turn.
        planes = tf.reshape(tf.transpose(images, [0, 3, 1, 2]), [-1, width])
        planes = tf.reshape(tf.matmul(planes, columns, transpose_b=True), [-1, channels, height, width])
        planes = tf.reshape(tf.transpose(planes, [0, 3, 1, 2]), [-1, height])
        planes = tf.reshape(tf.matmul(planes, rows, transpose_b=True), [-1, width, channels, height])
        return tf.transpose(planes, [0, 3, 1, 2])


def _sampling(size, shift, zoom):
    """`(size, size)` weights of linear sampling at zoomed and shifted places of a periodic axis."""
    length = tf.cast(size, "float32")
    middle = (length - 1) / 2
    place = (tf.range(length) - middle) / zoom + middle + shift
    lower = tf.floor(place)
    share = place - lower
    lower = tf.cast(lower, "int32")
    return (
        tf.one_hot(lower % size, size) * (1 - share)[:, None]
        + tf.one_hot((lower + 1) % size, size) * share[:, None]
    )
