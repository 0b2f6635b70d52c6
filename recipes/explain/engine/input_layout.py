"""Find which axis of an input holds the channels, and whether the input holds tokens.

This is decided from the input and the first layer that uses it, never from a convolution that sees it transposed.
"""

import dataclasses
import functools
import weakref
from typing import Any

import keras
import tensorflow as tf

from recipes.common.traversal import layers_of, walk
from recipes.explain.engine import layer_lookup, moved_axes, tracing
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.inputs import pack
from recipes.explain.engine.moved_axes import Placement

_CONVOLVING = (
    *(
        "Conv2D",
        "Conv3D",
        "DepthwiseConv2dNative",
        "MaxPool",
        "MaxPoolV2",
        "MaxPool3D",
        "AvgPool",
        "AvgPool3D",
    ),
    *("DepthToSpace", "SpaceToDepth"),
)
_RESIZING = ("ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic", "ExtractImagePatches")


@dataclasses.dataclass(frozen=True)
class Layout:
    """The layout of the explained input.

    Args:
        channel_axis: The axis of the channels, where the batch is axis 0; None if every value is a separate feature.
        tokens: The embedding layer that the input's numbers are looked up in, or None.
    """

    channel_axis: int | None
    tokens: layer_lookup.LayerCall | None = None


def layout_of(model: keras.Model, inputs: Any, data_format: str | None, method: str) -> Any:
    """The `Layout` of the explained input.

    Args:
        model: A built `keras.Model`.
        inputs: `inputs.Inputs`.
        data_format: "channels_last" or "channels_first", or None to find out.
        method: Name used in errors.

    Raises:
        ValueError: when both layouts fit and the model does not tell which is meant.
    """
    rank, shape = inputs.images.ndim, inputs.images.shape[1:]
    if rank > 3 and shape[-1] <= 4 < min(shape[:-1]) and data_format is None:
        return Layout(rank - 1)  # only the last axis is so short that it must be the channels
    if rank < 3 and not layers_of(model, keras.layers.Embedding):
        return Layout(None)
    record = tracing.record_of(model)
    record.refresh(model)
    key = (inputs.wrt, tuple(array.shape[1:] for array in inputs.arrays))
    if key not in record.layouts:
        record.layouts[key] = _consumed(model, inputs)
    axis, tokens, mixed = record.layouts[key]
    if rank < 3:
        return Layout(rank if tokens else None, tokens)
    if axis == 0 and data_format is None:
        return Layout(None)  # pictures without channels, which the model adds
    if data_format is not None:
        return Layout(1 if data_format == "channels_first" else rank - 1)
    if axis is None:
        axis = _by_shape(model, shape, mixed, method) if rank in (4, 5) else rank - 1
    return Layout(axis)


def _by_shape(model, shape, mixed, method):
    """The axis that is so short that it must be the channels, if no convolution tells more."""
    fits = {
        axis
        for axis, rest in ((1, shape[1:]), (len(shape), shape[:-1]))
        if shape[axis - 1] <= 4 and min(rest) > shape[axis - 1]
    }
    both = shape[0] <= 4 and shape[-1] <= 4 and shape[0] == shape[-1]
    if len(fits) == 2 or (both and not fits and max(shape) > 4):
        raise UsageError(
            f"{method} expects to know which axis of the images holds the channels. Images of shape {shape} have "
            f"them first or last, and the first layers of '{model.name}' do not tell. Pass "
            "data_format='channels_last' or 'channels_first'."
        )
    if fits:
        return fits.pop()
    if mixed:
        return mixed
    return 1 if layer_lookup.data_format(model) == "channels_first" else len(shape)


def _consumed(model, inputs):
    """`(channel axis, embedding, axis that a Dense mixes)` from a trace that ends at the first convolution.

    The channel axis is 0 when the model itself adds channels to pictures without channels.
    """
    found = [None, None, None, 0, None]
    telling = [node for node in walk(model) if _tells(node.operation)]
    source = _trace_until(model, inputs, telling, functools.partial(_look, found))
    if source is not None and found[0] is None and source.shape.rank > 2:
        found[0] = _first_operation(source)
    return found[0], found[1], found[4]


