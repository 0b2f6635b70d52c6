"""Grad-CAM++: Grad-CAM with a weight for every position, so that several objects count."""

import numpy as np

from recipes.explain.attribution.cam import layer_maps


def grad_cam_plus_plus(
    model,
    images,
    target=None,
    *,
    layer=None,
    call_index=None,
    tokens=None,
    resize=True,
    score="logits",
    batch_size=64,
    wrt=None,
    compile="auto",
    seed=None,
    verbose="auto",
):
    """Sum of a layer's feature maps, weighted by their positive gradients, each position by its own share.

    Source: Chattopadhyay et al. 2018, "Grad-CAM++", equations 5, 7 and 19, https://arxiv.org/abs/1710.11063.
    With the paper's `exp(score)` the higher derivatives are powers of the gradient (equations 16 to 19); the
    positive factor `exp(score)` itself, one number per image, is left out, as it overflows. As in the
    authors' code, though not in their equations, the shares of a channel are scaled to add up to 1 over its
    positions.

    Args:
        model, images, target, score, batch_size, wrt, compile, seed, verbose: As in every method, see
            `recipes.explain`.
        layer, call_index, tokens, resize: As in `grad_cam`.

    Returns:
        float32 `(n, height, width)`, at least 0; `(height, width)` for a single image.

    Raises:
        ValueError: As `grad_cam`.
    """

    def weigh(activations, gradients):
        positions = tuple(range(1, gradients.ndim - 1))
        squares = gradients**2
        sums = activations.sum(positions, keepdims=True)
        denominator = 2 * squares + sums * squares * gradients
        shares = np.divide(squares, denominator, out=np.zeros_like(squares), where=denominator != 0)
        totals = shares.sum(positions)
        weights = (shares * np.maximum(gradients, 0)).sum(positions) / np.where(totals == 0, 1, totals)
        return np.maximum(np.einsum("n...c,nc->n...", activations, weights), 0)

    return layer_maps(
        "grad_cam_plus_plus",
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
