"""Gradient times input: each pixel's own share of a linear score."""

import numpy as np

from recipes.explain.attribution.attribution_task import Task, reduce_channels


def gradient_times_input(
    model,
    images,
    target=None,
    *,
    reduce="sum",
    score="logits",
    batch_size=64,
    wrt=None,
    compile="auto",
    seed=None,
    verbose="auto",
):
    """Product of the gradient and the image, summed over channels.

    For a model that is linear in its input, the map sums to the score minus its bias. Black pixels get 0
    whatever they mean. Source: Shrikumar et al. 2016, "Not Just a Black Box", section 3,
    https://arxiv.org/abs/1605.01713.

    Args:
        model, images, target, score, batch_size, wrt, compile, seed, verbose: As in every method, see
            `recipes.explain`.
        reduce: How channels are collapsed: `"sum"` (signed, keeps the sum), `"mean"`, `"absmax"`, `"l2"`,
            None.

    Returns:
        float32 `(n, height, width)`, in units of the score; `(height, width)` for a single image.
    """
    task = Task(
        "gradient_times_input",
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
        maps.append(reduce_channels(gradients * task.inputs.images[rows], reduce, task.channel_axis))
    return task.finish(np.concatenate(maps))
