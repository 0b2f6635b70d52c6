"""What a training step computes and keeps in memory: operations, bytes and activations, read from the graph."""

import time
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from recipes.data.packed import free_memory

# For each product of the forward pass, the backward pass computes two: the gradients of its inputs and of its weights.
_TRAINING = 3


@dataclass(frozen=True)
class Machine:
    """The measured peak performance of this machine.

    Attributes:
        flops: Floating-point operations per second, in a product of two float32 matrices of 1024 x 1024.
        bandwidth: Bytes read and written per second, while 1 is added to an array of 64 MB.
        memory: Free memory in bytes.
    """

    flops: float
    bandwidth: float
    memory: float


@dataclass(frozen=True)
class Work:
    """What one training step takes, estimated from the graph of the model.

    Attributes:
        flops: Floating-point operations of products and convolutions, forward and backward, per batch.
        bytes: Bytes read and written per batch, if every operation reads its inputs and writes its outputs once.
        activations: Bytes of outputs that the backward pass needs, per example.
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
        """Lower bound of the seconds per step on this machine: computing at peak or moving the bytes, the longer."""
        return max(self.flops / machine.flops, self.bytes / machine.bandwidth)

    def largest_batch(self, machine: Machine) -> int:
        """Examples that fit into nine tenths of the free memory, beside weights, gradients and optimizer."""
        fixed = self.weights + self.gradients + self.optimizer
        return max(0, int((0.9 * machine.memory - fixed) / max(self.activations, 1.0)))


def measure_machine() -> Machine:
    """Measure this machine's peak performance, which takes about a fifth of a second."""
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
    """Estimate the work of a training step from the graph of the model's forward pass on a batch.

    Args:
        model: Built and compiled.
        inputs: One batch of inputs, a tensor `(batch, ...)` or a structure of them.

    Returns:
        `Work`; None where the forward pass cannot be traced.
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
    # Weights are read, their gradients are written, and the optimizer reads and writes its variables and the weights.
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
