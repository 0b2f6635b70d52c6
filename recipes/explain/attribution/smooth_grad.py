"""SmoothGrad: the gradient averaged over noisy copies of the image."""

import functools
import math

import numpy as np
from scipy.special import ndtri

from recipes.common.validation import check_seed, is_number
from recipes.explain.attribution.attribution_task import Task, at_least_one, reduce_channels
from recipes.explain.engine.errors import UsageError


def smooth_grad(
    model,
    images,
    target=None,
    *,
    samples=25,
    noise=0.15,
    kind="mean",
    reduce="absmax",
    score="logits",
    batch_size=64,
    wrt=None,
    compile="auto",
    seed=0,
    verbose="auto",
):
    """Mean gradient of the score over copies of the image with Gaussian noise added.

    Source: Smilkov et al. 2017, "SmoothGrad", section 3, https://arxiv.org/abs/1706.03825: 10-20 % noise, up
    to 50 samples. Gradients are averaged with their signs and only then reduced. The squared form is that of
    Hooker et al. 2019, "A Benchmark for Interpretability Methods", section 4.1,
    https://arxiv.org/abs/1806.10758; the variance is VarGrad, Adebayo et al. 2018,
    https://arxiv.org/abs/1810.03292.

    Args:
        model, images, target, score, batch_size, wrt, compile, seed, verbose: As in every method, see
            `recipes.explain`. A target of None is the class predicted for the image without noise.
        samples: Noisy copies of each image, >= 1; `kind="variance"` needs 2.
        noise: Standard deviation, as a fraction of the image's own range of values (maximum minus minimum).
        kind: `"mean"`, `"square"` (mean of squares) or `"variance"` of the gradients.
        reduce: How channels are collapsed: `"absmax"` (the largest absolute value), `"mean"`, `"sum"`,
            `"l2"`, None.

    Returns:
        float32 `(n, height, width)`; `(height, width)` for a single image. The same seed gives the same maps,
        and every image gets the same noise, scaled to its range.
    """
    check_seed("smooth_grad", 0 if seed is None else seed)
    at_least_one("smooth_grad", "samples", samples)
    if kind not in ("mean", "square", "variance"):
        raise UsageError(
            f"smooth_grad expects kind to be 'mean', 'square' or 'variance'. Received {kind!r}. 'mean' is "
            "the paper's."
        )
    if not is_number(noise) or noise < 0 or (kind == "variance" and samples < 2):
        raise UsageError(
            f"smooth_grad expects noise >= 0, and two samples for a variance. Received noise={noise}, "
            f"samples={samples}, "
            f"kind={kind!r}. The paper uses noise=0.1 to 0.2 and 50 samples."
        )
    task = Task(
        "smooth_grad",
        model,
        images,
        target,
        score=score,
        batch_size=batch_size,
        wrt=wrt,
        compile=compile,
        verbose=verbose,
        gradient=True,
    )
    draw = Noise(task.inputs.images.shape[1:], 0 if seed is None else seed)

    def explain(group):
        clean = task.inputs.images[group].astype("float32")
        axes = tuple(range(1, clean.ndim))
        width = np.float32(noise) * (clean.max(axes, keepdims=True) - clean.min(axes, keepdims=True))

        def change(batch, sample, rows):
            np.multiply(draw(sample), width[rows], out=batch)
            batch += clean[rows]

        # A variance is the small difference of two large sums.
        total = np.zeros(clean.shape, "float64" if kind == "variance" else "float32")
        squares = np.zeros_like(total)
        for rows, gradients, *_ in task.sampled_gradients(group, samples, change):
            if kind != "square":
                total[rows] += gradients
            if kind != "mean":
                squares[rows] += np.square(gradients, dtype=total.dtype)
        mean, square = total / samples, squares / samples
        values = {"mean": mean, "square": square, "variance": square - mean**2}[kind]
        return reduce_channels(values, reduce, task.channel_axis)

    return task.finish(task.each_group(explain, samples + 1))


class Noise:
    """Standard normal noise of one image's shape by sample number: the same in any order and any chunk.

    Sixteen random bits choose among 65536 equally likely values of the normal distribution, which reach to 4.3: several
    times faster than drawing exact ones, which would cost a small network a tenth of its gradient.
    """

    def __init__(self, shape, seed):
        self.shape, self.seed, self.sample = shape, seed, None

    def __call__(self, sample):
        if sample != self.sample:
            bits = np.random.SFC64([self.seed, sample]).random_raw(-(-math.prod(self.shape) // 4))
            chosen = bits.view("uint16")[: math.prod(self.shape)]
            self.values, self.sample = _quantiles().take(chosen, mode="clip").reshape(self.shape), sample
        return self.values


@functools.cache
def _quantiles():
    """65536 equally likely values of variance 1."""
    values = ndtri((np.arange(2**16) + 0.5) / 2**16)
    return (values / values.std()).astype("float32")
