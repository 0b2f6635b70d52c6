"""Which axis of an input holds the channels, and whether it holds tokens: decided from the input and what first
consumes it, never from a convolution that sees it turned round."""

import dataclasses
import weakref
from typing import Any

import keras
import tensorflow as tf

from recipes.common.traversal import layers_of, walk
from recipes.explain.engine import dataflow, layer_lookup, tracing
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.inputs import pack

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
_MIXING = (
    "MatMul",
    "BatchMatMulV2",
    "Einsum",
    "Reshape",
    "Transpose",
    "Squeeze",
    "ExpandDims",
    "Mean",
    "Sum",
    "Max",
)


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the explained input is laid out.

    Args:
        channel_axis: The channels' axis, counted from the batch as 0; None where every value is a feature of its own.
        tokens: The embedding that looks the input's numbers up, or None.
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
        ValueError: both fit, and nothing tells them apart.
    """
    rank, shape = inputs.images.ndim, inputs.images.shape[1:]
    if rank > 3 and shape[-1] <= 4 < min(shape[:-1]) and data_format is None:
        return Layout(rank - 1)  # so few values, and only there, are channels
    if rank < 3 and not layers_of(model, keras.layers.Embedding):
        return Layout(None)
    record = tracing.record_of(model)
    record.refresh(model)
    key = (inputs.wrt, tuple(array.shape[1:] for array in inputs.arrays))
    if key not in record.layouts:
        record.layouts[key] = _consumed(model, inputs)
    axis, tokens = record.layouts[key]
    if rank < 3:
        return Layout(rank if tokens else None, tokens)
    if data_format is not None:
        return Layout(1 if data_format == "channels_first" else rank - 1)
    if axis is None:
        axis = _by_shape(model, shape, method) if rank in (4, 5) else rank - 1
    return Layout(axis)


def _by_shape(model, shape, method):
    """The axis of so few values that they are channels, where no convolution says more."""
    fits = {
        axis
        for axis, rest in ((1, shape[1:]), (len(shape), shape[:-1]))
        if shape[axis - 1] <= 4 and min(rest) > shape[axis - 1]
    }
    both = shape[0] <= 4 and shape[-1] <= 4 and shape[0] == shape[-1]
    if len(fits) == 2 or (both and not fits and max(shape) > 4):
        raise UsageError(
            f"{method} expects to know which axis of the images holds the channels. Images of shape {shape} have them "
            f"first or last, and the first layers of '{model.name}' do not tell. Pass data_format='channels_last' or "
            "'channels_first'."
        )
    if fits:
        return fits.pop()
    return 1 if layer_lookup.data_format(model) == "channels_first" else len(shape)


def _consumed(model, inputs):
    """`(channel axis, embedding)` from a trace that ends where the input is first convolved or looked up."""
    found = [None, None]

    def trace(*tensors):
        source = tensors[inputs.wrt]

        def look(node):
            def wrap(call):
                def stand_in(*args, **kwargs):
                    _look(node, source, args[0] if args else None, found)
                    return call(*args, **kwargs)

                return stand_in

            return wrap

        telling = [node for node in walk(model) if _tells(node.operation)]
        try:
            with tracing.intercepted({node.operation: look(node) for node in telling}):
                model(pack(model, list(tensors), inputs.keys), training=False)
        except tracing.Reached:
            return tf.zeros(())
        if source.shape.rank > 3:
            found[0] = _first_operation(source)
        return tf.zeros(())

    signature = [
        tf.TensorSpec((None, *array.shape[1:]), dtype)
        for array, dtype in zip(inputs.arrays, inputs.dtypes, strict=True)
    ]
    try:
        tf.function(trace, autograph=False, input_signature=signature).get_concrete_function()
    except Exception:  # a model that cannot be traced: its input's shape has to say
        pass
    return tuple(found)


def _tells(operation):
    return (
        isinstance(operation, keras.layers.Embedding)
        or getattr(operation, "data_format", None) in ("channels_first", "channels_last")
        and not isinstance(operation, keras.layers.Flatten)
    )


def _look(node, source, tensor, found):
    """What a layer that is about to be called says of the source."""
    if not isinstance(tensor, tf.Tensor) or getattr(tensor, "graph", None) is not source.graph:
        return
    axes = _axes(tensor, source)
    if axes is None:
        return
    if isinstance(node.operation, keras.layers.Embedding):
        if len(axes) == 2:
            found[1] = layer_lookup.LayerCall(
                node.path, weakref.ref(node.operation), None if node.calls == 1 else 0, True
            )
            raise tracing.Reached
        return
    axis = axes[1 if node.operation.data_format == "channels_first" else -1]
    if len(axes) > 2 and axis is not None:
        found[0] = axis
        raise tracing.Reached


def _first_operation(source):
    """The channel axis by the first convolution or pooling that TensorFlow itself makes."""
    for operation in source.graph.get_operations():
        if operation.type in (*_CONVOLVING, *_RESIZING):
            axes = _axes(operation.inputs[0], source)
            if axes is None:
                continue
            layout = b"NHWC" if operation.type in _RESIZING else operation.get_attr("data_format")
            axis = axes[1 if layout.startswith(b"NC") else -1]
            if axis is not None:
                return axis
    return None


def _axes(tensor, source, depth=0):
    """For each axis of a tensor the axis of the source that it is, None for another; None for another tensor."""
    if tensor is source or (tensor.op.name == source.op.name):
        return list(range(source.shape.rank))
    made = dataflow.made(tensor)
    if depth > 60 or not made.inputs or made.type in ("Shape", "Size", "Rank", "ReadVariableOp"):
        return None
    for one in made.inputs:
        axes = _axes(one, source, depth + 1)
        if axes is not None:
            return _moved(made, axes, one, tensor)
    return None


def _moved(made, axes, before, after):
    """Where axes go in an operation."""
    if made.type == "Transpose":
        order = tf.get_static_value(made.inputs[1])
        return None if order is None else [axes[place] for place in order]
    if after.shape.rank is None:
        return None
    if made.type == "ExpandDims":
        place = int(tf.get_static_value(made.inputs[1])) % after.shape.rank
        return [*axes[:place], None, *axes[place:]]
    if made.type == "StridedSlice" and after.shape.rank < before.shape.rank:
        mask = made.attribute("shrink_axis_mask")
        if made.attribute("ellipsis_mask") or made.attribute("new_axis_mask"):
            return [None] * after.shape.rank
        return [axis for place, axis in enumerate(axes) if not mask >> place & 1]
    if made.type in ("Unpack", "GatherV2") and after.shape.rank == before.shape.rank - 1:
        place = made.attribute("axis") if made.type == "Unpack" else int(tf.get_static_value(made.inputs[2]))
        return [axis for number, axis in enumerate(axes) if number != place % before.shape.rank]
    if made.type == "Reshape":  # what stays as it is at the end
        kept = 0
        old, new = before.shape.as_list(), after.shape.as_list()
        while kept < min(len(old), len(new)) - 1 and old[-1 - kept] == new[-1 - kept] is not None:
            kept += 1
        return [None] * (len(new) - kept) + (axes[-kept:] if kept else [])
    if after.shape.rank == before.shape.rank and made.type not in _MIXING:
        return axes
    return [None] * after.shape.rank
