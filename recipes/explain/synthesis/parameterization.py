"""Parameterizations of an optimized image: its pixels, its Fourier coefficients, or the latent vector of a generator.

A parameterization decodes parameters `(n, ...)` to unit images `(n, height, width, channels)` in 0..1; the loop
scales these to the value range. All are hashable, so that a trace can be kept for each.
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

# From this share of the steps on, all frequencies are optimized.
OPEN = 0.6


@dataclasses.dataclass(frozen=True)
class Pixels:
    """One parameter per value of a pixel, in -1..1, clipped to this range after every step.

    Args:
        shape: `(height, width, channels)`; None for sides that may differ from call to call.
    """

    shape: tuple[int | None, int | None, int]
    bounded = True

    @property
    def trace_shape(self) -> tuple[int | None, ...] | None:
        """Shape of the parameters of one image in a trace; None if it is always the same."""
        return self.shape if None in self.shape else None

    def start(self, seeds: Sequence[Sequence[int]], scale: float = 0.01) -> FloatArray:
        """Parameters of gray images with a little noise, one image per seed; a seed is a list of integers."""
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
    whereas in pixels high frequencies dominate. Colors are decorrelated only for RGB images.

    Args:
        shape: `(height, width, channels)`.
        power: Power of the frequency by which each coefficient is divided, >= 0: 1 as in Olah et al.; more favors large
            shapes.
    """

    shape: tuple[int, int, int]
    power: float = 1.0
    bounded = False
    trace_shape = None

    def start(self, seeds: Sequence[Sequence[int]], scale: float = 0.01) -> FloatArray:
        """Parameters of nearly gray images, one image per seed; a seed is a list of integers."""
        height, width, channels = self.shape
        shape = (channels, height, width // 2 + 1, 2)
        return np.stack([_normal(seed, shape, scale) for seed in seeds])

    def encode(self, images: ArrayLike) -> FloatArray:
        """Parameters that decode to the unit images; pure black and white become almost black and white."""
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
        """The mask of coefficients that are optimized: up to `coarse` waves at first, all from `OPEN` on.

        So large shapes come first, and details are added to them.

        Args:
            coarse: Number of waves across the longer side at the start, > 0.
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
        # Frequency 0 is treated like the lowest other frequency. The factor 1/4 keeps the first steps in the linear
        # part of the sigmoid. Waves as long as a quarter of the image have the same weight for every power.
        lowest = 1 / max(height, width)
        frequency = np.maximum(frequency, lowest)
        weight = np.sqrt(height * width) / frequency / 4 * (frequency / (4 * lowest)) ** (1 - self.power)
        return weight.astype("float32")


@dataclasses.dataclass(frozen=True)
class Latent:
    """The latent vector of a generator network, so that only images of the generator can result.

    Source: Nguyen et al. 2016, "Synthesizing the preferred inputs for neurons in neural networks via deep
    generator networks", section 2, https://arxiv.org/abs/1605.09304.

    Args:
        shape: `(height, width, channels)` of the result, to which the generator's images are resized.
        generator: `weakref.ref` of a `keras.Model` from `(n, ...)` to images in `value_range`.
        value_range: `(low, high)` of the generator's images.
    """

    shape: tuple[int, int, int]
    generator: weakref.ref
    value_range: tuple[float, float]
    bounded = False
    trace_shape = None

    def start(self, seeds: Sequence[Sequence[int]], scale: float = 1.0) -> FloatArray:
        """Standard normal latent vectors, one per seed; a seed is a list of integers."""
        shape = tuple(self.generator().inputs[0].shape[1:])
        return np.stack([_normal(seed, shape, scale) for seed in seeds])

    def decode(self, parameters: tf.Tensor) -> tf.Tensor:
        low, high = self.value_range
        images = tf.cast(self.generator()(parameters, training=False), "float32")
        if tuple(images.shape[1:3]) != self.shape[:2]:
            images = tf.image.resize(images, self.shape[:2])
        return (tf.clip_by_value(images, low, high) - low) / (high - low)


def _inverse_fourier(parameters, scale, size):
    """Scale real and imaginary parts `(n, channels, height, width // 2 + 1, 2)` and transform them to real planes.

    The gradient is written by hand, which saves splitting and joining the parts and so half the time.
    """
    height, width = size
    # All horizontal frequencies but 0 and the highest represent two, themselves and their conjugates.
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
    """The parameterization that the user named, for images of this shape."""
    kinds = {"fourier": Fourier, "pixels": Pixels}
    if kind not in kinds:
        raise UsageError(
            f"{method} expects parameterization to be 'fourier' or 'pixels'. Received {kind!r}. Leave it out for the "
            "default."
        )
    return kinds[kind](shape)


def _normal(seed, shape, scale):
    return np.random.default_rng(seed).normal(0, scale, shape).astype("float32")
