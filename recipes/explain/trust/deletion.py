"""Deletion and insertion: does the score follow the pixels that a map calls important?"""

import dataclasses

import numpy as np

from recipes.common.validation import as_numbers
from recipes.explain.attribution.attribution_task import Task, at_least_one
from recipes.explain.attribution.baselines import filled
from recipes.explain.engine.errors import UsageError


@dataclasses.dataclass
class Curve:
    """Scores while pixels go or come.

    Args:
        fraction: `(steps + 1,)` float32, the share of pixels changed, 0 to 1.
        scores: `(n, steps + 1)` float32, the score at each; `(steps + 1,)` for a single image.
        area: `(n,)` float32, the area under each curve, in units of the score; a number for a single image.
    """

    fraction: np.ndarray
    scores: np.ndarray
    area: np.ndarray


def deletion(
    model,
    images,
    maps,
    target=None,
    *,
    steps=50,
    baseline=0.0,
    score="probability",
    batch_size=64,
    wrt=None,
    compile="auto",
    verbose="auto",
):
    """Score while the most important pixels are removed first: a good map makes it fall fast, so a small area is good.

    Source: Petsiuk et al. 2018, "RISE", section 4.1, https://arxiv.org/abs/1806.07421. The paper removes
    1/224 of the pixels of a 224 x 224 image per step and fills with zeros.

    Args:
        model, images, target, batch_size, wrt, compile, verbose: As in every method, see `recipes.explain`. A
            target of None is the class predicted for the whole image.
        maps: `(n, height, width)`, any real values; only their order counts. Equal values go in a fixed
            random order.
        steps: Equal steps in which all pixels go, >= 1.
        baseline: What is left in their place: a number (0, black), `"mean"`, `"blur"`, or an array, as in
            `occlusion`.
        score: `"probability"` (the paper's) or `"logits"`.

    Returns:
        A `Curve`.

    Raises:
        ValueError: Maps that do not fit the images, and what does not fit the model.
    """
    return _curve(
        "deletion", model, images, maps, target, steps, baseline, score, batch_size, wrt, compile, verbose
    )


def insertion(
    model,
    images,
    maps,
    target=None,
    *,
    steps=50,
    baseline="blur",
    score="probability",
    batch_size=64,
    wrt=None,
    compile="auto",
    verbose="auto",
):
    """Score while the most important pixels are put back first: a good map makes it rise fast, so a large area is good.

    Source: As `deletion`. The paper starts from the blurred image, as a bare canvas makes edges of its own.

    Args, Returns, Raises: As `deletion`; `baseline` is what the image starts as.
    """
    return _curve(
        "insertion", model, images, maps, target, steps, baseline, score, batch_size, wrt, compile, verbose
    )


def _curve(method, model, images, maps, target, steps, baseline, score, batch_size, wrt, compile, verbose):
    at_least_one(method, "steps", steps)
    task = Task(
        method,
        model,
        images,
        target,
        score=score,
        batch_size=batch_size,
        wrt=wrt,
        compile=compile,
        verbose=verbose,
    )
    ranks = _ranks(method, maps, task)
    pixels = ranks[0].size
    changed = np.rint(np.linspace(0, pixels, steps + 1)).astype(int)

    def explain(group):
        clean = task.inputs.images[group].astype("float32")
        nothing = filled(method, "baseline", baseline, clean, task, group)
        before, after = (clean, nothing) if method == "deletion" else (nothing, clean)

        def change(batch, step, rows):
            gone = np.expand_dims(ranks[group][rows] < changed[step], task.channel_axis)
            batch[:] = np.where(gone, after[rows], before[rows])

        scores = np.empty((len(clean), steps + 1), "float32")
        for rows, values, step in task.sampled_scores(group, steps + 1, change):
            scores[rows, step] = values
        return scores

    scores = task.each_group(explain, steps + 2)
    fraction = (changed / pixels).astype("float32")
    return Curve(fraction, task.finish(scores), task.finish(np.trapezoid(scores, fraction, axis=1)))


def _ranks(method, maps, task):
    """The place of each pixel in the order of falling importance, `(n, *spatial)`."""
    maps = as_numbers(method, "maps", maps, "float32")
    maps = maps[None] if task.inputs.single else maps
    if maps.shape != (task.count, *task.spatial) or not np.isfinite(maps).all():
        raise UsageError(
            f"{method} expects finite maps of shape {(task.count, *task.spatial)}, one for each image. "
            "Received shape "
            f"{maps.shape}{'' if np.isfinite(maps).all() else ' with NaN or infinity'}. Let the method "
            "resize its maps."
        )
    flat = maps.reshape(task.count, -1)
    shuffled = np.random.default_rng(0).permutation(flat.shape[1])
    order = shuffled[np.argsort(-flat[:, shuffled], axis=1, kind="stable")]
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(flat.shape[1])[None], axis=1)
    return ranks.reshape(maps.shape)
