"""Measures of single maps: completeness, sparseness, infidelity, sensitivity, and dependence on the class."""

from collections.abc import Callable
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import ArrayLike
from typing_extensions import Unpack

from recipes.common.types import FloatArray, Images, Inputs
from recipes.common.validation import check_seed, is_one_of
from recipes.explain.attribution.attribution_task import Task, at_least_one
from recipes.explain.attribution.baselines import filled
from recipes.explain.attribution.imputation import Imputer
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.options import AttributionOptions, Baseline, Target, shares
from recipes.explain.trust.deletion import checked_maps
from recipes.explain.trust.sanity_check import as_batch, predicting, rank_correlation


def sparseness(maps: ArrayLike) -> FloatArray:
    """Gini index of the absolute values of each map: 0 if all are equal, near 1 if one pixel has everything.

    Source: Chalasani et al. 2020, "Concise Explanations of Neural Networks using Adversarial Training", section 2.3,
    https://arxiv.org/abs/1810.06583.

    Args:
        maps: `(n, *spatial)`, any real values.

    Returns:
        float32 `(n,)` in 0..1; 0 for a map of zeros.

    Raises:
        ValueError: when `maps` is not a batch of maps or has values that are not finite.
    """
    maps = np.asarray(maps, "float64")
    if maps.ndim < 2 or not np.isfinite(maps).all():
        raise UsageError(
            f"sparseness expects finite maps (n, ...). Received shape {maps.shape}. For a single map write maps[None]."
        )
    values = np.sort(np.abs(maps).reshape(len(maps), -1), axis=1)
    count, total = values.shape[1], values.sum(1)
    places = (count - np.arange(1, count + 1) + 0.5) / count
    share = (values * places).sum(1) / np.where(total == 0, 1, total)
    return np.where(total == 0, 0, 1 - 2 * share).astype("float32")


@shares(AttributionOptions)
def completeness(
    model: keras.Model,
    images: Inputs,
    maps: ArrayLike,
    target: Target = None,
    *,
    baseline: Baseline = 0.0,
    **options: Unpack[AttributionOptions],
) -> FloatArray:
    """The relative error between the sum of each map and the change in score from a baseline; 0 for a complete map.

    It is meant for maps in units of the score, such as those of `integrated_gradients`, `lrp` or `occlusion`. For other
    maps, such as those of `grad_cam` or an edge detector, it has no meaning.

    Source: Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks", proposition 1,
    https://arxiv.org/abs/1703.01365.

    Args:
        model, images, target: As in every method; see `recipes.explain`.
        maps: `(n, height, width)`, signed, in units of the score.
        baseline: As in `integrated_gradients`.
        options: The options of `AttributionOptions`.

    Returns:
        float32 `(n,)`: |sum of the map - change| / |change|; a number for a single image.

    Raises:
        ValueError: when the maps do not fit the images, or another argument does not fit the model.
    """
    task = Task("completeness", model, images, target, **options)
    maps = checked_maps("completeness", maps, task)

    def explain(group):
        task.settle(group)
        clean = task.inputs.images[group].astype("float32")
        nothing = filled("completeness", "baseline", baseline, clean, task, group)
        change = task.scores(group, clean)[0] - task.scores(group, nothing)[0]
        missed = maps[group].reshape(len(clean), -1).sum(1, dtype="float64") - change
        return np.abs(missed) / np.maximum(np.abs(change), 1e-12)

    return task.finish(task.each_group(explain, 3))


@shares(AttributionOptions)
def infidelity(
    model: keras.Model,
    images: Inputs,
    maps: ArrayLike,
    target: Target = None,
    *,
    samples: int = 50,
    side: float = 0.25,
    baseline: Baseline | Literal["impute"] = 0.0,
    scaled: bool = True,
    seed: int = 0,
    **options: Unpack[AttributionOptions],
) -> FloatArray:
    """Infidelity: mean squared error of the score changes that a map predicts for removed squares; 0 is best.

    Source: Yeh et al. 2019, "On the (In)fidelity and Sensitivity of Explanations", definition 2.1 with the squares of
    section 2.3, https://arxiv.org/abs/1901.09392.

    Args:
        model, images, target: As in every method; see `recipes.explain`.
        maps: `(n, height, width)`: the contribution of each pixel to the score, as from `integrated_gradients` or
            `occlusion`.
        samples: Number of squares per image, >= 1, the same for all images.
        side: Side of a square as a share of each side of the image, in (0, 1).
        baseline: The content of removed squares, as in `occlusion`.
        scaled: Whether to multiply each map by the number that fits best (the paper's optimal scaling), so that maps in
            other units can be compared.
        seed: Integer that fixes the squares.
        options: The options of `AttributionOptions`.

    Returns:
        float32 `(n,)`, in squared units of the score; a number for a single image.

    Raises:
        ValueError: when `samples` or `side` is outside its range, or the maps do not fit the images.
    """
    at_least_one("infidelity", "samples", samples)
    check_seed("infidelity", seed)
    if not 0 < side < 1:
        raise UsageError(
            f"infidelity expects side in (0, 1). Received side={side}. Write for example side=0.25."
        )
    task = Task("infidelity", model, images, target, **options)
    maps, generator = checked_maps("infidelity", maps, task), np.random.default_rng(seed)
    lengths = [max(1, round(side * size)) for size in task.spatial]
    ends = [size - length + 1 for size, length in zip(task.spatial, lengths, strict=True)]
    starts = [generator.integers(0, end, samples) for end in ends]
    squares = [
        tuple(
            slice(start[number], start[number] + length)
            for start, length in zip(starts, lengths, strict=True)
        )
        for number in range(samples)
    ]

    def explain(group):
        clean = task.inputs.images[group].astype("float32")
        impute = is_one_of(baseline, ("impute",)) and Imputer("infidelity", "baseline", task, clean)
        nothing = clean if impute else filled("infidelity", "baseline", baseline, clean, task, group)

        def change(batch, sample, rows):
            removed = np.zeros((1, *task.spatial), bool)
            removed[(0, *squares[sample])] = True
            if impute:
                batch[:] = impute(rows, removed)
            else:
                batch[:] = np.where(task.over_channels(removed), nothing[rows], clean[rows])

        scores, before = np.empty((len(clean), samples)), np.empty(len(clean))
        for rows, values, sample in task.sampled_scores(group, samples, change, clean=True):
            if sample < 0:
                before[rows] = values
            else:
                scores[rows, sample] = values
        told = np.stack(
            [maps[group][(slice(None), *one)].reshape(len(clean), -1).sum(1) for one in squares], 1
        )
        return errors(told, before[:, None] - scores, scaled)

    return task.finish(task.each_group(explain, samples + 1))