def placement(model: keras.Model, inputs: Any, layout: Layout) -> Placement | None:
    """How the maps of a model are placed over the explained input, from the part that its first convolution sees.

    Args:
        model: A built `keras.Model`.
        inputs: `inputs.Inputs`.
        layout: The `Layout` of the explained input.

    Returns:
        A `Placement`, or None when it is not known; maps then cover the whole input in its order of axes.
    """
    record = tracing.record_of(model)  # as the pass that made the maps has just refreshed it
    key = ("placement", inputs.wrt, layout.channel_axis, tuple(array.shape[1:] for array in inputs.arrays))
    if key not in record.layouts:
        record.layouts[key] = _placed(model, inputs, layout)
    return record.layouts[key]


def _placed(model, inputs, layout):
    shape = inputs.images.shape
    spatial = [axis for axis in range(1, len(shape)) if axis != layout.channel_axis]
    found = _first_convolved_so_far(model, inputs, len(spatial)) or _first_convolved(model, inputs)
    if not found or None in found[0][1]:
        return None
    axes, sizes = found[0]
    return moved_axes.placement_of(axes, sizes, spatial, shape)


def _first_convolved_so_far(model, inputs, count):
    """`_first_spatial` of a trace that the model already has; empty if none gives `count` axes."""
    shapes = [[None, *array.shape[1:]] for array in inputs.arrays]
    for (_, _, signature), trace in tracing.record_of(model).traces.items():
        if [spec.shape.as_list() for spec in signature[: len(shapes)]] == shapes:
            found = _first_spatial(trace.inputs[inputs.wrt])
            if (
                found and len(found[0][0]) == count and None not in found[0][0]
            ):  # no 1D convolution written as 2D
                return found
    return []


def _first_convolved(model, inputs):
    """`_first_spatial` of a new trace that ends at the first convolution."""
    found = []

    def look(node, source, tensor):
        axes = moved_axes.axes_of(tensor, source)
        if axes is not None and len(axes) > 2:
            first = node.operation.data_format == "channels_first"
            places = range(2, len(axes)) if first else range(1, len(axes) - 1)
            found.append(([axes[place] for place in places], [tensor.shape[place] for place in places]))
            raise tracing.Reached

    telling = [
        node for node in walk(model) if _tells(node.operation) and "Conv" in type(node.operation).__name__
    ]
    source = _trace_until(model, inputs, telling, look)
    if source is not None and not found:
        found += _first_spatial(source)
    return found


def maps_of_layers(model: keras.Model, inputs: Any) -> list[tuple[str, tuple[int, int] | None]]:
    """`(path, (rows, columns))` of every layer in the order of the calls; `(0, 0)` for layers that return no map."""
    record = tracing.record_of(model)  # as the pass that made the maps has just refreshed it
    key = ("maps", inputs.wrt, tuple(array.shape[1:] for array in inputs.arrays))
    if key not in record.layouts:
        found = []

        def look(model_inputs):
            with tracing.surveying(model) as survey:
                model(model_inputs, training=False)
            for node, tensor in survey:
                places = tensor.shape[1:-1] if tensor.shape.rank == 4 else (None, None)
                if (
                    layer_lookup.data_format(model, node.operation) == "channels_first"
                    and tensor.shape.rank == 4
                ):
                    places = tensor.shape[2:]
                found.append((node.path, (0, 0) if None in tuple(places) else tuple(places)))

        _symbolically(inputs, lambda tensors: look(pack(model, tensors, inputs.keys)))
        record.layouts[key] = found
    return record.layouts[key]


