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
    """Difference to an image of the data, times the gradient at a random place between them, averaged over both.

    No baseline has to be chosen: what is compared with is the data. The map adds up to the score less the mean score of
    the background, but for the noise of drawing, which falls with the square root of `samples`.

    Source: Erion et al. 2021, "Improving performance of deep learning models with axiomatic attribution priors and
    expected gradients", equation 3, https://arxiv.org/abs/1906.10670.

    Args:
        model, images, target: As in every method, see `recipes.explain`.
        background: `(m, height, width, channels)`: images of the data, m >= 1, or a dict of inputs that has them. They
            are taken in turn, in a random order, so that `samples` of them stand for all.
        samples: Gradients per image, >= 1. Places on the way are spread evenly, one in each part, and shuffled.
        reduce: How channels are collapsed: `"sum"` (signed, keeps the sum), `"mean"`, `"absmax"`, `"l2"`, None.
        seed: Integer that fixes order and places; every image has the same.
        options: Those of `AttributionOptions`.

    Returns:
        float32 `(n, height, width)`, in units of the score; `(height, width)` for a single image.

    Raises:
        ValueError: a background of other shape than the images, or empty.
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
    """Which background image each sample begins at, and where on the way it is, in 0..1: `(samples,)` each."""
    generator = np.random.default_rng(seed)
    rounds = [generator.permutation(count) for _ in range(-(-samples // count))]
    where = (generator.permutation(samples) + generator.random(samples)) / samples
    return np.concatenate(rounds)[:samples], where.astype("float32")
