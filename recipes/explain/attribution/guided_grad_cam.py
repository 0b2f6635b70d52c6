"""Guided Grad-CAM: the fine lines of guided backpropagation where Grad-CAM looks."""

import numpy as np

from recipes.explain.attribution.grad_cam import grad_cam
from recipes.explain.attribution.guided import guided_backprop
from recipes.explain.engine.layer_lookup import data_format


def guided_grad_cam(
    model,
    images,
    target=None,
    *,
    layer=None,
    call_index=None,
    tokens=None,
    reduce="absmax",
    score="logits",
    batch_size=64,
    wrt=None,
    compile="auto",
    seed=None,
    verbose="auto",
):
    """Product of guided backpropagation and the resized Grad-CAM map.

    Source: Selvaraju et al. 2017, "Grad-CAM", section 3.2, https://arxiv.org/abs/1610.02391.

    Args:
        model, images, target, score, batch_size, wrt, compile, seed, verbose: As in every method, see
            `recipes.explain`.
        layer, call_index, tokens: As in `grad_cam`.
        reduce: How the channels of guided backpropagation are collapsed, as there; None keeps them.

    Returns:
        float32 `(n, height, width)`; `(height, width)` for a single image.

    Raises:
        ValueError: As `guided_backprop` and `grad_cam`.
    """
    options = {"score": score, "batch_size": batch_size, "wrt": wrt, "verbose": verbose}
    where = grad_cam(
        model, images, target, layer=layer, call_index=call_index, tokens=tokens, compile=compile, **options
    )
    lines = guided_backprop(model, images, target, reduce=reduce, compile=compile, **options)
    if lines.ndim > where.ndim:
        where = np.expand_dims(where, -where.ndim if data_format(model) == "channels_first" else -1)
    return lines * where
