"""Expected gradients: integrated gradients averaged over baselines drawn from the data."""

import keras
import numpy as np
from numpy.typing import ArrayLike
from typing_extensions import Unpack

from recipes.common.types import FloatArray, Inputs
from recipes.common.validation import check_seed
from recipes.explain.attribution.attribution_task import Task, at_least_one
from recipes.explain.attribution.reduced_channels import reduce_channels
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.options import AttributionOptions, Reduce, Target, shares


@shares(AttributionOptions)
def expected_gradients(
    model: keras.Model,
    images: Inputs,
    target: Target = None,
    *,
    background: ArrayLike,
    samples: int = 100,
    reduce: Reduce = "sum",
    seed: int = 0,
    **options: Unpack[AttributionOptions],
) -> FloatArray:
    """Expected gradients: integrated gradients averaged over baselines drawn from the data.

    Each sample is the difference between the image and a background image, times the gradient at a random point of the
    line between them. No baseline has to be chosen. The map adds up to the score minus the mean score of the
    background, up to sampling noise, which falls with the square root of `samples`.

    Source: Erion et al. 2021, "Improving performance of deep learning models with axiomatic attribution priors and
    expected gradients", equation 3, https://arxiv.org/abs/1906.10670.

    Args:
        model, images, target: As in every method; see `recipes.explain`.
        background: `(m, height, width, channels)`: images of the data, m >= 1, or a dict of inputs that contains them.
            They are used in a random order, each equally often as far as `samples` allows.
        samples: Number of gradients per image, >= 1. The points on the lines are stratified: one random point in each
            of `samples` equal parts, in random order.
        reduce: How channels are reduced: `"sum"` (signed, keeps the sum), `"mean"`, `"absmax"`, `"l2"`, or None to
            keep them.
        seed: Integer that fixes the order and the points, which are the same for every image.
        options: The options of `AttributionOptions`.

    Returns:
        float32 `(n, height, width)`, in units of the score; `(height, width)` for a single image.

    Raises:
        ValueError: when the background is empty or has another shape than the images, or `samples` is below 1.
    """
    at_least_one("expected_gradients", "samples", samples)
    check_seed("expected_gradients", seed)
    task = Task("expected_gradients", model, images, target, gradient=True, **options)
    if isinstance(background, dict):
        background = background.get(task.inputs.names[task.inputs.wrt], ())
    background = np.asarray(background, "float32")
    if background.shape[1:] != task.inputs.images.shape[1:] or not len(background):
        raise UsageError(
            f"expected_gradients expects a background of images {('m', *task.inputs.images.shape[1:])}. Received shape "
            f"{background.shape}. Pass some images of the training data."
        )
    chosen, where = draw(len(background), samples, seed)

    def explain(group):
        ends = task.inputs.images[group].astype("float32")
        total = np.zeros_like(ends)

        def walk(batch, sample, rows):
            start = background[chosen[sample]]
            np.add(start, where[sample] * (ends[rows] - start), out=batch)

        for rows, gradients, _, sample in task.sampled_gradients(group, samples, walk):
            total[rows] += (ends[rows] - background[chosen[sample]]) * gradients
        return reduce_channels(total / samples, reduce, task.channel_axis)

    return task.finish(task.each_group(explain, samples + 1))


def draw(count: int, samples: int, seed: int) -> tuple[np.ndarray, FloatArray]:
    """The index of the background image of each sample, and its point on the line in 0..1: each `(samples,)`."""
    generator = np.random.default_rng(seed)
    rounds = [generator.permutation(count) for _ in range(-(-samples // count))]
    where = (generator.permutation(samples) + generator.random(samples)) / samples
    return np.concatenate(rounds)[:samples], where.astype("float32")
