"""Read a tensor of the training step without changing how TensorFlow optimizes the step."""

from collections.abc import Container

import tensorflow as tf

# Grappler reassociates and merges these (its stages MinimizeBroadcasts, AddOpsRewrite, HoistCommonFactor), but only
# where a result has a single consumer. One more consumer would change the rounding of the update itself.
_REARRANGED = frozenset(
    "Mul Add AddV2 AddN Sub Neg RealDiv Div Cast Reshape Squeeze ExpandDims Transpose Identity Square Rsqrt".split()
)
_ACTIVATIONS = frozenset(
    "BiasAdd Relu Relu6 Elu Selu LeakyRelu Tanh Sigmoid Softplus Softsign Erf Exp".split()
)
# These read a shape, not numbers, and are folded away.
_SHAPES_ONLY = frozenset("Shape ShapeN Size Rank ZerosLike OnesLike".split())
_DEEPEST = 12


def visible(tensor: tf.Tensor, outputs: Container[int] = ()) -> tf.Tensor:
    """The first tensor from this one onwards that can be read without disturbing the step.

    A result with one reader is merged into that reader where that is possible (a matrix product with its bias and
    its tanh become one kernel with its own rounding). A second reader would prevent that. So the only reader is
    followed until there are two, usually at the activation after a linear layer. What is not finite before is not
    finite there either, except for an infinite number that the activation bounds, or a NaN that a ReLU drops. The
    model's own outputs are read where they are, because the loss comes after them.

    Args:
        tensor: Output of a layer.
        outputs: The `id`s of the model's output tensors.
    """
    if tf.executing_eagerly():
        return tensor
    for _ in range(_DEEPEST):
        readers = _readers(tensor)
        if id(tensor) in outputs or len(readers) != 1 or readers[0].type not in _REARRANGED | _ACTIVATIONS:
            return tensor
        tensor = readers[0].outputs[0]
    return tensor


def _readers(tensor):
    readers = []
    for operation in tensor.consumers():
        if operation.type == "Identity":
            readers += _readers(operation.outputs[0])
        elif operation.type not in _SHAPES_ONLY:
            readers.append(operation)
    return readers


def separate_copy(tensor: tf.Tensor) -> tf.Tensor:
    """A tensor equal to this one whose elementwise operations are separate copies.

    It follows the tensor back through elementwise operations to the first operation of another kind (a matrix product,
    a convolution, a sum). It builds the chain a second time, marked so that the copies are not merged with the
    original. Reading the result then leaves the optimized form of the original, and so every bit of the training step,
    as it was. Outside a graph the tensor itself is returned.
    """
    if tf.executing_eagerly():
        return tensor
    return _copy(tensor, tf.compat.v1.get_default_graph(), {}, 0)


def _copy(tensor, graph, copies, depth):
    operation = tensor.op
    if operation.type not in _REARRANGED or depth > _DEEPEST or tensor.graph is not graph:
        return tensor
    if operation.name not in copies:
        inputs = [_copy(value, graph, copies, depth + 1) for value in operation.inputs]
        attributes = {**operation.node_def.attr, "_probe": tf.compat.v1.AttrValue(b=True)}
        with graph.control_dependencies(None):
            copies[operation.name] = graph.create_op(
                operation.type,
                inputs,
                [output.dtype for output in operation.outputs],
                name="probe/" + operation.name.replace("/", "_"),
                attrs=attributes,
            )
    return copies[operation.name].outputs[tensor.value_index]
