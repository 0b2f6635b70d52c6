"""Deletion and insertion: does the score depend on the pixels that a map shows as important?"""

import dataclasses
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import ArrayLike
from typing_extensions import Unpack

from recipes.common.types import FloatArray, Inputs
from recipes.common.validation import as_numbers, is_one_of
from recipes.explain.attribution.attribution_task import Task, at_least_one
from recipes.explain.attribution.baselines import filled
from recipes.explain.attribution.imputation import Imputer
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.options import AttributionOptions, Baseline, Target, shares


@dataclasses.dataclass
class Curve:
    """Scores while pixels are deleted or inserted.

    Args:
        fraction: `(steps + 1,)` float32, the share of changed pixels, from 0 to 1.
        scores: `(n, steps + 1)` float32, the score at each share; `(steps + 1,)` for a single image.
        area: `(n,)` float32, the area under each curve, in units of the score; a number for a single image.
    """

    fraction: FloatArray
    scores: FloatArray
    area: FloatArray


@shares(AttributionOptions, score="probability")
def deletion(
    model: keras.Model,
    images: Inputs,
    maps: ArrayLike,
    target: Target = None,
    *,
    steps: int = 50,
    baseline: Baseline | Literal["impute"] = 0.0,
    **options: Unpack[AttributionOptions],
) -> Curve:
    """Score while the most important pixels are deleted first; for a good map it falls fast and the area is small.

    Source: Petsiuk et al. 2018, "RISE", section 4.1, https://arxiv.org/abs/1806.07421. The paper removes
    1/224 of the pixels of a 224 x 224 image per step and replaces them by zeros.

    Args:
        model, images, target: As in every method; see `recipes.explain`. A target of None is the class predicted
            for the whole image.
        maps: `(n, height, width)`, any real values; only their order matters. Equal values are taken in a fixed
            random order.
        steps: Number of equal steps in which all pixels are deleted, >= 1.
        baseline: The values that replace deleted pixels: a number (0, black), `"mean"`, `"blur"`, or an array, as in
            `occlusion`. `"impute"` computes them from the remaining pixels, with a little noise, as in `road`.
        options: The options of `AttributionOptions`. The score is `"probability"` (the paper's) or `"logits"`. A model
            that returns logits has no probabilities, and is measured by what it returns, images with large logits most:
            give `keras.Sequential([model, keras.layers.Softmax()])` for the paper's areas in 0..1.

    Returns:
        A `Curve`.

    Raises:
        ValueError: when the maps do not fit the images, or another argument does not fit the model.
    """
    at_least_one("deletion", "steps", steps)
    return _Measurement("deletion", model, images, maps, target, steps, baseline, options).curve()


@shares(AttributionOptions, score="probability")
def insertion(
    model: keras.Model,
    images: Inputs,
    maps: ArrayLike,
    target: Target = None,
    *,
    steps: int = 50,
    baseline: Baseline | Literal["impute"] = "blur",
    **options: Unpack[AttributionOptions],
) -> Curve:
    """Score while the most important pixels are inserted first; for a good map it rises fast and the area is large.

    Source: As `deletion`. The paper starts from the blurred image, because inserting pixels into a constant image makes
    new edges.

    Args, Returns, Raises: As in `deletion`; `baseline` is the image at the start.
    """
    at_least_one("insertion", "steps", steps)
    return _Measurement("insertion", model, images, maps, target, steps, baseline, options).curve()


def replaced(before: FloatArray, after: FloatArray, ranks: np.ndarray, changed: int) -> FloatArray:
    """`before`, with `after` in the `changed` most important pixels (those with ranks below `changed`)."""
    return np.where(ranks < changed, after, before)


def pixels_changed(pixels: int, steps: int) -> np.ndarray:
    """The number of changed pixels at each step: int `(steps + 1,)`, from none to all."""
    return np.rint(np.linspace(0, pixels, steps + 1)).astype(int)


def area_under(scores: FloatArray, fraction: FloatArray) -> FloatArray:
    """Section 4.1: the area under each curve `(n, steps + 1)` by the trapezoidal rule, `(n,)`."""
    return np.trapezoid(scores, fraction, axis=1)


def ranks_of(maps: FloatArray) -> np.ndarray:
    """The rank of each pixel in the order of decreasing importance, from 0: int `(n, *spatial)`.

    Equal values are ranked in a fixed random order, so that their position in the image does not matter.
    """
    flat = maps.reshape(len(maps), -1)
    shuffled = np.random.default_rng(0).permutation(flat.shape[1])
    order = shuffled[np.argsort(-flat[:, shuffled], axis=1, kind="stable")]
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(flat.shape[1])[None], axis=1)
    return ranks.reshape(maps.shape)


@dataclasses.dataclass
class _Measurement:
    """The arguments of `deletion` or `insertion`, and the measurement of the curve."""

    method: str
    model: keras.Model
    images: Inputs
    maps: ArrayLike
    target: Target
    steps: int
    baseline: Baseline | Literal["impute"]
    options: dict[str, Any]

    def curve(self):
        task = Task(self.method, self.model, self.images, self.target, **self.options)
        ranks = ranks_of(checked_maps(self.method, self.maps, task))
        changed = pixels_changed(ranks[0].size, self.steps)

        def explain(group):
            clean = task.inputs.images[group].astype("float32")
            if is_one_of(self.baseline, ("impute",)):
                change = self._imputing(Imputer(self.method, "baseline", task, clean), ranks[group], changed)
            else:
                nothing = filled(self.method, "baseline", self.baseline, clean, task, group)
                change = self._replacing(task, clean, nothing, ranks[group], changed)

            scores = np.empty((len(clean), self.steps + 1), "float32")
            for rows, values, step in task.sampled_scores(group, self.steps + 1, change):
                scores[rows, step] = values
            return scores

        scores = task.each_group(explain, self.steps + 2)
        fraction = (changed / changed[-1]).astype("float32")
        return Curve(fraction, task.finish(scores), task.finish(area_under(scores, fraction)))

    def _replacing(self, task, clean, nothing, ranks, changed):
        before, after = (clean, nothing) if self.method == "deletion" else (nothing, clean)

        def change(batch, step, rows):
            places = task.over_channels(ranks[rows])
            batch[:] = replaced(before[rows], after[rows], places, changed[step])

        return change

    def _imputing(self, impute, ranks, changed):
        def change(batch, step, rows):
            first = ranks[rows] < changed[step]
            batch[:] = impute(rows, first if self.method == "deletion" else ~first)

        return change


def checked_maps(method: str, maps: ArrayLike, task: Task) -> FloatArray:
    """Check the user's maps and return them as float32 `(n, *spatial)`, one per image."""
    maps = as_numbers(method, "maps", maps, "float32")
    maps = maps[None] if task.inputs.single else maps
    if maps.shape != (task.count, *task.spatial) or not np.isfinite(maps).all():
        raise UsageError(
            f"{method} expects finite maps of shape {(task.count, *task.spatial)}, one for each image. Received shape "
            f"{maps.shape}{'' if np.isfinite(maps).all() else ' with NaN or infinity'}. Give maps that the method "
            "has resized to the image, with resize=True."
        )
    return maps
