"""Receptive fields: the pixels that a neuron can see, computed from the operations between it and the image."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from recipes.explain.engine import layer_lookup, tracing
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.image_spec import Canvas
from recipes.explain.engine.inputs import pack
from recipes.explain.engine.options import Layer

# Operations that work on every position separately.
_PLACEWISE = frozenset(
    "Abs Add AddN AddV2 BiasAdd Cast Clip ClipByValue ConcatV2 Div DivNoNan Elu Erf Erfc Exp FusedBatchNormV3 Gelu "
    "Greater GreaterEqual Identity LeakyRelu Less LessEqual Log Log1p LogicalAnd LogicalNot LogicalOr Maximum "
    "Minimum Mul Neg Pow QuantizeAndDequantizeV2 RealDiv Reciprocal Relu Relu6 Rsqrt Select SelectV2 Selu Sigmoid "
    "Sign Softplus Softsign Sqrt Square SquaredDifference StopGradient Sub Tanh Xdivy ZerosLike OnesLike NotEqual "
    "Equal Softmax LogSoftmax".split()
)
_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")
_POOLS = ("MaxPool", "AvgPool", "MaxPoolV2")
_NOTHING = 2**31
_REDUCTIONS = ("Mean", "Sum", "Max", "Min", "Prod", "ArgMax")


@dataclasses.dataclass(frozen=True)
class ReceptiveField:
    """The receptive fields of the neurons of a map.

    Args:
        size: `(height, width)` of a field in pixels, which may be larger than the image.
        stride: Pixels between the fields of two neighboring neurons, `(down, across)`.
        offset: `(top, left)` of the field of neuron `(0, 0)` in pixels; negative if it begins outside the image.
        image: `(height, width)` of the image in pixels.
        map: `(height, width)` of the layer's map.
        seen: For the rows and for the columns of the map, arrays `(first, last)` of the pixels that each of them sees.
    """

    size: tuple[int, int]
    stride: tuple[int, int]
    offset: tuple[int, int]
    image: tuple[int, int]
    map: tuple[int, int]
    seen: tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]] = dataclasses.field(repr=False)

    def box(self, position: tuple[int, int]) -> tuple[int, int, int, int]:
        """`(top, left, bottom, right)` of the field of neuron `(row, column)`, in pixels.

        Bottom and right are exclusive; the box is not clipped to the image.
        """
        start = [
            first + step * place
            for first, step, place in zip(self.offset, self.stride, position, strict=True)
        ]
        return (*start, *(begin + length for begin, length in zip(start, self.size, strict=True)))

    def visible(self, position: tuple[int, int]) -> tuple[int, int, int, int]:
        """`(top, left, bottom, right)` of the pixels that neuron `(row, column)` really sees.

        Near a border they may be fewer than the part of the box inside the image, because padding between two layers
        hides pixels.
        """
        (top, bottom), (left, right) = (
            (int(first[place]), int(last[place]) + 1)
            for (first, last), place in zip(self.seen, position, strict=True)
        )
        return top, left, bottom, right


def receptive_field(
    model: keras.Model,
    layer: Layer,
    *,
    call_index: int | None = None,
    size: int | tuple[int, int] | None = None,
) -> ReceptiveField:
    """Compute the receptive field of a layer's neurons from the geometry of the layers below.

    The model is traced, and its operations are followed from the layer down to the image. So nested, subclassed and
    branched models are treated in the same way; where branches meet, the field is their union. Kernel, stride,
    dilation and padding are composed as in Araujo et al. 2019, "Computing Receptive Fields of Convolutional Neural
    Networks", equations 2 and 3, https://distill.pub/2019/computing-receptive-fields. A layer after a global average
    sees the whole image.

    Args:
        model: A built `keras.Model` with one image input, channels last.
        layer: A layer whose output is a map: object, name, path or index.
        call_index: Number of the call of a shared layer, from 0.
        size: `(height, width)` of the image in pixels, if the model does not fix it.

    Returns:
        A `ReceptiveField`.

    Raises:
        ValueError: when the layer has no map, or an operation below it has an unknown geometry.
    """
    canvas = Canvas("receptive_field", model, size=size)
    call = layer_lookup.find(model, layer, call_index=call_index, method="receptive_field")
    if canvas.channels_first:
        raise UsageError(
            f"receptive_field expects channels last. Model '{model.name}' has channels first. Rebuild it with "
            "data_format='channels_last'."
        )
    found = {}

    def trace(images):
        _, (output,) = tracing.capture(model, pack(model, [images], canvas.keys), [call], stop=True)
        found["fields"], found["shape"] = _follow(images, output), output.shape
        return tf.constant(0)

    tf.function(trace, autograph=False).get_concrete_function(tf.TensorSpec((1, *canvas.shape)))
    fields, shape = found["fields"], found["shape"]
    if fields is None or shape.rank not in (2, 4):
        raise UsageError(
            f"receptive_field expects a layer that returns a map of the image. Layer '{call.path}' returns "
            f"shape {shape}. Choose a convolution or a layer that follows one."
        )
    map_size = tuple(shape[1:3]) if shape.rank == 4 else (1, 1)
    if fields == "all":
        seen = tuple(
            (np.zeros(n, int), np.full(n, m - 1)) for n, m in zip(map_size, canvas.shape, strict=False)
        )
        return ReceptiveField(canvas.shape[:2], (0, 0), (0, 0), canvas.shape[:2], map_size, seen)
    return ReceptiveField(
        tuple(axis.high - axis.low + 1 for axis in fields),
        tuple(axis.stride for axis in fields),
        tuple(axis.low for axis in fields),
        canvas.shape[:2],
        map_size,
        tuple((axis.first, axis.last) for axis in fields),
    )


@dataclasses.dataclass(frozen=True)
class _Axis:
    """The pixels that the positions of one axis of a tensor see.

    Position i sees `stride * i + low ... stride * i + high`, or exactly `first[i] ... last[i]`. TensorFlow computes a
    dilated convolution on interleaved batches; inside it, the positions are those before interleaving, and `block` is
    the dilation. A position that sees nothing has `first > last`.
    """

    stride: int
    low: int
    high: int
    first: np.ndarray
    last: np.ndarray
    block: int = 1

    def window(self, kernel, stride, dilation, before, count=None):
        """The axis after a kernel whose position i begins at `stride * i - before`; `count` positions, or all."""
        size, extent = len(self.first), dilation * (kernel - 1)
        count = (size - extent - 1) // stride + 1 if count is None else count
        first, last = np.full(count, _NOTHING), np.full(count, -1)
        for tap in range(kernel):
            places = stride * np.arange(count) - before + tap * dilation
            inside = (places >= 0) & (places < size)
            first[inside] = np.minimum(first[inside], self.first[places[inside]])
            last[inside] = np.maximum(last[inside], self.last[places[inside]])
        return _Axis(
            self.stride * stride,
            self.low - self.stride * before,
            self.high + self.stride * (extent - before),
            first,
            last,
            self.block,
        )


def _follow(image, output):
    """The fields of a tensor: an `_Axis` for its rows and one for its columns.

    The result is "all" if the tensor sees the whole image, and None if it does not depend on the image.
    """
    pixels = tuple(_Axis(1, 0, 0, np.arange(size), np.arange(size)) for size in image.shape[1:3])
    known = {image.ref(): pixels}
    stack = [output]
    while stack:  # depth first without recursion: networks are deeper than Python's stack
        tensor = stack[-1]
        inputs = [given for given in tensor.op.inputs if given.dtype != tf.resource]
        waiting = [given for given in inputs if given.ref() not in known]
        if tensor.ref() in known:
            stack.pop()
        elif waiting:
            stack.extend(waiting)
        else:
            stack.pop()
            known[tensor.ref()] = _field(tensor, [(given, known[given.ref()]) for given in inputs])
    return known[output.ref()]


def _field(tensor, inputs):
    """The fields of an operation's output, from those of its inputs."""
    depending = [(given, field) for given, field in inputs if field is not None]
    if not depending:
        return None
    if any(field == "all" for _, field in depending):
        return "all"
    operation, (given, field) = tensor.op, depending[0]
    if operation.type in ("Shape", "Size", "Rank"):
        return None
    if operation.type in _CONVOLUTIONS or operation.type in _POOLS:
        return _window(operation, tensor, given, field)
    if operation.type in ("Pad", "PadV2"):
        amounts = tf.get_static_value(operation.inputs[1])[1:3]
        return tuple(
            axis.window(1, 1, 1, int(before), len(axis.first) + int(before) + int(after))
            for axis, (before, after) in zip(field, amounts, strict=True)
        )
    if operation.type in ("SpaceToBatchND", "BatchToSpaceND"):
        return _interleaved(operation, field)
    if operation.type == "StridedSlice":
        return _sliced(operation, tensor, field)
    same_places = given.shape.rank == 4 == tensor.shape.rank and given.shape[1:3] == tensor.shape[1:3]
    if operation.type in _PLACEWISE and all(
        one.shape.rank == 4 and one.shape[1:3] == tensor.shape[1:3] for one, _ in depending
    ):
        return _union([field for _, field in depending])
    if operation.type in (
        "Reshape",
        "Squeeze",
        "ExpandDims",
        "MatMul",
        "BatchMatMulV2",
        "Transpose",
        *_REDUCTIONS,
    ):
        if operation.type == "Reshape" and same_places:
            return field
        if operation.type in _REDUCTIONS and _reduced_axes(operation, given) <= {3}:
            return field
        return "all"
    if given.shape.rank != 4 or tuple(given.shape[1:3]) == (1, 1):
        return "all"
    raise UsageError(
        "receptive_field expects convolutions, pooling, padding, slices and operations on each position by itself. "
        f"Between the image and the layer there is an operation of type '{operation.type}' ({operation.name}). "
        "Measure the field instead: explain.saliency(model, images, explain.Unit(layer, position=(row, column))) > 0."
    )


