"""What is really optimized when an image is: its pixels, its Fourier coefficients, or a generator's latent vector.

A parameterization decodes `(n, ...)` parameters to unit images, `(n, height, width, channels)` in 0..1; the loop
stretches those to the value range. All are hashable, so that a trace can be kept for each.
"""

import dataclasses
import weakref
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from recipes.common.types import FloatArray
from recipes.explain.engine.errors import UsageError

# Krizhevsky et al. 2012, section 4.1: eigenvectors of ImageNet's colors times the roots of their eigenvalues,
# as published by its authors; divided by the length of the first so that decoding keeps the scale.
_COLORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
) * np.sqrt([0.2175, 0.0188, 0.0045])
COLOR_MATRIX = (-_COLORS / np.linalg.norm(_COLORS, axis=0).max()).astype("float32")

# Share of the steps from which on all frequencies move.
OPEN = 0.6


@dataclasses.dataclass(frozen=True)
class Pixels:
    """One parameter a pixel, -1..1, clipped to that after every step.

    Args:
        shape: `(height, width, channels)`; None for sides that may differ from call to call.
    """

    shape: tuple[int | None, int | None, int]
    bounded = True

    @property
    def trace_shape(self) -> tuple[int | None, ...] | None:
        """Of the parameters of one image in a trace; None where it is always the same."""
        return self.shape if None in self.shape else None

    def start(self, seeds: Sequence[Sequence[int]], scale: float = 0.01) -> FloatArray:
        """Gray and a little noise: one seed, a list of integers, an image."""
        return np.stack([_normal(seed, self.shape, scale) for seed in seeds])

    def encode(self, images: ArrayLike) -> FloatArray:
        """Parameters that decode to the unit images."""
        return np.asarray(images, "float32") * 2 - 1

    def decode(self, parameters: tf.Tensor) -> tf.Tensor:
        return (parameters + 1) / 2


@dataclasses.dataclass(frozen=True)
class Fourier:
    """Fourier coefficients scaled by 1/frequency, of decorrelated colors, through a sigmoid.

    Source: Olah et al. 2017, "Feature Visualization", section "Preconditioning and Parameterization",
    https://distill.pub/2017/feature-visualization. Steepest ascent in these coordinates treats all frequencies alike,
    where in pixels the high ones win. Colors other than RGB stay correlated.

    Args:
        shape: `(height, width, channels)`.
        power: Of the frequency, by which its coefficient is divided: 1 is Olah's; more favors large shapes.
    """

    shape: tuple[int, int, int]
    power: float = 1.0
    bounded = False
    trace_shape = None

    def start(self, seeds: Sequence[Sequence[int]], scale: float = 0.01) -> FloatArray:
        """Nearly gray: one seed, a list of integers, an image."""
        height, width, channels = self.shape
        shape = (channels, height, width // 2 + 1, 2)
        return np.stack([_normal(seed, shape, scale) for seed in seeds])

    def encode(self, images: ArrayLike) -> FloatArray:
        """Parameters that decode to the unit images, but for black and white, which become nearly so."""
        images = np.clip(np.asarray(images, "float32"), 0.01, 0.99)
        logits = np.log(images / (1 - images))
        if self.shape[-1] == 3:
            logits = logits @ np.linalg.inv(COLOR_MATRIX).T
        spectrum = np.fft.rfft2(np.moveaxis(logits, -1, 1)) / self._scale()
        return np.stack([spectrum.real, spectrum.imag], axis=-1).astype("float32")

    def decode(self, parameters: tf.Tensor) -> tf.Tensor:
        height, width, channels = self.shape
        planes = tf.transpose(_inverse_fourier(parameters, self._scale(), (height, width)), [0, 2, 3, 1])
        if channels == 3:
            planes = tf.reshape(tf.reshape(planes, [-1, 3]) @ COLOR_MATRIX.T, tf.shape(planes))
        return tf.sigmoid(tf.ensure_shape(planes, [None, height, width, channels]))

    def open(self, coarse: float, progress: tf.Tensor) -> tf.Tensor:
        """Which coefficients move: those of `coarse` waves across the longer side at first, all from `OPEN` on.

        Large shapes come first, and details then find their place in them.

        Args:
            coarse: Waves across the longer side, > 0.
            progress: Share of the steps that are done, a scalar in 0..1.

        Returns:
            float32 `(height, width // 2 + 1, 1)` of 0 and 1.
        """
        waves = (self._frequency() * max(self.shape[:2])).astype("float32")[..., None]
        growth = np.float32(max(waves.max() / coarse, 1.0))
        return tf.cast(waves <= 1.001 * coarse * growth ** tf.minimum(progress / OPEN, 1.0), "float32")

    def _frequency(self):
        height, width, _ = self.shape
        return np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])

    def _scale(self):
        height, width, _ = self.shape
        frequency = self._frequency()
        # A coefficient of frequency 0 counts as the lowest other one; the quarter keeps first steps in the
        # sigmoid's straight part. Whatever the power, waves a quarter of the image long weigh the same.
        lowest = 1 / max(height, width)
        frequency = np.maximum(frequency, lowest)
        weight = np.sqrt(height * width) / frequency / 4 * (frequency / (4 * lowest)) ** (1 - self.power)
        return weight.astype("float32")


