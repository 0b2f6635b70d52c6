"""Stability: how much a map changes when the image changes a little and the prediction does not."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import ArrayLike

from recipes.common.types import FloatArray, Images
from recipes.explain.attribution.attribution_task import at_least_one
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.options import Target
from recipes.explain.trust.sanity_check import as_batch, predicting, rank_correlation


@dataclasses.dataclass
class Stability:
    """The worst values over the perturbations that kept the prediction, each float32 `(n,)`; NaN if none did.

    Args:
        lipschitz: Largest ratio of the change of the map to the change of the image, both in Euclidean norm.
        rank_correlation: Smallest Spearman correlation with the map of the clean image.
        top_intersection: Smallest share of the most important pixels that are still among the most important.
        kept: Share of the perturbations that kept the prediction.
    """

    lipschitz: FloatArray
    rank_correlation: FloatArray
    top_intersection: FloatArray
    kept: FloatArray


def stability(
    model: keras.Model,
    images: Images,
    method: Callable[..., ArrayLike],
    target: Target = None,
    *,
    kind: Literal["noise", "sign", "attack"] = "noise",
    radius: float = 0.02,
    samples: int = 10,
    top: float = 0.02,
    seed: int = 0,
    **options: Any,
) -> Stability:
    """Compare the maps of images with those of slightly changed copies that have the same prediction.

    Sources: the ratio is that of Alvarez-Melis & Jaakkola 2018, "On the Robustness of Interpretability
    Methods", equation 2, https://arxiv.org/abs/1806.08049. The perturbations by signs, the attack and the two
    other figures are those of Ghorbani et al. 2019, "Interpretation of Neural Networks is Fragile", sections
    2 and 3, https://arxiv.org/abs/1710.10547 (8/255; top 1000 of 224 x 224 pixels). Their attack follows a second
    derivative, which only some maps have. Here a random search flips a quarter of the signs at each step and keeps
    changes that reduce the rank correlation. It works for every method, but finds weaker attacks.

    Args:
        model: A built `keras.Model` with one input.
        images: `(n, height, width, channels)`, or one image without the first axis.
        method: An attribution such as `explain.saliency`: `(model, images, target, **options) -> maps`.
        target: As for `method`. None is the class predicted for the clean image.
        kind: `"noise"` (Gaussian), `"sign"` (every value up or down by `radius`), or `"attack"` (a search
            within `radius`).
        radius: Standard deviation of the noise, or largest change of a value, as a fraction of the image's own range,
            > 0. Changed values stay inside that range.
        samples: Number of perturbations, or of steps of the attack, per image, >= 1.
        top: Share of the pixels that are the most important ones, in (0, 1); at least one pixel.
        seed: Integer that fixes the noise, which is the same for every image, scaled to the image's range.
        options: Passed to `method`.

    Returns:
        A `Stability`, with one entry per image.

    Raises:
        ValueError: when `kind`, `radius`, `samples` or `top` is not one of the above, or the model has several inputs.
    """
    at_least_one("stability", "samples", samples)
    if kind not in ("noise", "sign", "attack") or not radius > 0 or not 0 < top < 1:
        raise UsageError(
            "stability expects kind 'noise', 'sign' or 'attack', radius > 0 and top in (0, 1). Received "
            f"kind={kind!r}, radius={radius}, top={top}. Leave them out for small Gaussian noise."
        )
    task = predicting("stability", model, images, target, options)
    if len(task.inputs.arrays) > 1:
        raise UsageError(
            f"stability expects a model with one input. '{model.name}' has {len(task.inputs.arrays)}. "
            "Wrap it in a model that keeps the other inputs fixed."
        )
    clean = task.inputs.images.astype("float32")
    axes = tuple(range(1, clean.ndim))
    low, high = clean.min(axes, keepdims=True), clean.max(axes, keepdims=True)
    reach = radius * (high - low)
    target = task.target.index[:, 0] if target is None else target
    predicted = _predictions(model, clean, task)

    def explain(images):
        maps = method(model, images[0] if task.inputs.single else images, target, **options)
        return as_batch("stability", maps, task)

    before = explain(clean)
    worst = Stability(*(np.full(task.count, value, "float32") for value in (-np.inf, np.inf, np.inf, 0)))
    generator = np.random.default_rng(seed)
    change = np.zeros_like(clean)
    for step in range(samples):
        draw = generator.standard_normal(clean.shape[1:], dtype="float32")
        if kind == "attack" and step:
            candidate = np.where(np.abs(draw) > 1.15, -change, change)  # flips a quarter of the signs
        else:
            candidate = reach * (draw if kind == "noise" else np.sign(draw))
        perturbed = np.clip(clean + candidate, low, high)
        kept = _predictions(model, perturbed, task) == predicted
        after = explain(perturbed)
        lower = kept & (rank_correlation(before, after) < worst.rank_correlation)
        _update(worst, kept, clean, perturbed, before, after, top)
        change = np.where((lower | (step == 0)).reshape(-1, *[1] * len(axes)), candidate, change)
    worst.kept /= samples
    for values in (worst.lipschitz, worst.rank_correlation, worst.top_intersection):
        values[worst.kept == 0] = np.nan
    return worst


def _update(worst, kept, clean, perturbed, before, after, top):
    """Update the worst values with one perturbation, for images that kept their prediction."""
    moved = np.linalg.norm((perturbed - clean).reshape(len(clean), -1), axis=1)
    ratio = np.linalg.norm((after - before).reshape(len(clean), -1), axis=1) / np.maximum(moved, 1e-12)
    correlation, shared = rank_correlation(before, after), _shared_top(before, after, top)
    worst.lipschitz[kept] = np.maximum(worst.lipschitz, ratio)[kept]
    worst.rank_correlation[kept] = np.minimum(worst.rank_correlation, correlation)[kept]
    worst.top_intersection[kept] = np.minimum(worst.top_intersection, shared)[kept]
    worst.kept += kept


def _shared_top(one, other, share):
    """Share of the most important pixels that two maps have in common, `(n,)`."""
    flat = [maps.reshape(len(maps), -1) for maps in (one, other)]
    count = max(1, round(share * flat[0].shape[1]))
    tops = [np.argsort(-values, axis=1, kind="stable")[:, :count] for values in flat]
    return np.array([len(np.intersect1d(a, b)) / count for a, b in zip(*tops, strict=True)], "float32")


def _predictions(model, images, task):
    """Predicted classes `(n,)`; a regression always has class 0."""
    fresh = predicting("stability", model, images, None, {"compile": task.compile})
    return fresh.target.index[:, 0].copy()
