"""Occlusion: the drop of the score when a window of the image is covered."""

import itertools
from collections.abc import Sequence
from typing import Literal, TypeAlias

import keras
import numpy as np
from typing_extensions import Unpack

from recipes.common.types import FloatArray, Inputs
from recipes.common.validation import is_one_of
from recipes.explain.attribution.attribution_task import Task
from recipes.explain.attribution.baselines import filled
from recipes.explain.attribution.imputation import Imputer
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.options import AttributionOptions, Baseline, Target, shares

#: A window: one slice per spatial axis.
Window: TypeAlias = tuple[slice, ...]


@shares(AttributionOptions)
def occlusion(
    model: keras.Model,
    images: Inputs,
    target: Target = None,
    *,
    patch: int | tuple[int, ...] = 16,
    stride: int | tuple[int, ...] = 8,
    value: Baseline | Literal["impute"] = 0.0,
    output: Literal["drop", "probability"] = "drop",
    **options: Unpack[AttributionOptions],
) -> FloatArray:
    """Mean drop of the score over all windows that cover a pixel.

    Windows are `stride` pixels apart, with additional windows at the far borders, so that every pixel is covered.
    Source: Zeiler & Fergus 2013, "Visualizing and Understanding Convolutional Networks", section 4.2,
    https://arxiv.org/abs/1311.2901.

    Args:
        model, images, target: As in every method; see `recipes.explain`.
        patch: Side of the window in pixels, or one length per spatial axis.
        stride: Pixels from one window to the next, at most `patch`, or one per axis.
        value: The content of the window: a number (0) in the model's own value range, `"mean"` (the image's mean
            color), `"blur"` (the blurred image), `"impute"` (computed from the pixels around the window, with a little
            noise, as in `road`), or an array of the shape of one image or of all images.
        output: `"drop"` is the score of the image minus the score of the covered image. `"probability"` is the
            probability of the class while the window covers a pixel, as in the paper's figure; it is low at important
            pixels.
        options: The options of `AttributionOptions`.

    Returns:
        float32 `(n, height, width)`; `(height, width)` for a single image.

    Raises:
        ValueError: when the patch is larger than the image or the stride larger than the patch, or when `value` or
            `output` is not one of the above.
    """
    if output not in ("drop", "probability"):
        raise UsageError(
            f"occlusion expects output to be 'drop' or 'probability'. Received {output!r}. Write 'drop' for a map that "
            "is high at important pixels."
        )
    if output == "probability":
        options["score"] = "probability"
    task = Task("occlusion", model, images, target, **options)
    places = windows(task.spatial, *_lengths(task.spatial, patch, stride))

    def explain(group):
        clean = task.inputs.images[group].astype("float32")
        if is_one_of(value, ("impute",)):
            change = _imputing(Imputer("occlusion", "value", task, clean), places, task.spatial)
            return measured(group, clean, change)
        cover = filled("occlusion", "value", value, clean, task, group)

        def change(batch, sample, rows):
            where = _at(places[sample], None if task.tokens else task.channel_axis)
            batch[:] = clean[rows]
            batch[where] = cover[rows][where]

        return measured(group, clean, change)

    def measured(group, clean, change):
        gains, before = np.zeros((len(clean), len(places)), "float32"), np.zeros(len(clean), "float32")
        for rows, scores, sample in task.sampled_scores(group, len(places), change, clean=output == "drop"):
            if sample < 0:
                before[rows] = scores
            else:
                gains[rows, sample] = before[rows] - scores if output == "drop" else scores
        return mean_over_windows(gains, places, task.spatial)

    return task.finish(task.each_group(explain, len(places) + 1))


def _imputing(impute, places, spatial):
    """The change that fills each window from the pixels around it."""

    def change(batch, sample, rows):
        removed = np.zeros((1, *spatial), bool)
        removed[(0, *places[sample])] = True
        batch[:] = impute(rows, removed)

    return change


def windows(shape: Sequence[int], patch: Sequence[int], stride: Sequence[int]) -> list[Window]:
    """Windows of `patch` pixels, `stride` apart and also at the far borders, so that every pixel is covered."""
    starts = [
        sorted({*range(0, size - length + 1, step), size - length})
        for size, length, step in zip(shape, patch, stride, strict=True)
    ]
    return [
        tuple(slice(start, start + length) for start, length in zip(corner, patch, strict=True))
        for corner in itertools.product(*starts)
    ]


def mean_over_windows(values: FloatArray, places: Sequence[Window], shape: Sequence[int]) -> np.ndarray:
    """The mean value of the windows that cover each pixel: `(n, windows)` to `(n, *shape)`."""
    total, covered = np.zeros((len(values), *shape)), np.zeros(shape)
    for number, window in enumerate(places):
        covered[window] += 1
        total[(slice(None), *window)] += values[:, number].reshape(-1, *[1] * len(shape))
    return total / covered


def _lengths(spatial, patch, stride):
    """`(patch, stride)` along each axis, checked."""
    patches, strides = (
        _per_axis(name, value, len(spatial)) for name, value in (("patch", patch), ("stride", stride))
    )
    for size, length, step in zip(spatial, patches, strides, strict=True):
        if not 1 <= length <= size or not 1 <= step <= length:
            raise UsageError(
                "occlusion expects 1 <= stride <= patch <= image size on every axis. Received "
                f"patch={patch}, stride={stride} for images of {spatial}. Try patch={max(1, min(spatial) // 6)}, "
                f"stride={max(1, min(spatial) // 12)}."
            )
    return patches, strides


def _per_axis(name, value, axes):
    lengths = tuple(value) if isinstance(value, (tuple, list)) else (value,) * axes
    if len(lengths) != axes or not all(isinstance(length, (int, np.integer)) for length in lengths):
        raise UsageError(
            f"occlusion expects {name} to be a whole number of pixels, or {axes} of them, one per spatial axis. "
            f"Received {value!r}. Write {name}=16."
        )
    return lengths


def _at(window, channel_axis):
    """The window as an index into a batch of images; without a channel axis if every value is a separate feature."""
    places = [slice(None), *window]
    if channel_axis is not None:
        places.insert(channel_axis, slice(None))
    return tuple(places)
