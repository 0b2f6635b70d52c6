"""SmoothGrad: the gradient averaged over noisy copies of the image."""

import functools
import math
from typing import Literal

import keras
import numpy as np
from scipy.special import ndtri
from typing_extensions import Unpack

from recipes.common.types import FloatArray, Inputs
from recipes.common.validation import check_seed, is_number
from recipes.explain.attribution.attribution_task import Task, at_least_one
from recipes.explain.attribution.reduced_channels import reduce_channels
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.options import AttributionOptions, Reduce, Target, shares


@shares(AttributionOptions)
def smooth_grad(
    model: keras.Model,
    images: Inputs,
    target: Target = None,
    *,
    samples: int = 25,
    noise: float = 0.15,
    kind: Literal["mean", "square", "variance"] = "mean",
    reduce: Reduce = "absmax",
    seed: int | None = 0,
    **options: Unpack[AttributionOptions],
) -> FloatArray:
    """Mean gradient of the score over copies of the image with Gaussian noise added.

    Source: Smilkov et al. 2017, "SmoothGrad", section 3, https://arxiv.org/abs/1706.03825: 10-20 % noise, up
    to 50 samples. Gradients are averaged with their signs before their channels are reduced. The mean of squares is
    that of Hooker et al. 2019, "A Benchmark for Interpretability Methods", section 4.1,
    https://arxiv.org/abs/1806.10758; the variance is VarGrad, Adebayo et al. 2018,
    https://arxiv.org/abs/1810.03292.

    Args:
        model, images, target: As in every method; see `recipes.explain`. A target of None is the class
            predicted for the image without noise.
        samples: Number of noisy copies of each image, >= 1; `kind="variance"` needs at least 2.
        noise: Standard deviation as a fraction of the image's own range of values (maximum minus minimum), >= 0.
        kind: `"mean"`, `"square"` (mean of squares) or `"variance"` of the gradients.
        reduce: How channels are reduced: `"absmax"` (the largest absolute value), `"mean"`, `"sum"`,
            `"l2"`, or None to keep them.
        seed: Integer that fixes the noise.
        options: The options of `AttributionOptions`.

    Returns:
        float32 `(n, height, width)`; `(height, width)` for a single image. The same seed gives the same maps,
        and every image gets the same noise, scaled to its range.

    Raises:
        ValueError: when `samples`, `noise` or `kind` is outside its range, or an argument does not fit the model.
    """
    seed = 0 if seed is None else seed
    _check(samples, noise, kind, seed)
    task = Task("smooth_grad", model, images, target, gradient=True, **options)
    draw = Noise(task.inputs.images.shape[1:], seed)

    def explain(group):
        clean = task.inputs.images[group].astype("float32")
        deviation = deviation_of(clean, noise)

        def change(batch, sample, rows):
            noisy(clean[rows], deviation[rows], draw(sample), out=batch)

        # A variance is the small difference of two large sums.
        total = np.zeros(clean.shape, "float64" if kind == "variance" else "float32")
        squares = np.zeros_like(total)
        for rows, gradients, *_ in task.sampled_gradients(group, samples, change):
            if kind != "square":
                total[rows] += gradients
            if kind != "mean":
                squares[rows] += np.square(gradients, dtype=total.dtype)
        return reduce_channels(statistic(total, squares, samples, kind), reduce, task.channel_axis)

    return task.finish(task.each_group(explain, samples + 1))


def deviation_of(images: FloatArray, noise: float) -> FloatArray:
    """Section 4: the noise level `sigma / (x_max - x_min)` times each image's own range, `(n, 1, ...)`."""
    axes = tuple(range(1, images.ndim))
    return np.float32(noise) * (images.max(axes, keepdims=True) - images.min(axes, keepdims=True))


def noisy(
    images: FloatArray, deviation: FloatArray, normal: FloatArray, out: FloatArray | None = None
) -> FloatArray:
    """Section 3: `x + N(0, sigma^2)`, from images, standard deviations and given standard normal noise."""
    out = np.multiply(normal, deviation, out=out)
    out += images
    return out


def statistic(total: np.ndarray, squares: np.ndarray, samples: int, kind: str) -> np.ndarray:
    """The mean, the mean of squares, or the variance of gradients, from their sum and their sum of squares."""
    if kind == "mean":
        return total / samples
    square = squares / samples
    return square if kind == "square" else square - (total / samples) ** 2


def _check(samples, noise, kind, seed):
    check_seed("smooth_grad", seed)
    at_least_one("smooth_grad", "samples", samples)
    if kind not in ("mean", "square", "variance"):
        raise UsageError(
            f"smooth_grad expects kind to be 'mean', 'square' or 'variance'. Received {kind!r}. Write 'mean' for the "
            "method of the paper."
        )
    if not is_number(noise) or noise < 0 or (kind == "variance" and samples < 2):
        raise UsageError(
            f"smooth_grad expects noise >= 0, and at least two samples for a variance. Received noise={noise}, "
            f"samples={samples}, kind={kind!r}. The paper uses noise=0.1 to 0.2 and 50 samples."
        )


class Noise:
    """Standard normal noise of one image's shape, by sample number; the same in any order and any chunk.

    Sixteen random bits choose among 65536 equally likely values of the normal distribution, from -4.3 to 4.3. This is
    several times faster than exact draws, which would take a tenth of the time of a small network's gradient.
    """

    def __init__(self, shape: tuple[int, ...], seed: int) -> None:
        self.shape, self.seed, self.sample = shape, seed, None

    def __call__(self, sample: int) -> FloatArray:
        if sample != self.sample:
            bits = np.random.SFC64([self.seed, sample]).random_raw(-(-math.prod(self.shape) // 4))
            chosen = bits.view("uint16")[: math.prod(self.shape)]
            self.values, self.sample = _quantiles().take(chosen, mode="clip").reshape(self.shape), sample
        return self.values


@functools.cache
def _quantiles():
    """65536 equally likely values of a standard normal distribution, scaled to variance 1."""
    values = ndtri((np.arange(2**16) + 0.5) / 2**16)
    return (values / values.std()).astype("float32")