def _trace_until(model, inputs, telling, look):
    """Trace the model and call `look(node, source, tensor)` before each of these layers, until `tracing.Reached`.

    Returns:
        The source if the trace reached its end, otherwise None.
    """
    ended = []

    def trace(tensors):
        source = tensors[inputs.wrt]

        def before(node):
            def wrap(call):
                def stand_in(*args, **kwargs):
                    tensor = args[0] if args else next(iter(kwargs.values()), None)
                    if isinstance(tensor, tf.Tensor) and getattr(tensor, "graph", None) is source.graph:
                        look(node, source, tensor)
                    return call(*args, **kwargs)

                return stand_in

            return wrap

        with tracing.intercepted({node.operation: before(node) for node in telling}):
            try:
                model(pack(model, tensors, inputs.keys), training=False)
                ended.append(source)
            except tracing.Reached:
                pass

    return ended[0] if _symbolically(inputs, trace) and ended else None


def _symbolically(inputs, look):
    """Run `look(tensors)` in a temporary graph; False if the model cannot be traced."""

    def trace(*tensors):
        look(list(tensors))
        return tf.zeros(())

    signature = [
        tf.TensorSpec((None, *array.shape[1:]), dtype)
        for array, dtype in zip(inputs.arrays, inputs.dtypes, strict=True)
    ]
    try:
        # The graph is freed with the returned function, which is not kept.
        tf.function(trace, autograph=False, input_signature=signature).get_concrete_function()
    except Exception:  # for a model that cannot be traced, the shape of the input decides
        return False
    return True


def _tells(operation):
    if isinstance(operation, (keras.layers.Embedding, keras.layers.RNN, keras.layers.Dense)):
        return True
    return getattr(operation, "data_format", None) in ("channels_first", "channels_last") and not isinstance(
        operation, keras.layers.Flatten
    )


def _look(found, node, source, tensor):
    """Note what a layer that is about to be called tells about the source."""
    if isinstance(node.operation, keras.layers.Embedding):
        number, found[2] = (found[3] + 1 if found[2] is node.operation else 0), node.operation
        found[3] = number
    axes = moved_axes.axes_of(tensor, source)
    if axes is None:
        return
    if isinstance(node.operation, keras.layers.Embedding):
        if len(axes) == 2:
            index = None if node.calls == 1 else number
            found[1] = layer_lookup.LayerCall(node.path, weakref.ref(node.operation), index, True)
            raise tracing.Reached
        return
    if isinstance(node.operation, keras.layers.Dense):
        found[4] = found[4] or (axes[-1].source if axes[-1] and len(axes) > 3 else None)
        return
    first = getattr(node.operation, "data_format", None) == "channels_first"
    axis = _channels(axes, 1 if first else -1, source)
    if len(axes) > 2 and axis is not None:
        found[0] = axis
        raise tracing.Reached


def _channels(axes, place, source):
    """The source's axis at the position of the channels; 0 if all axes of the source are at other positions."""
    if axes[place] is not None:
        return axes[place].source or None
    known = {axis.source for axis in axes if axis}
    return 0 if known >= set(range(1, source.shape.rank)) else None


def _first_operation(source):
    """The channel axis according to the first convolution or pooling among TensorFlow's operations."""
    for operation in source.graph.get_operations():
        if operation.type in (*_CONVOLVING, *_RESIZING):
            axes = moved_axes.axes_of(operation.inputs[0], source)
            axis = None if axes is None else _channels(axes, 1 if _channels_first(operation) else -1, source)
            if axis is not None:
                return axis
    return None


def _first_spatial(source):
    """The spatial axes of the first convolution among TensorFlow's operations, and their lengths, as a list of one."""
    for operation in source.graph.get_operations():
        if operation.type in _CONVOLVING and "Conv" in operation.type:
            tensor = operation.inputs[0]
            axes = moved_axes.axes_of(tensor, source)
            if axes is not None:
                places = range(2, len(axes)) if _channels_first(operation) else range(1, len(axes) - 1)
                return [([axes[place] for place in places], [tensor.shape[place] for place in places])]
    return []


def _channels_first(operation):
    return operation.type not in _RESIZING and operation.get_attr("data_format").startswith(b"NC")
