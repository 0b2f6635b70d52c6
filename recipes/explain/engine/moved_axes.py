"""Follow the axes of an input into a model, where they may be transposed, mirrored, cropped, padded or resized.

axes_of(tensor, source)     for each axis of a tensor, the axis of the source it comes from, and its first position
placement_of(...)           how the maps of a model are placed over its input
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from recipes.explain.engine import dataflow

_REDUCING = ("Mean", "Sum", "Max", "Min", "Prod", "All", "Any")
_MIXING = ("MatMul", "BatchMatMulV2", "Einsum")
_READING = ("Shape", "ShapeN", "Size", "Rank", "ReadVariableOp", "ZerosLike", "OnesLike")
_RESIZING = ("ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic", "ResizeArea", "ScaleAndTranslate")
# Paddings up to this many pixels only replace the padding of a convolution.
_PADDING = 4


@dataclasses.dataclass(frozen=True)
class Axis:
    """An axis of a tensor that comes from an axis of the source: pixel `i` is at `start + step * i` of the source.

    Args:
        source: Number of the source's axis.
        start: Position of the first value on the source's axis, in pixels.
        step: Distance from one value to the next, in pixels; negative if the axis is mirrored.
    """

    source: int
    start: float = 0.0
    step: float = 1.0


@dataclasses.dataclass(frozen=True)
class Placement:
    """How maps are placed over the input: the order of their axes, and the pixels that they cover.

    Args:
        order: For each spatial axis of the input, the axis of the maps.
        mirrored: For each axis, whether the maps run in the opposite direction.
        windows: For each axis, the range of pixels `(low, high)` that the maps cover; None if they cover all.
        shape: Spatial shape of the picture that the model sees, in the order of the maps' axes.
    """

    order: tuple[int, ...]
    mirrored: tuple[bool, ...]
    windows: tuple[tuple[float, float] | None, ...]
    shape: tuple[int, ...]

    def turned(self, values: np.ndarray) -> np.ndarray:
        """Maps `(n, *spatial, ...)` with their axes in the order and direction of the input's axes."""
        if len(self.order) >= values.ndim:
            return values
        rest = range(1 + len(self.order), values.ndim)
        values = np.transpose(values, [0, *(1 + axis for axis in self.order), *rest])
        against = tuple(1 + axis for axis, mirrored in enumerate(self.mirrored) if mirrored)
        return np.flip(values, against) if against else values


def placement_of(
    axes: Sequence[Axis | None], sizes: Sequence[int], spatial: Sequence[int], source: Sequence[int]
) -> Any:
    """The `Placement` of maps with the same spatial axes as a tensor.

    Args:
        axes: The spatial axes of the first convolution's input, as `Axis` or None.
        sizes: Their lengths.
        spatial: The numbers of the input's spatial axes.
        source: The input's shape, batch first.

    Returns:
        A `Placement`, or None if some axis does not come from the input.
    """
    found = [axis.source if axis else None for axis in axes]
    frames = [axis for axis in spatial if axis not in found]
    if len(frames) == 1 and len(spatial) == 3 and len(found) == 2:  # a video, frame by frame
        found, axes, sizes = [frames[0], *found], [Axis(frames[0]), *axes], [source[frames[0]], *sizes]
    if sorted(found, key=str) != sorted(spatial, key=str):
        return None
    order = tuple(found.index(axis) for axis in spatial)
    windows = tuple(_window(axes[place], sizes[place], source[axes[place].source]) for place in order)
    return Placement(order, tuple(axes[place].step < 0 for place in order), windows, tuple(sizes))


def _window(axis, size, length):
    """The range of pixels of the source that an axis covers, from edge to edge; None if it covers all."""
    ends = axis.start, axis.start + axis.step * (size - 1)
    low = min(ends) + 0.5 - abs(axis.step) / 2
    high = max(ends) + 0.5 + abs(axis.step) / 2
    cut = low > 0.5 or high < length - 0.5
    padded = low < -_PADDING * abs(axis.step) - 0.5 or high > length + _PADDING * abs(axis.step) + 0.5
    return (low, high) if cut or padded else None


def axes_of(tensor: Any, source: Any, seen: dict[Any, Any] | None = None) -> list[Axis | None] | None:
    """The `Axis` of each axis of a tensor, or None for an axis that does not come from the source.

    The result is None for a tensor that does not come from the source.
    """
    seen = {} if seen is None else seen
    key = tensor.ref()
    if key not in seen:
        seen[key] = None  # stops an endless recursion in a loop
        seen[key] = _axes(tensor, source, seen)
    return seen[key]


def _axes(tensor, source, seen):
    if tensor is source or (not tf.executing_eagerly() and tensor.op.name == source.op.name):
        return [Axis(number) for number in range(source.shape.rank)]
    made = dataflow.made(tensor)
    if made is None or not made.inputs or made.type in _READING or tensor.shape.rank is None:
        return None
    for place, one in enumerate(made.inputs):
        if made.type in ("Select", "SelectV2") and place == 0:
            continue
        axes = axes_of(one, source, seen)
        if axes is not None and one.shape.rank is not None:
            return _moved(made, axes, place, one, tensor)
    return None


def _moved(made, axes, place, before, after):
    """The axes after an operation, from those before it."""
    rule = _RULES.get(made.type)
    found = rule(made, axes, place, before, after) if rule else None
    if found is not None and len(found) == after.shape.rank:
        return found
    if rule or made.type in _MIXING or after.shape.rank != before.shape.rank:
        return [None] * after.shape.rank
    return axes


def _transposed(made, axes, *_):
    order = tf.get_static_value(made.inputs[1])
    return None if order is None else [axes[place] for place in order]