def _window(operation, tensor, given, field):
    """Convolution and pooling: position i sees `stride * i - before ... + dilation * (kernel - 1)` of its input."""
    strides = operation.get_attr("strides")[1:3]
    if operation.type in _POOLS:
        kernel, dilations = operation.get_attr("ksize")[1:3], (1, 1)
    else:
        kernel = operation.inputs[1].shape[:2]
        dilations = operation.get_attr("dilations")[1:3]
    padding = operation.get_attr("padding").decode()
    result = []
    for number, (axis, length, step, dilation) in enumerate(
        zip(field, kernel, strides, dilations, strict=True)
    ):
        dilation = max(dilation, axis.block)
        count = None if axis.block > 1 else tensor.shape[number + 1]
        before = 0
        if padding == "SAME":
            wanted = (count - 1) * step + dilation * (length - 1) + 1
            before = max(wanted - given.shape[number + 1], 0) // 2
        elif padding == "EXPLICIT":
            before = operation.get_attr("explicit_paddings")[2 * (number + 1)]
        result.append(axis.window(length, step, dilation, before, count))
    return tuple(result)


def _interleaved(operation, field):
    """The start and the end of a dilated convolution: padding and cropping, with the dilation kept between them."""
    blocks, amounts = (tf.get_static_value(operation.inputs[place]) for place in (1, 2))
    entering = operation.type == "SpaceToBatchND"
    result = []
    for axis, block, (before, after) in zip(field, blocks, amounts, strict=True):
        before, after = (int(before), int(after)) if entering else (-int(before), -int(after))
        moved = axis.window(1, 1, 1, before, len(axis.first) + before + after)
        result.append(dataclasses.replace(moved, block=int(block) if entering else 1))
    return tuple(result)


