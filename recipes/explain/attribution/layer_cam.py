"""LayerCAM: feature maps weighted position by position, which stays sharp in early layers."""

import numpy as np

from recipes.explain.attribution.cam import layer_maps


def layer_cam(
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
    """Sum over channels of each activation times its own positive gradient.

    Source: Jiang et al. 2021, "LayerCAM", equations 6 to 8, https://doi.org/10.1109/TIP.2021.3089943.

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
        return np.maximum(np.einsum("n...c,n...c->n...", activations, np.maximum(gradients, 0)), 0)

    return layer_maps(
        "layer_cam",
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