@dataclasses.dataclass(frozen=True)
class Latent:
    """The input of a generator network, whose images are all that can come out.

    Source: Nguyen et al. 2016, "Synthesizing the preferred inputs for neurons in neural networks via deep
    generator networks", section 2, https://arxiv.org/abs/1605.09304.

    Args:
        shape: `(height, width, channels)` of the images wanted; the generator's are resized to it.
        generator: `weakref.ref` of a `keras.Model` from `(n, ...)` to images in `value_range`.
        value_range: `(low, high)` of the generator's images.
    """

    shape: tuple[int, int, int]
    generator: weakref.ref
    value_range: tuple[float, float]
    bounded = False
    trace_shape = None

    def start(self, seeds: Sequence[Sequence[int]], scale: float = 1.0) -> FloatArray:
        """A standard normal draw: one seed, a list of integers, an image."""
        shape = tuple(self.generator().inputs[0].shape[1:])
        return np.stack([_normal(seed, shape, scale) for seed in seeds])

    def decode(self, parameters: tf.Tensor) -> tf.Tensor:
        low, high = self.value_range
        images = tf.cast(self.generator()(parameters, training=False), "float32")
        if tuple(images.shape[1:3]) != self.shape[:2]:
            images = tf.image.resize(images, self.shape[:2])
        return (tf.clip_by_value(images, low, high) - low) / (high - low)


def _inverse_fourier(parameters, scale, size):
    """`(n, channels, height, width // 2 + 1, 2)`, real and imaginary parts to be scaled -> real planes.

    A gradient written out saves taking the parts apart and together, half the time.
    """
    height, width = size
    # All frequencies across but 0 and the highest stand for two, themselves and their conjugates.
    twice = np.full(width // 2 + 1, 2.0, "float32")
    twice[0] = 1.0
    if width % 2 == 0:
        twice[-1] = 1.0

    @tf.custom_gradient
    def inverse(parameters):
        spectrum = tf.bitcast(parameters * scale[..., None], "complex64")

        def gradient(upstream):
            found = tf.bitcast(tf.signal.rfft2d(upstream), "float32")
            return found * (scale * twice / (height * width))[..., None]

        return tf.signal.irfft2d(spectrum, fft_length=[height, width]), gradient

    return inverse(parameters)


def parameterization_of(method: str, kind: str, shape: tuple[int, int, int]) -> Pixels | Fourier:
    """The parameterization a reader named, for images of a shape."""
    kinds = {"fourier": Fourier, "pixels": Pixels}
    if kind not in kinds:
        raise UsageError(
            f"{method} expects parameterization to be 'fourier' or 'pixels'. Received {kind!r}. Leave it out for the "
            "default."
        )
    return kinds[kind](shape)


def _normal(seed, shape, scale):
    return np.random.default_rng(seed).normal(0, scale, shape).astype("float32")
