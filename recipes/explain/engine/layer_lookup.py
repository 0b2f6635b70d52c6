"""Find a layer inside any model: by object, by name, by `"outer/inner"`, by index."""

import dataclasses
import difflib
import functools
import weakref
from typing import Any

import keras

from recipes.common.traversal import layers_in, walk
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.moved_axes import axes_of

# Operations that apply weights, by TensorFlow's names.
_WEIGHTED = {
    *(
        "Conv2D",
        "Conv3D",
        "DepthwiseConv2dNative",
        "Conv2DBackpropInput",
        "Conv3DBackpropInputV2",
        "MatMul",
        "Einsum",
    ),
    *("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "XlaDotV2"),
}


@dataclasses.dataclass(frozen=True)
class LayerCall:
    """One call of one layer, held weakly so that a cached trace never keeps a model alive.

    Args:
        path: `"outer/inner"`, for messages.
        reference: `weakref.ref` of the layer or functional operation.
        index: Number of the call in the forward pass, counted from 0, or from the end if negative; None if there is
            only one.
        last: True if no later call of the layer can be meant, so that a forward pass may stop here.
    """

    path: str
    reference: weakref.ref
    index: int | None = None
    last: bool = False

    @property
    def operation(self) -> Any:
        return self.reference()


def find(
    model: keras.Model,
    layer: Any,
    *,
    call_index: int | None = None,
    method: str = "explain",
    several: bool = False,
) -> Any:
    """Find the `LayerCall` for the user's argument `layer=`.

    Args:
        model: A built `keras.Model`.
        layer: A layer object of the model, a name (`"conv1"`; unique also inside nested models), a path
            (`"backbone/conv1"`), or an index into `model.layers`.
        call_index: Number of the call of a shared layer, from 0, or from the end if negative. Calls of a Functional
            model are in the order in which they were written, calls of other models in the order of execution.
        method: Name used in errors.
        several: Whether `call_index` may be left out for a layer with several calls, because the caller can choose.

    Raises:
        ValueError: when there is no such layer (the message lists candidates), when a name stands for several layers,
            or when there is no such call.
        TypeError: when `layer` is of another kind.
    """
    nodes = walk(model)
    node = _match(model, layer, nodes, method)
    if call_index is not None and node.calls is not None and not -node.calls <= call_index < node.calls:
        raise UsageError(
            f"{method} expects call_index to be one of the {node.calls} calls of layer '{node.path}'. "
            f"Received call_index={call_index}. Count from 0, or leave it out for a layer called once."
        )
    if call_index is None and node.calls is not None and node.calls > 1 and not several:
        raise several_calls(method, node.path, node.calls)
    if call_index is not None and node.order:
        call_index = node.order[call_index]
    last = node.calls == 1 or (call_index is not None and call_index >= 0)
    return LayerCall(node.path, weakref.ref(node.operation), call_index, last)


def several_calls(method: str, path: str, calls: int) -> Any:
    """The error for a shared layer without a chosen call."""
    return UsageError(
        f"{method} expects one call of layer '{path}'. The model calls it {calls} times. "
        f"Choose one with call_index=0 ... call_index={calls - 1}."
    )


def no_map(method: str, path: str, shape: Any, axes: Any) -> Any:
    """The error for a layer that returns no map."""
    return UsageError(
        f"{method} expects a layer whose output has {axes} spatial axes of more than one pixel. Received "
        f"layer '{path}', which returns shape {('n', *shape[1:])}. Choose a convolution or a layer that follows one, "
        "or leave layer out for the last feature map."
    )


def data_format(model: keras.Model, operation: Any = None) -> Any:
    """`"channels_last"` or `"channels_first"`, from the layer itself or the first layer of the model that has it."""
    for layer in (operation, *_first(model, lambda layer: hasattr(layer, "data_format"))):
        declared = getattr(layer, "data_format", None)
        if declared in ("channels_first", "channels_last"):
            return declared
    return "channels_last"


def _first(layer, wanted):
    """The first layer inside `layer` for which `wanted` is true, as a list of one, or an empty list."""
    for child in layers_in(layer):
        found = [child] if wanted(child) else _first(child, wanted)
        if found:
            return found
    return []


def last_map(
    survey: Any,
    model: keras.Model,
    rank: int | None,
    flow: Any,
    pictures: Any,
    source: Any,
    method: str = "explain",
) -> Any:
    """The last feature map that feeds a head, `(LayerCall, tensor)`, from a survey of one forward pass.

    It is the last output that lies on every path from the input to the score, so never a branch inside a residual
    block. It has the spatial size of the last convolution, so that the normalization, residual sum or activation after
    this convolution is included: `conv5_block3_out` of a ResNet50, `out_relu` of a MobileNetV2. Maps of a single pixel
    are not considered. If the score is computed from pictures, the map is below the last weights and below all heads.
    If no output lies on every path, the last map is taken, and without a Keras convolution the last of all outputs. For
    a transformer, it is the tokens that enter the last attention, because after it only the class token may count.

    Args:
        survey: List of `(Node, tensor)` in the order in which the outputs appeared.
        model: The model.
        rank: Rank of the images, with batch and channels.
        flow: The `dataflow.Flow` from the input to the score.
        pictures: Whether the score is computed from pictures.
        source: The images' tensor.
        method: Name used in errors.

    Raises:
        UsageError: when there is no such map, or several.
    """
    first = data_format(model) == "channels_first"

    def spatial(tensor):
        return tuple(tensor.shape[2:] if first else tensor.shape[1:-1])

    maps = _maps(survey, rank, spatial, flow)
    if rank == 5 and not any(_convolves(node) for _, node, _ in maps):  # a video, frame by frame
        maps = _maps(survey, 4, spatial, flow) or maps
    maps = _before_bottleneck(maps, survey, rank, spatial, flow)
    below = {place for place, _, tensor in maps if not pictures or flow.types_behind(tensor) & _WEIGHTED}
    outputs, maps = maps, [entry for entry in maps if entry[0] in below]
    convolutions = [entry for entry in maps if _convolves(entry[1])]
    attention = [
        place for place, (node, _) in enumerate(survey) if "Attention" in type(node.operation).__name__
    ]
    if outputs and not maps:
        raise UsageError(
            f"{method} expects a feature map below the output. Model '{model.name}' has none: its output is computed "
            "from its only map. Name a layer with layer=, or use saliency."
        )
    passed = [entry for entry in maps if flow.must_pass(entry[2])]
    if attention and passed and passed[-1][0] > attention[-1] > (convolutions or passed)[-1][0]:
        convolutions = passed[-1:]  # the map to which windows were folded back
    tokens = _tokens(survey, flow) if rank == 4 else None
    behind = not maps or (attention and attention[-1] > (convolutions or maps)[-1][0])
    if tokens and (behind or flow.attends(maps[-1][2], tokens[1])):
        return tokens
    if behind:
        sequences = [node for node, tensor in survey if tensor.shape.rank == 3 and tensor.shape[-1] != 1]
        raise UsageError(
            f"{method} expects a layer whose output has spatial axes. Model '{model.name}' has none between its "
            f"last {'attention' if attention else 'layer'} and the head. Name one with layer=, preferably the input of "
            f"the last block; candidates, the last ones first: "
            f"{_names((attention and sequences) or [node for node, _ in survey], '')}."
        )
    size = spatial((convolutions or maps)[-1][2])
    start = convolutions[0][0] if convolutions else -1
    passed = [entry for entry in passed if entry[0] >= start]
    same_size = [entry for entry in passed if spatial(entry[2]) == size]
    place, node, tensor = (same_size or passed or [entry for entry in maps if spatial(entry[2]) == size])[-1]
    calls = [(number, other) for number, (one, other) in enumerate(survey) if one.operation is node.operation]
    if len(calls) == 1:
        return LayerCall(node.path, weakref.ref(node.operation), None, node.calls == 1), tensor
    if flow.must_pass(tensor) or len([other for _, other in calls if flow.passes(other)]) == 1:
        index = [number for number, _ in calls].index(place)
        return LayerCall(node.path, weakref.ref(node.operation), index, True), tensor
    tensors = by_frame([other for _, other in calls], flow, rank, source)
    if tensors is None:
        raise UsageError(
            f"{method} expects one last feature map. Layer '{node.path}' makes {len(calls)} in one pass. "
            f"Choose with layer='{node.path}', call_index=0 ... {len(calls) - 1}."
        )
    return LayerCall(node.path, weakref.ref(node.operation), None, False), tensors


def call_that_sees(call: Any, outputs: Any, flow: Any, rank: int | None, source: Any) -> Any:
    """The output of the call of a layer that lies between the input and the score.

    If each call sees one frame of a video, all outputs are returned as a list.

    Raises:
        UsageError: when several calls lie there and are not frames.
    """
    found = [tensor for tensor in outputs if flow.passes(tensor)]
    if len(found) == 1:
        return found[0]
    tensors = by_frame(outputs, flow, rank, source)
    if tensors is None:
        raise several_calls("explain", call.path, len(outputs))
    return tensors


def by_frame(outputs: Any, flow: Any, rank: int | None, source: Any) -> Any:
    """The outputs of the calls in the order of the frames, if each call sees one frame of a video; otherwise None."""
    axes, frames = functools.partial(axes_of, source=source, seen={}), source.shape[1]
    numbers = [flow.slice_of(tensor, axes) for tensor in outputs]
    if (
        rank != 5
        or len(outputs) != frames
        or sorted(one for one in numbers if one is not None) != list(range(frames))
    ):
        return None
    return [tensor for _, tensor in sorted(zip(numbers, outputs, strict=True), key=lambda pair: pair[0])]


def _maps(survey, rank, spatial, flow):
    """`(place, Node, tensor)` of the outputs with spatial axes between the input and the score."""
    found = [
        (place, node, tensor)
        for place, (node, tensor) in enumerate(survey)
        if tensor.shape.rank == rank and any(size != 1 for size in spatial(tensor))
    ]
    return [entry for entry in found if flow.passes(entry[2])] or ([] if flow.between else found)


def _tokens(survey, flow):
    """`(LayerCall, tensor)` of the last sequence that lies on every path and enters attention, or None."""
    for node, tensor in reversed(survey):
        sequence = tensor.shape.rank == 3 and tensor.shape[1] != 1 and tensor.shape[-1] != 1
        if sequence and flow.must_pass(tensor) and flow.attends(tensor):
            calls = [other for one, other in survey if one.operation is node.operation]
            index = None if len(calls) == 1 else [other is tensor for other in calls].index(True)
            return LayerCall(node.path, weakref.ref(node.operation), index, node.calls == 1), tensor
    return None


def _before_bottleneck(maps, survey, rank, spatial, flow):
    """The maps below the first vector that lies on every path; maps made from a vector do not show positions."""
    for place, (node, tensor) in enumerate(survey):
        vector = tensor.shape.rank == 2 < rank or (
            tensor.shape.rank == rank and all(size == 1 for size in spatial(tensor))
        )
        kept = type(node.operation).__name__ in ("Flatten", "Reshape")
        if vector and not kept and flow.must_pass(tensor):
            below = [entry for entry in maps if entry[0] < place]
            return below or maps
    return maps


def _convolves(node):
    return "Conv" in type(node.operation).__name__


def _match(model, layer, nodes, method):
    if isinstance(layer, bool) or not isinstance(layer, (int, str, keras.Operation)):
        raise TypeError(
            f"{method} expects layer to be a layer object, a name, a path 'outer/inner' or an index. "
            f"Received {layer!r} of type {type(layer).__name__}. Print model.summary() to see the names."
        )
    if isinstance(layer, int):
        if not -len(model.layers) <= layer < len(model.layers):
            raise UsageError(
                f"{method} expects layer to be an index into model.layers, which has {len(model.layers)} entries. "
                f"Received layer={layer}. Give a name instead, such as {_names(nodes, '')}."
            )
        layer = model.layers[layer]
    if not isinstance(layer, str):
        found = [node for node in nodes if node.operation is layer]
        if not found:
            raise UsageError(
                f"{method} expects a layer of the model '{model.name}'. Received '{layer.name}', which is not part "
                f"of it. Take it from the model, or give a name such as {_names(nodes, layer.name)}."
            )
        return found[0]
    found = [node for node in nodes if node.path == layer] or [
        node for node in nodes if node.path.endswith(f"/{layer}")
    ]
    if not found:
        raise UsageError(
            f"{method} expects the name of a layer of model '{model.name}'. Received layer='{layer}', which it does "
            f"not have. Candidates: {_names(nodes, layer)}."
        )
    if len(found) > 1:
        raise UsageError(
            f"{method} expects a name that stands for one layer. Received layer='{layer}', which stands for "
            f"{len(found)}. Give the path or the layer itself: "
            f"{', '.join(repr(node.path) for node in found[:8])}."
        )
    return found[0]


def _names(nodes, wanted, limit=20):
    """At most `limit` paths as text: first those similar to `wanted`, then the last ones of the model."""
    paths = [node.path for node in nodes]
    tails = {path.rsplit("/", 1)[-1]: path for path in paths}
    close = [tails[tail] for tail in difflib.get_close_matches(wanted.rsplit("/", 1)[-1], tails, n=5)]
    chosen = list(dict.fromkeys(close + paths[::-1]))[:limit]
    more = f" ... ({len(paths)} in all)" if len(paths) > len(chosen) else ""
    return ", ".join(repr(path) for path in chosen) + more