def _expanded(made, axes, place, before, after):  # noqa: ARG001 - every rule takes the same
    number = int(tf.get_static_value(made.inputs[1])) % after.shape.rank
    return [*axes[:number], None, *axes[number:]]


def _squeezed(made, axes, place, before, after):  # noqa: ARG001
    gone = [number % before.shape.rank for number in made.attribute("squeeze_dims") or []]
    gone = gone or [number for number, size in enumerate(before.shape) if size == 1]
    return [axis for number, axis in enumerate(axes) if number not in gone]


def _strided(made, axes, place, before, after):  # noqa: ARG001
    begin, _, strides = map(tf.get_static_value, made.inputs[1:4])
    if begin is None or strides is None or made.attribute("ellipsis_mask") or made.attribute("new_axis_mask"):
        return axes if after.shape.rank == before.shape.rank else None
    shrink, open_begin = made.attribute("shrink_axis_mask"), made.attribute("begin_mask")
    found = []
    for number, axis in enumerate(axes):
        if number >= len(begin):
            found.append(axis)
        elif not shrink >> number & 1:
            size, step = before.shape[number], int(strides[number])
            first = int(begin[number])
            if open_begin >> number & 1:
                first = 0 if step > 0 else -1
            if first < 0 and size is None:
                found.append(axis)
            else:
                found.append(_stepped(axis, first + size if first < 0 else first, step))
    return found


def _sliced(made, axes, *_):
    begin = tf.get_static_value(made.inputs[1])
    return (
        axes
        if begin is None
        else [_stepped(axis, int(first), 1) for axis, first in zip(axes, begin, strict=True)]
    )


def _stepped(axis, first, step):
    return axis and Axis(axis.source, axis.start + axis.step * first, axis.step * step)


def _reversed(made, axes, place, before, after):  # noqa: ARG001
    numbers = {int(one) % before.shape.rank for one in np.ravel(tf.get_static_value(made.inputs[1]))}
    return [
        _stepped(axis, before.shape[number] - 1, -1) if number in numbers and before.shape[number] else axis
        for number, axis in enumerate(axes)
    ]


def _padded(made, axes, *_):
    paddings = tf.get_static_value(made.inputs[1])
    return (
        axes
        if paddings is None
        else [_stepped(axis, -int(one[0]), 1) for axis, one in zip(axes, paddings, strict=True)]
    )


def _beside(made, axes, place, before, after):  # noqa: ARG001
    number = tf.get_static_value(made.inputs[-1])
    if number is None or place == len(made.inputs) - 1:
        return None
    number = int(number) % after.shape.rank
    earlier = [part.shape[number] for part in made.inputs[:place]]
    if None in earlier or axes[number] is None:
        return axes
    return [*axes[:number], _stepped(axes[number], -sum(earlier), 1), *axes[number + 1 :]]


def _resized(made, axes, place, before, after):  # noqa: ARG001
    found = []
    for axis, old, new in zip(axes, before.shape, after.shape, strict=True):
        if axis is None or old == new or None in (old, new):
            found.append(axis)
        else:
            ratio = old / new  # pixel centers lie at i + 1/2
            found.append(Axis(axis.source, axis.start + axis.step * (ratio / 2 - 0.5), axis.step * ratio))
    return found


def _taken(made, axes, place, before, after):  # noqa: ARG001
    if after.shape.rank != before.shape.rank - 1:
        return None
    number = made.attribute("axis") if made.type == "Unpack" else int(tf.get_static_value(made.inputs[2]))
    return [axis for place, axis in enumerate(axes) if place != number % before.shape.rank]


def _packed(made, axes, place, before, after):  # noqa: ARG001
    """Slices of one axis that are stacked again are this axis."""
    number = made.attribute("axis") % after.shape.rank
    known = [axis for axis in axes if axis]
    missing = {*range(len(axes) + 1)} - {axis.source for axis in known}
    stacked = Axis(missing.pop()) if len(missing) == 1 and len(known) == len(axes) else None
    return [*axes[:number], stacked, *axes[number:]]


def _reshaped(made, axes, place, before, after):  # noqa: ARG001
    """A reshape: keep the unchanged axes at the end, and ignore added or removed axes of length 1."""
    old, new = before.shape.as_list(), after.shape.as_list()
    if [size for size in old[1:] if size != 1] == [size for size in new[1:] if size != 1] and None not in new[
        1:
    ]:
        kept = iter([axis for axis, size in zip(axes[1:], old[1:], strict=True) if size != 1])
        return [axes[0], *(None if size == 1 else next(kept) for size in new[1:])]
    kept = 0
    while kept < min(len(old), len(new)) - 1 and old[-1 - kept] == new[-1 - kept] is not None:
        kept += 1
    return [None] * (len(new) - kept) + (axes[-kept:] if kept else [])


def _reduced(made, axes, place, before, after):
    numbers = tf.get_static_value(made.inputs[1])
    if numbers is None or place:
        return None
    gone = {int(number) % before.shape.rank for number in np.ravel(numbers)}
    if after.shape.rank == before.shape.rank:
        return [None if number in gone else axis for number, axis in enumerate(axes)]
    return [axis for number, axis in enumerate(axes) if number not in gone]


_RULES = {
    "Transpose": _transposed,
    "ExpandDims": _expanded,
    "Squeeze": _squeezed,
    "StridedSlice": _strided,
    "Slice": _sliced,
    "ReverseV2": _reversed,
    **dict.fromkeys(("Pad", "PadV2", "MirrorPad"), _padded),
    "ConcatV2": _beside,
    **dict.fromkeys(_RESIZING, _resized),
    **dict.fromkeys(("Unpack", "GatherV2"), _taken),
    "Pack": _packed,
    "Reshape": _reshaped,
    **dict.fromkeys(_REDUCING, _reduced),
}
