"""What is inside a model: its layers at any depth, their paths, and who owns which variable."""

import collections
import dataclasses
from typing import Any

import keras


@dataclasses.dataclass(frozen=True)
class Node:
    """One operation of a model.

    Args:
        path: `"outer/inner"`.
        operation: The layer or functional operation.
        calls: How often one forward pass calls it; None when only running the model can tell.
        order: For a shared layer of a Functional model, `order[i]` is the place in the order of execution of its i-th
            call in the code: deep branches run first, whatever was written first. Else None.
    """

    path: str
    operation: Any
    calls: int | None
    order: tuple[int, ...] | None = None


def walk(model: keras.layers.Layer) -> list[Node]:
    """Every layer and functional operation below `model`, each once, a layer before what is inside it."""
    nodes, seen = [], {id(model)}

    def descend(parent, prefix, parent_calls):
        for child, uses, order in _children(parent):
            if id(child) in seen:
                continue
            seen.add(id(child))
            calls = None if uses is None or parent_calls is None else uses * parent_calls
            path = f"{prefix}{child.name}"
            nodes.append(Node(path, child, calls, order if parent_calls == 1 else None))
            descend(child, f"{path}/", calls)

    descend(model, "", 1)
    return nodes


def named_operations(model: keras.layers.Layer) -> list[tuple[str, Any]]:
    """`(path, operation)` of everything inside a model, each once, parts before the whole, the model itself last."""
    seen, found = set(), []

    def visit(operation, prefix):
        seen.add(id(operation))
        for child, _, _ in _children(operation):
            if id(child) not in seen:
                visit(child, "" if operation is model else f"{prefix}{operation.name}/")
        found.append((f"{prefix}{operation.name}", operation))

    visit(model, "")
    return found


def layers_of(layer: keras.layers.Layer, kind: type = object, *, include_self: bool = False) -> list[Any]:
    """The layers inside a layer or model at any depth, each once, a layer before what is inside it.

    Args:
        layer: A layer or model.
        kind: Class that the layers must be of, or a tuple of classes.
        include_self: Begin with `layer`.
    """
    found = {}

    def descend(parent):
        for child in layers_in(parent):
            if id(child) not in found:
                found[id(child)] = child
                descend(child)

    if include_self:
        found[id(layer)] = layer
    descend(layer)
    return [one for one in found.values() if isinstance(one, kind)]


def layers_in(layer: Any) -> list[keras.layers.Layer]:
    """The layers that a layer or model holds itself, not those inside them."""
    return [child for child in getattr(layer, "_layers", ()) if isinstance(child, keras.layers.Layer)]


def set_learning(model: keras.layers.Layer, learning: set[int]) -> None:
    """Make only these layers of a model trainable, at any depth, and freeze all others that have weights.

    Args:
        model: Built.
        learning: The `id`s of the layers that learn, which hold their variables themselves.
    """
    if not model.weights:
        return
    wanted = any(id(one) in learning for one in layers_of(model, include_self=True))
    if model.trainable != wanted:
        model.trainable = wanted  # passed on to all that is inside
    for child in layers_in(model):
        set_learning(child, learning)


def own_trainable_variables(layer: keras.layers.Layer) -> list[keras.Variable]:
    """The trainable variables that a layer made itself, without those of the layers inside it."""
    return list(layer._trainable_variables)


def variable_owners(model: keras.layers.Layer) -> dict[int, tuple[str, Any]]:
    """Map `id(variable)` to `(path, layer)` for every variable, the innermost layer that holds it."""
    owners = {}
    for name, operation in named_operations(model):
        for variable in getattr(operation, "variables", ()):
            owners.setdefault(id(variable), (name, operation))
    return owners


def has_graph(model: Any) -> bool:
    """Whether a model is Functional, so that its operations are known without running it."""
    return hasattr(model, "_nodes_by_depth") and hasattr(model, "operations")


def graph_nodes(model: keras.Model) -> list[Any]:
    """The calls of a Functional model's operations, in the order they are made."""
    graph = model._nodes_by_depth
    return [node for depth in sorted(graph, reverse=True) for node in graph[depth]]


def kernel_levels(model: keras.Model) -> dict[int, int]:
    """Map `id(layer)` to the number of layers with a kernel on the longest path from the input to it, itself included.

    Nested models are entered; any other layer that holds layers counts as one level, as a block of a transformer does.
    In a subclassed model, whose calls are not known, the layers are taken to follow one another in the order they were
    made.

    Args:
        model: Built. A kernel is a trainable or frozen weight of two axes or more.
    """
    levels: dict[int, int] = {}

    def call(layer, level):
        graph = getattr(layer, "_functional", None) or layer
        if has_graph(graph):
            return through(graph, level)
        if isinstance(layer, keras.Model):
            for child in layers_in(layer):
                level = call(child, level)
        elif isinstance(layer, keras.layers.Layer):
            level += any(len(weight.shape) > 1 for weight in layer.weights)
            for inside in layers_of(layer, include_self=True):
                levels.setdefault(id(inside), level)
        return level

    def through(graph, start):
        reached = {id(tensor): start for tensor in graph.inputs}
        for node in graph_nodes(graph):
            before = [reached.get(id(tensor), start) for tensor in node.input_tensors]
            if before:  # an InputLayer has none
                level = call(node.operation, max(before))
                reached |= {id(tensor): level for tensor in node.outputs}
        return max((reached.get(id(tensor), start) for tensor in graph.outputs), default=start)

    call(model, 0)
    return levels


def producer_of(tensor: Any) -> Any:
    """The operation whose output a symbolic tensor is, or None."""
    history = getattr(tensor, "_keras_history", None)
    return None if history is None else history.operation


def input_structure(model: keras.Model) -> Any:
    """The structure of tensors that a model takes, as it was built with; None for a subclassed model."""
    functional = getattr(model, "_functional", None) or model
    return getattr(functional, "_inputs_struct", None)


def _children(parent):
    """`(child, uses, order)`: how often one call of the parent calls the child (None: unknown), and `Node.order`."""
    layers = layers_in(parent)
    if isinstance(parent, keras.Sequential):
        return [(layer, 1, None) for layer in parent.layers]
    if not has_graph(parent):
        return [(layer, None, None) for layer in layers]
    made = collections.defaultdict(list)
    for node in graph_nodes(parent):
        made[id(node.operation)].append(node)
    children = []
    for operation in parent.operations:
        if not isinstance(operation, keras.layers.InputLayer):
            nodes = made[id(operation)]
            written = [node for node in operation._inbound_nodes if any(node is other for other in nodes)]
            children.append((operation, len(nodes), tuple(nodes.index(node) for node in written)))
    known = {id(operation) for operation in parent.operations}
    return children + [(layer, None, None) for layer in layers if id(layer) not in known]
