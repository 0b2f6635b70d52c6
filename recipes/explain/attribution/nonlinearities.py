"""Find the nonlinearities between input and score that no rule guides, by name.

Nonlinear functions of a single value are counted: activations, thresholds, products of a value with itself. Operations
that only weigh one value by another are not counted: pooling, normalization, and gates (squeeze-and-excitation,
attention, the cells of LSTM and GRU). The paper of guided backpropagation does not change these either.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from recipes.common.patching import wrapped
from recipes.common.traversal import walk
from recipes.explain.engine.dataflow import Flow

RECTIFIERS = ("Relu", "Relu6", "LeakyRelu")
_CURVES = (
    *(
        "Elu",
        "Selu",
        "Softplus",
        "Softsign",
        "Tanh",
        "Sigmoid",
        "Erf",
        "Erfc",
        "Abs",
        "Exp",
        "Expm1",
        "Log1p",
    ),
    *("Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Asinh", "Acosh", "Atanh", "Sinh", "Cosh", "Softmax"),
    *("LogSoftmax", "Sign", "Floor", "Ceil", "Round", "Rint", "FloorMod", "Mod", "Lgamma", "Erfinv"),
)
_POWERS = ("Pow", "Sqrt", "Rsqrt", "Log", "Reciprocal", "Inv")
_BOUNDS = ("Maximum", "Minimum", "ClipByValue")
_REDUCTIONS = ("Mean", "Sum", "Max", "Prod")
# These operations leave a value the same up to a factor.
_SAME = ("Cast", "Identity", "IdentityN", "Neg", "Reshape", "StopGradient")
_ALIASES = {"silu": "swish (silu)", "hard_silu": "hard_swish (hard_silu)"}
_LOOPS = ("While", "StatelessWhile")
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


@contextlib.contextmanager
def located(model: keras.Model, graph: tf.Graph) -> "Iterator[Places]":
    """While the block traces the model, record which graph operations each layer makes; yields a `Places`."""
    places = Places(model)

    def noting(path, operation):
        def wrap(call):
            def stand_in(*args, **kwargs):
                start = len(graph.get_operations())
                try:
                    return call(*args, **kwargs)
                finally:
                    places.ranges.append((start, len(graph.get_operations()), path, operation))

            return stand_in

        return wrap

    nodes = [("", model), *((node.path, node.operation) for node in walk(model))]
    nodes = [
        (operation, name, noting(path, operation))
        for path, operation in nodes
        for name in ("call", "quantized_call")
        if name == "call" or getattr(operation, "quantization_mode", None)
    ]
    with wrapped(nodes):
        yield places


class Places:
    """A record of which layer made which operation."""

    def __init__(self, model: keras.Model) -> None:
        self.model, self.ranges = model, []

    def of(self, number: int) -> tuple[str, Any] | None:
        """`(path, layer)` of the innermost layer whose call made operation `number`; None outside the model."""
        inside = [entry for entry in self.ranges if entry[0] <= number < entry[1]]
        if not inside:
            return None
        return min(inside, key=lambda entry: entry[1] - entry[0])[2:]


def unguided(
    graph: tf.Graph, source: tf.Tensor, scores: tf.Tensor, places: Places, scope: str
) -> tuple[list[str], int]:
    """`(names, guided)`: the names of nonlinearities that no rule guides, and the number of guided rectifiers.

    Args:
        graph: The graph of the forward pass.
        source: The input tensor.
        scores: The tensor of scores.
        places: The `Places` from `located`.
        scope: Operations whose name contains this text are guided.
    """
    operations = graph.get_operations()
    flow = Flow(source, [scores])
    moved = _moved_by(operations, source)
    names, guided = [], 0
    for number in sorted(flow.between):
        operation = operations[number]
        place = places.of(number)
        if place is None:
            continue
        if scope in operation.name:
            guided += operation.type == "IdentityN"
            continue
        word = _word(operation, moved, graph, scope)
        if word and _recurs_with_gates(place[1]):
            continue
        if word and not _normalizes(place[1]):
            names.append(_name(word, *place))
    return list(dict.fromkeys(names)), guided


def _word(operation, moved, graph, scope):
    """The name of an operation if it is a nonlinearity of its input, otherwise None."""
    kind = operation.type
    if kind in RECTIFIERS:
        return kind.lower()
    if kind == "Abs" and {one.type for one in operation.outputs[0].consumers()} <= {"Max", "Shape"}:
        return None  # for the largest absolute value, by which quantization and normalization divide
    if kind in _CURVES:
        return None if kind in ("Sigmoid", "Tanh", "Softmax") and _is_gate(operation) else kind.lower()
    if kind == "Square":  # of a mean or length, by which normalization divides
        near = {consumer.type for consumer in operation.outputs[0].consumers()}
        return None if near & set(_REDUCTIONS) else "square"
    if kind in _POWERS:
        return None if _is_reduced(operation.inputs[0]) else kind.lower()
    if kind in ("RealDiv", "Div", "DivNoNan", "Xdivy"):
        return "quotient" if _divides_itself(*operation.inputs) else None
    if kind in _BOUNDS and operation.outputs[0].dtype.is_floating:
        if _producers(operation) & set(_REDUCTIONS):  # kept away from zero before a division
            return None
        constant = any(tf.get_static_value(tensor) is not None for tensor in operation.inputs)
        return kind.lower() if constant or _same_source(*operation.inputs[:2]) else None
    if kind in ("Select", "SelectV2"):
        return "where" if operation.inputs[0].op.name in moved else None
    if kind == "Mul":
        return _product(operation, moved)
    if kind in _CALLS:
        return _called(operation, graph, "f", scope)
    if kind in _LOOPS:
        return _called(operation, graph, "body", scope)
    return None


def _product(operation, moved):
    """The name of a product of a value with itself or with a comparison of it; None for other products."""
    left, right = operation.inputs
    for tensor in (left, right):
        made = tensor.op
        if made.type == "Cast" and made.inputs[0].dtype == tf.bool and made.name in moved:
            return "product with a comparison"
    return "square" if _stripped(left) == _stripped(right) else None


def _is_reduced(tensor):
    """Whether a tensor is a sum or mean up to added constants and factors, such as a variance."""
    made = tensor.op
    while (
        made.type in (*_SAME, *_BOUNDS, "AddV2", "Add", "Sub", "Mul", "Squeeze", "ExpandDims") and made.inputs
    ):
        parts = [one for one in made.inputs if tf.get_static_value(one) is None]
        if not parts:
            return False
        made = parts[0].op
    return made.type in _REDUCTIONS


def _divides_itself(upper, lower):
    """Whether a value is divided by an elementwise function of itself, such as in x / (1 + x)."""
    mine, waiting, seen = _stripped(upper), [lower], set()
    while waiting:
        tensor = waiting.pop()
        if _stripped(tensor) == mine:
            return True
        if tensor.op.type in (*_SAME, "AddV2", "Add", "Sub", "Mul") and tensor.op.name not in seen:
            seen.add(tensor.op.name)
            waiting += [one for one in tensor.op.inputs if tf.get_static_value(one) is None]
    return False


def _called(operation, graph, attribute, scope):
    """The name of a nonlinearity in the body of a `tf.function` or of a loop that the model runs, or None."""
    library = {one.signature.name: one for one in graph.as_graph_def().library.function}
    waiting, seen = [operation.get_attr(attribute).name], set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in library:
            continue
        seen.add(name)
        for node in library[name].node_def:
            if node.op in (*RECTIFIERS, *_CURVES) and scope not in node.name:
                return f"{node.op.lower()} in a {'loop' if attribute == 'body' else 'tf.function'}"
            if node.op in _CALLS:
                waiting.append(node.attr["f"].func.name)
    return None


def _is_gate(operation):
    """Whether the output of an operation is only multiplied with values it was not computed from."""
    (output,) = operation.outputs
    waiting, products = list(output.consumers()), []
    while waiting:
        consumer = waiting.pop()
        if consumer.type in (*_SAME, "Transpose", "ExpandDims", "Squeeze", "StridedSlice"):
            waiting += [one for tensor in consumer.outputs for one in tensor.consumers()]
        else:
            products.append(consumer)
    if not products or any(one.type not in ("Mul", "Einsum", "BatchMatMulV2", "MatMul") for one in products):
        return False
    mine = _stripped(operation.inputs[0])
    ours = _stripped(output)
    for product in products:
        others = [_stripped(tensor) for tensor in product.inputs]
        if mine in others and product.type == "Mul" and ours in others:
            return False  # x * sigmoid(x)
    return True


def _same_source(left, right):
    """Whether two tensors are the same up to factors and constants."""
    return _stripped(left) == _stripped(right)


def _stripped(tensor):
    """The name of the tensor from which this one is made by casts, signs, and products and sums with constants."""
    while True:
        operation = tensor.op
        if operation.type in _SAME and operation.inputs:
            tensor = operation.inputs[0]
        elif operation.type in ("Mul", "AddV2", "Sub", "RealDiv"):
            parts = [one for one in operation.inputs if tf.get_static_value(one) is None]
            if len(parts) != 1:
                return tensor.name
            tensor = parts[0]
        else:
            return tensor.name


def _producers(operation):
    """The types of the operations that made the inputs of an operation, before casts and reshapes."""
    found = set()
    for tensor in operation.inputs:
        made = tensor.op
        while made.type in _SAME and made.inputs:
            made = made.inputs[0].op
        found.add(made.type)
    return found


def _moved_by(operations, source):
    """Names of the operations whose result depends on the source, including comparisons."""
    reached = {source.op.name}
    for operation in operations:
        if operation.type not in ("Shape", "ShapeN", "Size", "Rank") and any(
            tensor.op.name in reached for tensor in operation.inputs
        ):
            reached.add(operation.name)
    return reached


def _recurs_with_gates(layer):
    """Whether a layer is one of Keras' recurrent layers with gates, LSTM or GRU."""
    return type(layer).__module__.startswith("keras.") and any(
        name in type(layer).__name__ for name in ("LSTM", "GRU")
    )


def _normalizes(layer):
    """Whether a layer is one of Keras' normalizations, which guided backpropagation does not change."""
    return type(layer).__module__.startswith("keras.") and type(layer).__name__.endswith("Normalization")


def _name(word, path, layer):
    """A nonlinearity in words: its kind and its layer."""
    activation = getattr(layer, "activation", None)
    activation = getattr(activation, "func", activation)
    if activation is not None and getattr(activation, "__name__", "linear") != "linear":
        called = getattr(activation, "__name__", type(activation).__name__)
        called = word if called == "<lambda>" else _ALIASES.get(called, called)
        return f"{called} of layer '{path}'"
    if not isinstance(layer, keras.layers.Layer):
        return f"{type(layer).__name__.lower()} at '{path}'"
    if type(layer).__module__.startswith("keras.") and not isinstance(
        layer, (keras.Model, keras.layers.Lambda)
    ):
        return f"layer '{path}' ({type(layer).__name__})"
    return f"{word} inside a layer's own code, at '{path or layer.name}'"
