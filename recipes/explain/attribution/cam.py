"""The common part of the class activation methods: from the maps of a layer to one map per image."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from recipes.common.types import FloatArray, Inputs
from recipes.explain.attribution.attribution_task import Task
from recipes.explain.engine import layer_lookup, tracing
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.options import Layer, Target

# The class token, and DeiT's second token for distillation.
CLASS_TOKENS = 2
# The largest number of leading tokens with registers (Darcet et al. 2023, 2309.16588), of which networks have four.
LEADING = 9


def layer_maps(
    method: str,
    weigh: Callable[[FloatArray, FloatArray], FloatArray],
    model: keras.Model,
    images: Inputs,
    target: Target,
    *,
    layer: Layer | None,
    call_index: int | None,
    tokens: tuple[int, int] | None,
    resize: bool,
    **options: Any,
) -> FloatArray:
    """Weigh a layer's activations by their gradients.

    Args:
        method: The public function's name.
        weigh: `(activations, gradients) -> maps`, all channels last: `(n, *spatial, channels)` to `(n,
            *spatial)`.
        layer, call_index, tokens, resize: As in `grad_cam`.
        options: The options of `Task`.

    Returns:
        float32 `(n, *spatial)`, resized to the input if `resize`.
    """
    task = Task(method, model, images, target, **options)
    return maps_of(task, weigh, layer=layer, call_index=call_index, tokens=tokens, resize=resize)


def maps_of(
    task: Task,
    weigh: Callable[[FloatArray, FloatArray], FloatArray],
    *,
    layer: Layer | None,
    call_index: int | None,
    tokens: tuple[int, int] | None,
    resize: bool,
) -> FloatArray:
    """The maps of a given task; other arguments and the result are as in `layer_maps`."""
    call = find_layer(task, layer, call_index)
    maps, silent = [], []
    for rows in task.chunks():
        activations, gradients, *_ = task.layer_pass(rows, call)
        place = call or tracing.default_layer(task.model, task.target.spec)
        values, slopes = (spread(task, one, place, tokens) for one in (activations, gradients))
        silent.append(not slopes.any())
        maps.append(weigh(values, slopes))
    if all(silent):
        _say_that_nothing_counts(task, place.path)
    return finish(task, np.concatenate(maps), resize)


def _say_that_nothing_counts(task, path):
    """Warn that the maps are 0, because nothing at the layer changes the score."""
    tracing.warn_once(
        task.model,
        ("no gradient", task.method, path),
        f"{task.method} found no gradient at layer '{path}': no position of it changes the score of any of the "
        f"{task.count} images, so the maps are all zero. After the last attention of a transformer, only the class "
        "token may count; leave layer out to take the tokens before it. In other networks look for dead rectifiers "
        "above the layer, or choose a layer nearer to the images.",
    )


def find_layer(task: Task, layer: Layer | None, call_index: int | None) -> layer_lookup.LayerCall | None:
    """The `LayerCall` that the user named, or None for the last feature map."""
    if layer is not None:
        return layer_lookup.find(task.model, layer, call_index=call_index, method=task.method, several=True)
    if call_index is not None:
        raise UsageError(
            f"{task.method} expects call_index together with layer. Received call_index={call_index} alone. "
            "Name the shared layer with layer=."
        )
    return None


def spread(
    task: Task, values: FloatArray, call: layer_lookup.LayerCall, tokens: tuple[int, int] | None
) -> FloatArray:
    """A layer's values as `(n, *spatial, channels)`, in the order of the input's axes; tokens are folded to a grid."""
    axes = len(task.spatial)
    if values.ndim == axes + 2 and tokens is None:
        known, key = tracing.record_of(task.model).layouts, ("format", call.path)
        if key not in known:  # looking through a large model takes longer than weighing its maps
            known[key] = layer_lookup.data_format(task.model, call.operation)
        if known[key] == "channels_first":
            values = np.moveaxis(values, 1, -1)
        if np.prod(values.shape[1:-1]) > 1:
            return task.turned(values)
    elif values.ndim == 3 and axes == 2:
        tokens = tokens or grid_before(task, call.path, values.shape[1])
        return task.turned(fold_tokens(values, tokens, task.seen_shape, call.path, task.method))
    raise layer_lookup.no_map(task.method, call.path, values.shape, axes)


def fold_tokens(
    values: FloatArray, tokens: tuple[int, int] | None, shape: Sequence[int], path: str, method: str
) -> FloatArray:
    """Fold `(n, tokens, channels)` to `(n, rows, columns, channels)`, without leading class tokens and registers."""
    count = values.shape[1]
    tokens = tokens or _guess_grid(count, shape)
    if tokens is None:
        raise UsageError(
            f"{method} expects to know the grid of the {count} tokens of layer '{path}'. Received tokens=None, and "
            f"the tokens, with or without class tokens, do not form a grid in proportion to an image of {shape}. "
            "Give tokens=(rows, columns)."
        )
    rows, columns = tokens
    if not 0 <= count - rows * columns <= LEADING:
        raise UsageError(
            f"{method} expects tokens=(rows, columns) whose product is {count}, or up to {CLASS_TOKENS} less with "
            f"class tokens ({LEADING} less with registers), for layer '{path}'. Received {tokens}. Divide the image "
            "size by the patch size."
        )
    return values[:, count - rows * columns :].reshape(len(values), rows, columns, -1)


def grid_before(task: Task, path: str | None, count: int) -> tuple[int, int] | None:
    """The grid from which tokens were made: that of the last map before a layer with as many positions.

    Leading class tokens and registers are not counted.

    Args:
        task: The task.
        path: Path of the layer that returns the tokens; None searches all maps.
        count: The number of tokens.

    Returns:
        `(rows, columns)`, or None when no layer returns such a map.
    """
    shapes = task.maps_of_layers()
    places = [place for place, (name, _) in enumerate(shapes) if name == path]
    by_sides = _guess_grid(count, task.seen_shape)
    for special in range(CLASS_TOKENS + 1 if by_sides else LEADING + 1):
        fitting = [
            grid
            for _, grid in (shapes[: places[-1]] if places else shapes)
            if grid[0] * grid[1] == count - special > 1
        ]
        if fitting:
            # A grid with a single row may be a sequence with an axis for its heads, so others are preferred.
            return ([grid for grid in fitting if min(grid) > 1] or fitting)[-1]
    return None


def _guess_grid(count, shape):
    """The grid of square patches of an image with `count` tokens, of which some may be class tokens."""
    for tokens in range(count, count - CLASS_TOKENS - 1, -1):
        rows = round(np.sqrt(tokens * shape[0] / shape[1]))
        if rows and tokens % rows == 0 and rows * shape[1] == tokens // rows * shape[0]:
            return rows, tokens // rows
    return None


def finish(task: Task, maps: FloatArray, resize: bool) -> FloatArray:
    """The maps to return, resized to the input if `resize`."""
    return task.finish(task.resized(maps) if resize else maps)