def errors(told: FloatArray, happened: FloatArray, scaled: bool) -> FloatArray:
    """Definition 2.1: the mean squared difference `(n,)` of predicted and measured changes, each `(n, samples)`."""
    if scaled:
        squares = (told**2).sum(1, keepdims=True)
        told = told * (told * happened).sum(1, keepdims=True) / np.where(squares == 0, 1, squares)
    return ((told - happened) ** 2).mean(1)


def max_sensitivity(
    model: keras.Model,
    images: Images,
    method: Callable[..., ArrayLike],
    target: Target = None,
    *,
    radius: float = 0.02,
    samples: int = 10,
    seed: int = 0,
    **options: Any,
) -> FloatArray:
    """Largest change of a map in a small cube around the image, relative to the length of the map; 0 is best.

    Source: Yeh et al. 2019, definition 2.4, https://arxiv.org/abs/1901.09392; the maximum is found over random draws,
    as there.

    Args:
        model, images, target: As in every method; see `recipes.explain`; one input.
        method: An attribution such as `explain.saliency`.
        radius: Half the side of the cube, as a fraction of the image's own range, > 0.
        samples: Number of random draws per image, >= 1.
        seed: Integer that fixes the draws, which are the same for every image.
        options: Passed to `method`.

    Returns:
        float32 `(n,)`, >= 0.

    Raises:
        ValueError: when `samples` or `radius` is outside its range.
    """
    at_least_one("max_sensitivity", "samples", samples)
    if not radius > 0:
        raise UsageError(
            f"max_sensitivity expects radius > 0. Received {radius}. Write for example radius=0.02."
        )
    check_seed("max_sensitivity", seed)
    task = predicting("max_sensitivity", model, images, target, options)
    clean, target = (
        task.inputs.images.astype("float32"),
        task.target.index[:, 0] if target is None else target,
    )
    generator, axes = np.random.default_rng(seed), tuple(range(1, clean.ndim))
    width = radius * (clean.max(axes, keepdims=True) - clean.min(axes, keepdims=True))

    def flat(values):
        given = values[0] if task.inputs.single else values
        return as_batch("max_sensitivity", method(model, given, target, **options), task).reshape(
            len(clean), -1
        )

    before, worst = flat(clean), np.zeros(len(clean))
    for _ in range(samples):
        after = flat((clean + width * generator.uniform(-1, 1, clean.shape[1:])).astype("float32"))
        worst = np.maximum(worst, np.linalg.norm(after - before, axis=1))
    length = np.linalg.norm(before, axis=1)
    return (worst / np.where(length == 0, 1, length)).astype("float32")


def randomized_logits(
    model: keras.Model,
    images: Inputs,
    method: Callable[..., ArrayLike],
    target: Target = None,
    *,
    seed: int = 0,
    **options: Any,
) -> FloatArray:
    """Rank correlation of each map with the map of a random other class; near 1, maps do not depend on the class.

    Source: Sixt et al. 2020, "When Explanations Lie", section 4, https://arxiv.org/abs/1912.09818.

    Args:
        model, images: As in every method; see `recipes.explain`.
        method: An attribution such as `explain.saliency`.
        target: None (the predicted class), a class or one per image.
        seed: Integer that fixes the other classes.
        options: Passed to `method`.

    Returns:
        float32 `(n,)` in -1..1, the correlation of absolute values.

    Raises:
        ValueError: when the target is not a class, or the model has a single class.
    """
    check_seed("randomized_logits", seed)
    task = predicting("randomized_logits", model, images, target, options)
    classes = task.classes()
    if task.target.spec.kind != "class" or not classes or classes < 2:
        raise UsageError(
            "randomized_logits expects a class as target and a model with several classes. Received another target or "
            "model. Use sanity_check, which works with any target."
        )
    mine = task.target.index[:, 0]
    others = (mine + np.random.default_rng(seed).integers(1, classes, len(mine))) % classes

    def maps(numbers):
        given = int(numbers[0]) if task.inputs.single else numbers
        return np.abs(as_batch("randomized_logits", method(model, images, given, **options), task))

    return rank_correlation(maps(mine), maps(others)).astype("float32")
