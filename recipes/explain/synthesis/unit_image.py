"""Activation maximization for units: an image that maximizes a neuron, a channel or a layer."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from typing_extensions import Unpack

from recipes.common.types import FloatArray
from recipes.common.validation import is_number
from recipes.explain.engine import targets
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.options import ClassImageOptions, Layer, shares
from recipes.explain.engine.targets import Unit
from recipes.explain.synthesis.class_image import unwrap
from recipes.explain.synthesis.maximize import raise_score


@shares(ClassImageOptions, steps=512, learning_rate=None, optimizer=None)
def unit_image(
    model: keras.Model,
    layer: Layer,
    channel: int | Sequence[int] | None = None,
    *,
    position: tuple[int, int] | None = None,
    call_index: int | None = None,
    **options: Unpack[ClassImageOptions],
) -> FloatArray | Any:
    """Make an image that maximizes a unit's activation by gradient ascent, such as the picture of a filter.

    Source: Erhan et al. 2009, "Visualizing higher-layer features of a deep network", section 4; objectives and
    parameterization of Olah et al. 2017, "Feature Visualization",
    https://distill.pub/2017/feature-visualization. Layers above the unit are not computed.

    Args:
        model: A built `keras.Model` with one image input. It is never changed.
        layer: Layer object, name, `"outer/inner"` path or index. The values before an activation can be increased from
            below zero; a ReLU that is 0 at the start has no gradient.
        channel: Number of a channel (or unit of a Dense layer), from 0, a list of channels (one image each), or None
            for the mean of all channels.
        position: `(row, column)` of one neuron; None for the mean over all positions.
        call_index: Number of the call of a shared layer, from 0.
        options: The options of `ClassImageOptions`, with the same defaults as in `class_image`.

    Returns:
        float32 `(n, height, width, channels)` in `value_range`; `(height, width, channels)` for a single channel. With
        `return_scores` also the objective before every step, `(steps, n)`.

    Raises:
        ValueError: when the layer is unknown or does not have the channel or position, and as in `class_image`.

    Warns:
        UserWarning: when a unit stays at 0 (checked if `l2` is 0), or a score is no longer finite.
    """
    channels = [None] if channel is None else list(np.atleast_1d(channel))
    if not channels or any(
        number is not None and not (is_number(number) and 0 <= number == int(number)) for number in channels
    ):
        raise UsageError(
            f"unit_image expects channel to be a number from 0, or a list of them. Received {channel!r}. "
            "Leave it out for the mean of all channels."
        )
    parsed = [
        targets.parse(Unit(layer, number, position, call_index), model, 1, method="unit_image")
        for number in channels
    ]
    target = targets.Target(parsed[0].spec, np.concatenate([one.index for one in parsed]))
    start = options["start"]
    single = np.ndim(channel) == 0 and (start is None or np.ndim(start) == 3)
    return unwrap(raise_score("unit_image", model, target, len(channels), **options), single)
