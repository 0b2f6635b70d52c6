"""Saliency: how much the score would change with each pixel."""

import keras
from typing_extensions import Unpack

from recipes.common.types import FloatArray, Inputs
from recipes.explain.attribution.attribution_task import Task
from recipes.explain.attribution.reduced_channels import reduce_channels
from recipes.explain.engine.options import AttributionOptions, Reduce, Target, shares


@shares(AttributionOptions)
def saliency(
    model: keras.Model,
    images: Inputs,
    target: Target = None,
    *,
    reduce: Reduce = "absmax",
    **options: Unpack[AttributionOptions],
) -> FloatArray:
    """Gradient of the score with respect to the image.

    Source: Simonyan et al. 2013, "Deep Inside Convolutional Networks", section 3,
    https://arxiv.org/abs/1312.6034.

    Args:
        model, images, target: As in every method; see `recipes.explain`.
        reduce: How the channels are reduced: `"absmax"` (the largest absolute value, as in the paper), `"mean"`
            or `"sum"` (signed), `"l2"`; None keeps them.
        options: The options of `AttributionOptions`.

    Returns:
        float32 `(n, height, width)`, raw gradients in score per unit of pixel value; with `reduce=None` the
        shape of the images. `(height, width)` for a single image.

    Raises:
        ValueError: when an argument does not fit the model; the message tells what to type instead.
    """
    task = Task("saliency", model, images, target, gradient=True, **options)
    return task.each_chunk(
        lambda rows: reduce_channels(task.input_gradient(rows)[0], reduce, task.channel_axis)
    )
