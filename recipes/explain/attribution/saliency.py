"""Saliency: how much the score would change with each pixel."""

import numpy as np

from recipes.explain.attribution.attribution_task import Task, reduce_channels


def saliency(
    model,
    images,
    target=None,
    *,
    reduce="absmax",
    score="logits",
    batch_size=64,
    wrt=None,
    compile="auto",
    seed=None,
    verbose="auto",
):
    """Gradient of the score with respect to the image.

    Source: Simonyan et al. 2013, "Deep Inside Convolutional Networks", section 3,
    https://arxiv.org/abs/1312.6034.

    Args:
        model, images, target, score, batch_size, wrt, compile, seed, verbose: As in every method, see
            `recipes.explain`.
        reduce: How the channels are collapsed: `"absmax"` (the paper's: the largest absolute value), `"mean"`
            or `"sum"` (signed), `"l2"`; None keeps them.

    Returns:
        float32 `(n, height, width)`, raw gradients in score per unit of pixel value; with `reduce=None` the
        shape of the images. `(height, width)` for a single image.

    Raises:
        ValueError: what does not fit the model, with what to type instead.
    """
    task = Task(
        "saliency",
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
    maps = []
    for rows in task.chunks():
        gradients, _, _ = task.input_gradient(rows)
        maps.append(reduce_channels(gradients, reduce, task.channel_axis))
    return task.finish(np.concatenate(maps))
