"""What a training step has to compute and to keep: operations, bytes and activations, from the graph."""

import time
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from recipes.data.packed import free_memory

# A backward pass computes two products for each of the forward pass: by the inputs and by the weights.
_TRAINING = 3


@dataclass(frozen=True)
class Machine:
    """What this machine does at best, measured.

    Attributes:
        flops: Floating-point operations a second, in a product of two float32 matrices of 1024 x 1024.
        bandwidth: Bytes a second, read and written, adding one to 64 MB.
        memory: Bytes that are free.
    """

    flops: float
    bandwidth: float
    memory: float


@dataclass(frozen=True)
class Work:
    """What the graph of the model says of one training step. All of it is an estimate.

    Attributes:
        flops: Floating-point operations of products and convolutions, forward and backward, a batch.
        bytes: Bytes read and written, if every operation read its inputs and wrote its outputs once.
        activations: Bytes of outputs that the backward pass needs, an example.
        weights: Bytes of all weights.
        optimizer: Bytes of the optimizer's variables.
        gradients: Bytes of the gradients.
        batch: Examples in the batch.
    """

    flops: float
    bytes: float
    activations: float
    weights: float
    optimizer: float
    gradients: float
    batch: int

    def best_seconds(self, machine: Machine) -> float:
        """The time below which no step can be on this machine: computing at its peak, or moving the bytes."""
        return max(self.flops / machine.flops, self.bytes / machine.bandwidth)

    def largest_batch(self, machine: Machine) -> int:
        """Examples that fit into the free memory beside weights, gradients and optimizer, a tenth left over."""
        fixed = self.weights + self.gradients + self.optimizer
        return max(0, int((0.9 * machine.memory - fixed) / max(self.activations, 1.0)))


def measure_machine() -> Machine:
    """Measure this machine's peak for about a fifth of a second."""
    matrix, row = tf.random.normal((1024, 1024)), tf.zeros(16 * 2**20)
    flops = 2 * 1024**3 / _fastest(tf.function(lambda: tf.matmul(matrix, matrix)))
    bandwidth = 2 * 64 * 2**20 / _fastest(tf.function(lambda: row + 1.0))
    return Machine(flops, bandwidth, float(free_memory()))


def _fastest(function):
    function()
    best = np.inf
    for _ in range(5):
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best


def work_of(model: keras.Model, inputs: Any) -> Work | None:
    """Read the graph of the model's forward pass on a batch; None where it cannot be traced.

    Args:
        model: Built and compiled.
        inputs: One batch of inputs, tensors or a structure of them.
    """
    specs = tf.nest.map_structure(lambda one: tf.TensorSpec(one.shape, one.dtype), inputs)
    try:
        forward = tf.function(lambda given: model(given, training=True), autograph=False)
        graph = forward.get_concrete_function(specs).graph
    except (TypeError, ValueError, tf.errors.OpError):
        return None
    batch = int(tf.nest.flatten(inputs)[0].shape[0])
    flops = moved = kept = 0.0
    for operation in graph.get_operations():
        flops += _flops(operation)
        outputs = sum(_bytes(tensor) for tensor in operation.outputs if tensor.dtype.is_floating)
        if operation.type not in ("Placeholder", "Const", "ReadVariableOp", "Identity", "Reshape"):
            moved += outputs + sum(_bytes(tensor) for tensor in operation.inputs if tensor.dtype.is_floating)
            kept += outputs
    weights, trained, slots = (
        float(sum(np.prod(one.shape) * tf.as_dtype(one.dtype).size for one in variables))
        for variables in (model.weights, model.trainable_weights, model.optimizer.variables)
    )
    # Weights are read, their gradients written, and the optimizer reads and writes its own and them.
    moved = _TRAINING * moved + 3 * trained + 2 * slots
    return Work(_TRAINING * flops, moved, kept / max(batch, 1), weights, slots, trained, batch)


def _flops(operation):
    shapes = [tensor.shape for tensor in operation.inputs]
    if not operation.outputs or not operation.outputs[0].shape.is_fully_defined():
        return 0.0
    if not all(shape.is_fully_defined() for shape in shapes):
        return 0.0
    outputs = float(np.prod(operation.outputs[0].shape.as_list() or [1]))
    if operation.type in ("MatMul", "BatchMatMul", "BatchMatMulV2"):
        turned = operation.get_attr("transpose_a" if operation.type == "MatMul" else "adj_x")
        return 2 * outputs * shapes[0].as_list()[-2 if turned else -1]
    if operation.type in ("Conv2D", "Conv3D"):
        return 2 * outputs * float(np.prod(shapes[1].as_list()[:-1]))
    if operation.type == "DepthwiseConv2dNative":
        return 2 * outputs * float(np.prod(shapes[1].as_list()[:2]))
    if operation.type == "Einsum" and len(shapes) == 2:
        left, right, result = _letters(operation)
        sizes = dict(zip(left, shapes[0].as_list(), strict=False)) | dict(
            zip(right, shapes[1].as_list(), strict=False)
        )
        return 2 * outputs * float(np.prod([sizes[one] for one in {*left, *right} - set(result)] or [1]))
    return 0.0


def _letters(operation):
    equation = operation.get_attr("equation").decode()
    inputs, _, result = equation.partition("->")
    left, _, right = inputs.partition(",")
    return left, right, result


def _bytes(tensor):
    shape = tensor.shape
    return float(np.prod(shape.as_list() or [1])) * tensor.dtype.size if shape.is_fully_defined() else 0.0
