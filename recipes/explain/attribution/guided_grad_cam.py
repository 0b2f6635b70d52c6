"""Guided Grad-CAM: the fine detail of guided backpropagation in the regions of Grad-CAM."""

import keras
import numpy as np
from typing_extensions import Unpack

from recipes.common.types import FloatArray, Inputs
from recipes.explain.attribution.attribution_task import Task
from recipes.explain.attribution.grad_cam import grad_cam
from recipes.explain.attribution.guided import guided_backprop
from recipes.explain.engine.options import AttributionOptions, Layer, Reduce, Target, shares


@shares(AttributionOptions)
def guided_grad_cam(
    model: keras.Model,
    images: Inputs,
    target: Target = None,
    *,
    layer: Layer | None = None,
    call_index: int | None = None,
    tokens: tuple[int, int] | None = None,
    reduce: Reduce = "absmax",
    strict: bool = True,
    return_layer: bool = False,
    **options: Unpack[AttributionOptions],
) -> FloatArray:
    """Product of guided backpropagation and the resized Grad-CAM map.

    Source: Selvaraju et al. 2017, "Grad-CAM", section 3.2, https://arxiv.org/abs/1610.02391.

    Args:
        model, images, target: As in every method; see `recipes.explain`.
        layer, call_index, tokens, return_layer: As in `LayerOptions`.
        reduce: How the channels of guided backpropagation are reduced, as in `guided_backprop`; None keeps them.
        strict: As in `guided_backprop`.
        options: The options of `AttributionOptions`.

    Returns:
        float32 `(n, height, width)`; `(height, width)` for a single image.

    Raises:
        ValueError: as in `guided_backprop` and `grad_cam`.
    """
    where, place = grad_cam(
        model, images, target, layer=layer, call_index=call_index, tokens=tokens, return_layer=True, **options
    )
    lines = guided_backprop(model, images, target, reduce=reduce, strict=strict, **options)
    if lines.ndim > where.ndim:
        task = Task("guided_grad_cam", model, images, target, **options)
        where = np.expand_dims(where, task.channel_axis - task.inputs.single)
    return (lines * where, place) if return_layer else lines * where
