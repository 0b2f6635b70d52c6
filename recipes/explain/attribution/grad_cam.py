"""Grad-CAM: feature maps weighted by how much the score listens to them."""

import numpy as np

from recipes.explain.attribution.cam import layer_maps


def grad_cam(
    model,
    images,
    target=None,
    *,
    layer=None,
    call_index=None,
    tokens=None,
    relu=True,
    resize=True,
    score="logits",
    batch_size=64,
    wrt=None,
    compile="auto",
    seed=None,
    verbose="auto",
):
    """Sum of a layer's feature maps, each weighted by its mean gradient.

    Source: Selvaraju et al. 2017, "Grad-CAM", equations 1 and 2, https://arxiv.org/abs/1610.02391. The
    paper's weight is the gradient's mean over positions. Only the part of the network above the layer is
    differentiated.

    Args:
        model, images, target, score, batch_size, wrt, compile, seed, verbose: As in every method, see
            `recipes.explain`.
        layer: The layer whose maps are weighed, by object, name, `"outer/inner"` or index. None takes the
            last feature map before the head, also inside a nested base model.
        call_index: Which call of a shared layer, from 0, in the order they were written (in a subclassed
            model, made).
        tokens: `(rows, columns)` folds a transformer layer `(n, tokens, channels)` to its grid; a leading
            class token is dropped. None guesses a grid of the sides of the image (a square for a square
            image).
        relu: Keep positive evidence only, as in the paper; False returns signed maps.
        resize: Resize to the image, linearly with aligned pixel centers; False keeps the layer's grid.

    Returns:
        float32 `(n, height, width)`, raw values; `(height, width)` for a single image.

    Raises:
        ValueError: a layer without spatial axes, and what does not fit the model, with what to type instead.
    """

    def weigh(activations, gradients):
        weights = gradients.mean(axis=tuple(range(1, gradients.ndim - 1)))
        maps = np.einsum("n...c,nc->n...", activations, weights)
        return np.maximum(maps, 0) if relu else maps

    return layer_maps(
        "grad_cam",
        weigh,
        model,
        images,
        target,
        layer=layer,
        call_index=call_index,
        tokens=tokens,
        resize=resize,
        score=score,
        batch_size=batch_size,
        wrt=wrt,
        compile=compile,
        verbose=verbose,
    )
