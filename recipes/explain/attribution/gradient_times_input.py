"""Gradient times input: each pixel's share of the score of a linear model."""

import keras
from typing_extensions import Unpack

from recipes.common.types import FloatArray, Inputs
from recipes.explain.attribution.attribution_task import Task
from recipes.explain.attribution.reduced_channels import reduce_channels
from recipes.explain.engine.options import AttributionOptions, Reduce, Target, shares


@shares(AttributionOptions)
def gradient_times_input(
    model: keras.Model,
    images: Inputs,
    target: Target = None,
    *,
    reduce: Reduce = "sum",
    **options: Unpack[AttributionOptions],
) -> FloatArray:
    """Product of the gradient and the image, summed over channels.

    For a model that is linear in its input, the map sums to the score minus its bias. Pixels with the value 0 always
    get 0, whatever their meaning. Source: Shrikumar et al. 2016, "Not Just a Black Box", section 3,
    https://arxiv.org/abs/1605.01713.

    Args:
        model, images, target: As in every method; see `recipes.explain`.
        reduce: How channels are reduced: `"sum"` (signed, keeps the sum), `"mean"`, `"absmax"`, `"l2"`, or None to
            keep them.
        options: The options of `AttributionOptions`.

    Returns:
        float32 `(n, height, width)`, in units of the score; `(height, width)` for a single image.

    Raises:
        ValueError: when an argument does not fit the model; the message tells what to type instead.
    """
    task = Task("gradient_times_input", model, images, target, gradient=True, **options)
    return task.each_chunk(
        lambda rows: reduce_channels(task.gradient_times_input(rows), reduce, task.channel_axis)
    )
