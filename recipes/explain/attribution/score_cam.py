"""Score-CAM: feature maps weighted by the score of the image masked with each of them."""

from typing import Literal

import keras
import numpy as np
from typing_extensions import Unpack

from recipes.common.types import FloatArray, Inputs
from recipes.common.validation import is_one_of
from recipes.explain.attribution import cam
from recipes.explain.attribution.attribution_task import Task, at_least_one
from recipes.explain.attribution.baselines import filled, masked
from recipes.explain.engine import targets, tracing
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.options import Baseline, LayerOptions, Target, shares


@shares(LayerOptions, score="probability")
def score_cam(
    model: keras.Model,
    images: Inputs,
    target: Target = None,
    *,
    top: int | None = None,
    baseline: Baseline = 0.0,
    weights: Literal["increase", "score"] = "increase",
    **options: Unpack[LayerOptions],
) -> FloatArray:
    """Sum of a layer's feature maps, each weighted by the score of the image masked with it.

    Source: Wang et al. 2020, "Score-CAM", equations 5 to 8, https://arxiv.org/abs/1910.01279. A mask is a
    feature map resized to the image and stretched to 0..1; its weight is the increase of the score over that
    of the baseline. Nothing is normalized across channels or images.

    Args:
        model, images, target: As in every method; see `recipes.explain`.
        top: Use only this many channels, >= 1: those that vary most over each image, as in "Faster Score-CAM". None
            uses all channels, with one evaluation per channel.
        baseline: The content of pixels where the mask is 0: a number (0, black, as in the paper), `"mean"`, `"blur"`,
            or an array.
        weights: `"increase"` is the increase of the score over that of the baseline, as in equation 6. If no channel
            then has a positive weight, the map is all zero, with a warning. `"score"` is the score itself, as in the
            authors' code; as a probability it is never negative.
        options: The options of `LayerOptions`. The score is `"probability"` (the paper's) or `"logits"`.

    Returns:
        float32 `(n, height, width)`, at least 0; `(height, width)` for a single image.

    Raises:
        ValueError: as in `grad_cam`, and when `top` is below 1 or `weights` is another word.
    """
    if not is_one_of(weights, ("increase", "score")):
        raise UsageError(
            f"score_cam expects weights to be 'increase' or 'score'. Received weights={weights!r}. Write 'increase' "
            "for the weights of the paper."
        )
    if top is not None:
        at_least_one("score_cam", "top", top)
    tokens, resize = options.pop("tokens"), options.pop("resize")
    layer, call_index = options.pop("layer"), options.pop("call_index")
    task = Task("score_cam", model, images, target, **options)
    call = cam.find_layer(task, layer, call_index)

    def explain(group):
        clean = task.inputs.images[group].astype("float32")
        nothing = filled("score_cam", "baseline", baseline, clean, task, group)
        size = len(clean)
        # One pass over image and baseline; the baseline's score is that of the class predicted for the image.
        rows = group.start + np.tile(np.arange(size), 2)
        index = task.target.index[rows]
        if task.target.spec.kind == "class":
            index[size:] = np.where(index[size:] < 0, targets.follow(np.arange(size)), index[size:])
        values, _, before, index = task.layer_pass(
            rows, call, np.concatenate([clean, nothing]), index, differentiate=False
        )
        task.target.index[group] = index[:size]
        place = call or tracing.default_layer(model, task.target.spec)
        values = cam.spread(task, values[:size], place, tokens)
        spread = values.reshape(size, -1, values.shape[-1]).std(1)
        count = min(top or spread.shape[-1], spread.shape[-1])
        channels = np.argsort(-spread, axis=-1, kind="stable")[:, :count]

        def change(batch, sample, rows):
            chosen = channels[rows, sample].reshape(-1, *[1] * (values.ndim - 1))
            planes = np.take_along_axis(values[rows], chosen, axis=-1)[..., 0]
            masks = task.over_channels(unit_range(task.resized(planes)))
            masked(clean[rows], nothing[rows], masks, out=batch)

        scores = np.zeros((size, count), "float32")
        for rows, found, sample in task.sampled_scores(group, count, change):
            scores[rows, sample] = found
        every = np.zeros(spread.shape, "float32")
        found = increase(scores, before[size:]) if weights == "increase" else scores
        np.put_along_axis(every, channels, found, axis=-1)
        return weigh(values, every)

    maps = task.each_group(explain, 2 + (top or 0), passes=2)
    _say_where_empty(model, maps)
    return cam.finish(task, maps, resize)


def _say_where_empty(model, maps):
    """Warn about maps that are all zero."""
    empty = np.flatnonzero(~maps.any(axis=tuple(range(1, maps.ndim))))
    if len(empty):
        tracing.warn_once(
            model,
            "score_cam",
            f"score_cam found no place that speaks for the target in {len(empty)} of {len(maps)} images, the first at "
            f"index {empty[0]}: no masked image that matters scores above the baseline, so the map is all zero. Pass "
            "weights='score' for the non-negative weights of the authors' code, or another baseline such as 'blur'.",
        )


def increase(scores: FloatArray, baseline: FloatArray) -> FloatArray:
    """Equation 7, the channel-wise increase of confidence, `(n, channels)`, from `(n, channels)` and `(n,)`."""
    return scores - baseline[:, None]


def weigh(activations: FloatArray, weights: FloatArray) -> FloatArray:
    """Equation 8: the positive part of the sum of maps `(n, *spatial, channels)` times weights `(n, channels)`."""
    return np.maximum(np.einsum("n...c,nc->n...", activations, weights), 0)


def unit_range(maps: FloatArray) -> FloatArray:
    """Stretch each map `(n, *spatial)` separately to 0..1; a constant map becomes 0."""
    axes = tuple(range(1, maps.ndim))
    low, high = maps.min(axes, keepdims=True), maps.max(axes, keepdims=True)
    return (maps - low) / np.where(high > low, high - low, 1)
