"""ROAD: deletion with imputed pixels, which leave no visible edges."""

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import ArrayLike
from typing_extensions import Unpack

from recipes.common.types import FloatArray, Inputs
from recipes.common.validation import check_seed
from recipes.explain.attribution.attribution_task import Task
from recipes.explain.attribution.imputation import imputed
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.options import AttributionOptions, Target, shares
from recipes.explain.trust.deletion import checked_maps, ranks_of


@dataclasses.dataclass
class Road:
    """Scores of imputed images, each `(n,)` or `(n, shares)` float32.

    Args:
        combined: Mean over the shares of (score without the least relevant pixels minus score without the most relevant
            pixels) / 2; higher is better.
        most_relevant_first: The score after the most important pixels were imputed.
        least_relevant_first: The score after the least important pixels were imputed.
    """

    combined: FloatArray
    most_relevant_first: FloatArray
    least_relevant_first: FloatArray


@shares(AttributionOptions, score="probability")
def road(
    model: keras.Model,
    images: Inputs,
    maps: ArrayLike,
    target: Target = None,
    *,
    fractions: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9),
    noise: float = 0.01,
    seed: int = 0,
    **options: Unpack[AttributionOptions],
) -> Road:
    """ROAD: score while pixels are replaced by values computed from their neighbors, with a little noise.

    A black or blurred region shows the network by its shape which pixels were removed. A pixel that is the weighted
    mean of its neighbors, including removed ones (one linear system), does not. Source: Rong et al. 2022, "A Consistent
    and Efficient Evaluation Strategy for Attribution Methods", section 4, https://arxiv.org/abs/2202.00449 (noise 0.01
    there, on normalized images).

    Args:
        model, images, target: As in every method; see `recipes.explain`. Images have height, width and channels.
        maps: `(n, height, width)`, any real values; only their order matters.
        fractions: Shares of the pixels to remove, each in (0, 1).
        noise: Standard deviation of the noise added to imputed pixels, as a fraction of the image's range, >= 0.
        seed: Integer that fixes the noise.
        options: The options of `AttributionOptions`. The score is `"probability"` or `"logits"`.

    Returns:
        A `Road`.

    Raises:
        ValueError: when fractions are outside (0, 1), the images do not have two spatial axes and channels, or the maps
            do not fit the images.
    """
    if not len(fractions) or not all(0 < one < 1 for one in fractions) or not noise >= 0:
        raise UsageError(
            f"road expects fractions in (0, 1) and noise >= 0. Received fractions={fractions}, noise={noise}. Leave "
            "them out for the defaults."
        )
    check_seed("road", seed)
    task = Task("road", model, images, target, **options)
    if len(task.spatial) != 2 or task.channel_axis is None:
        raise UsageError(
            f"road expects images with height, width and channels. Received {task.inputs.images.shape}. Use deletion, "
            "which takes any input."
        )
    ranks = ranks_of(checked_maps("road", maps, task))
    pixels = ranks[0].size
    counts = [max(1, round(one * pixels)) for one in fractions]

    def explain(group):
        clean = np.moveaxis(task.inputs.images[group].astype("float32"), task.channel_axis, -1)
        generator = np.random.default_rng(seed)
        spread = noise * (clean.max((1, 2, 3)) - clean.min((1, 2, 3)))
        changed = [
            np.stack(
                [
                    imputed(one, places < count if most else places >= pixels - count, wide, generator)
                    for one, places, wide in zip(clean, ranks[group], spread, strict=True)
                ]
            )
            for most in (True, False)
            for count in counts
        ]
        changed = [np.moveaxis(one, -1, task.channel_axis) for one in changed]

        def change(batch, sample, rows):
            batch[:] = changed[sample][rows]

        scores = np.empty((len(clean), len(changed)), "float32")
        for rows, values, sample in task.sampled_scores(group, len(changed), change):
            scores[rows, sample] = values
        return scores

    scores = task.each_group(explain, 2 * len(counts) + 1)
    most, least = scores[:, : len(counts)], scores[:, len(counts) :]
    return Road(*(task.finish(one) for one in ((least - most).mean(1) / 2, most, least)))