def _sliced(operation, tensor, field):
    """A slice with constant bounds, such as a crop or a strided shortcut."""
    begin, _, strides = (tf.get_static_value(operation.inputs[place]) for place in (1, 2, 3))
    shape_changes = operation.get_attr("new_axis_mask") or operation.get_attr("shrink_axis_mask")
    if (
        begin is None
        or strides is None
        or shape_changes
        or operation.get_attr("ellipsis_mask")
        or min(strides) < 0
    ):
        return "all"
    mask = operation.get_attr("begin_mask")
    result = []
    for number, axis in enumerate(field, start=1):
        known = number < len(begin)
        start = 0 if not known or mask >> number & 1 else int(begin[number])
        start = start + len(axis.first) if start < 0 else start
        result.append(axis.window(1, int(strides[number]) if known else 1, 1, -start, tensor.shape[number]))
    return tuple(result)


def _union(fields):
    """The union of several branches; "all" if their strides differ, which only a resize can cause."""
    result = []
    for axes in zip(*fields, strict=True):
        first = np.min([axis.first for axis in axes], axis=0)
        last = np.max([axis.last for axis in axes], axis=0)
        low, high = min(axis.low for axis in axes), max(axis.high for axis in axes)
        if len({axis.stride for axis in axes}) > 1:
            return "all"
        result.append(_Axis(axes[0].stride, low, high, first, last, axes[0].block))
    return tuple(result)


def _reduced_axes(operation, given):
    axes = tf.get_static_value(operation.inputs[1])
    return (
        set(range(given.shape.rank))
        if axes is None
        else {int(axis) % given.shape.rank for axis in np.ravel(axes)}
    )
