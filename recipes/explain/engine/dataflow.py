"""Find which operation made a tensor, and from which inputs: from the graph, or from a record of an eager pass.

    with dataflow.watching():            # for eager passes only; a graph keeps its operations
        outputs = model(images)
        dataflow.made(outputs)           # Made(type="Softmax", inputs=(logits,), ...)

`Flow` tells which operations lie between two tensors, and which of them lie on every path between the two.
"""

import contextlib
import dataclasses
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

# The way in which TensorFlow's debugger sees eager operations; there is no public way.
from tensorflow.python.framework import op_callbacks

_recorders = threading.local()
# Results of other operations with more values per example than this are not recorded in eager passes.
_LARGEST_KEPT = 65536
_KEPT = ("Softmax", "LogSoftmax", "Cast", "Identity", "Reshape", "Squeeze", "ExpandDims", "Transpose")
# Products of two batches of matrices, such as attention makes with its values.
PRODUCTS = ("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum", "XlaDotV2")
# These read shapes only, so no value flows through them.
_SHAPES = ("Shape", "ShapeN", "Rank", "Size", "ZerosLike", "OnesLike", "StopGradient")


@dataclasses.dataclass(frozen=True)
class Made:
    """How a tensor was made.

    Args:
        type: The operation's type, such as "Softmax".
        inputs: Its input tensors.
        attribute: From an attribute's name to its value.
        place: Position of the tensor among the operation's outputs.
        outputs: Number of outputs of the operation.
        output: The tensor itself, if the caller needs it; otherwise None.
    """

    type: str
    inputs: tuple
    attribute: Callable
    place: int = 0
    outputs: int = 1
    output: object = None


def made(tensor: Any) -> Any:
    """The `Made` of a tensor; None if it is not known (eager and not watched)."""
    if not isinstance(tensor, tf.__internal__.EagerTensor):
        operation = tensor.op
        return Made(
            operation.type,
            tuple(operation.inputs),
            operation.get_attr,
            tensor.value_index,
            len(operation.outputs),
        )
    recorder = getattr(_recorders, "current", None)
    return recorder.made(tensor) if recorder else None


@contextlib.contextmanager
def watching() -> Iterator[Any]:
    """Record how eager tensors are made while the block runs (in this thread only)."""
    before = getattr(_recorders, "current", None)
    _recorders.current = _Recorder()
    op_callbacks.add_op_callback(_recorders.current.see)
    try:
        yield
    finally:
        op_callbacks.remove_op_callback(_recorders.current.see)
        _recorders.current = before


class Flow:
    """The operations of the pass that is being traced or watched, in the order they were made.

    Args:
        source: The tensor at the start.
        sinks: The tensors at the end.
    """

    def __init__(self, source: Any, sinks: Any) -> None:
        if isinstance(sinks[0], tf.__internal__.EagerTensor):
            recorder = getattr(_recorders, "current", None)
            self._number = recorder.number if recorder else lambda _: None
            self._steps = recorder.steps if recorder else []
            start, first = self._number(source), -1
        else:
            operations = sinks[0].graph.get_operations()
            numbers = {operation.name: number for number, operation in enumerate(operations)}
            self._number = lambda tensor: numbers.get(tensor.op.name)
            self._steps = [_step(operation, numbers) for operation in operations]
            start, first = self._number(source), self._number(source)
        self._start = start
        ends = {self._number(sink) for sink in sinks} - {None}
        self.between = self._between(start, first, ends)
        self._last = self._last_uses(ends)

    def passes(self, tensor: Any) -> Any:
        """Whether the tensor lies between source and sinks."""
        return self._number(tensor) in self.between

    def must_pass(self, tensor: Any) -> Any:
        """Whether every path from the source to the sinks contains the operation that made the tensor."""
        number = self._number(tensor)
        return number in self.between and self._last.get(number, -1) <= number

    def types_behind(self, tensor: Any) -> Any:
        """The types of the operations between the tensor and the sinks."""
        start = self._number(tensor)
        reached, found = {start}, set()
        for number in sorted(one for one in self.between if one > start):
            if reached & set(self._steps[number][1]):
                reached.add(number)
                found.add(self._steps[number][0])
        return found

    def attends(self, tensor: Any, end: Any = None) -> bool:
        """Whether attention lies between the tensor and `end`, or the sinks: a softmax, then a product with it."""
        start, stop = self._number(tensor), len(self._steps) if end is None else self._number(end)
        reached, weighted = {start}, set()
        for number in sorted(one for one in self.between if start < one <= stop):
            kind, inputs = self._steps[number]
            if not weighted.isdisjoint(inputs):
                if kind in PRODUCTS:
                    return True
                weighted.add(number)
            if not reached.isdisjoint(inputs):
                reached.add(number)
                if kind == "Softmax":
                    weighted.add(number)
        return False

    def slice_of(self, tensor: Any, axes_of: Callable) -> Any:
        """The index along the source's second axis from which the tensor is made; None if there is not exactly one.

        Args:
            tensor: Any tensor of the pass.
            axes_of: Function that gives for each axis of a tensor its `Axis` in the source (see `moved_axes`), or None.
        """
        waiting, seen, found = [tensor], set(), set()
        while waiting:
            here = waiting.pop()
            made_from = made(here)
            if made_from is None:
                return None
            for one in made_from.inputs:
                number = self._frame(made_from, one, axes_of)
                if number is not None:
                    found.add(number)
                elif one.dtype.is_floating and id(one) not in seen and self.passes(one):
                    seen.add(id(one))
                    waiting.append(one)
        return found.pop() if len(found) == 1 else None

    def _frame(self, made_from, tensor, axes_of):
        """The index of the frame that an operation takes from a tensor of frames; None for any other operation."""
        if made_from.type not in ("Unpack", "GatherV2", "StridedSlice") or tensor is not made_from.inputs[0]:
            return None
        axes = axes_of(tensor) if self._number(tensor) == self._start or self.passes(tensor) else None
        for place, axis in enumerate(axes or []):
            if axis is not None and axis.source == 1 and _slice(made_from, place) is not None:
                return round(axis.start + axis.step * _slice(made_from, place))
        return None

    def _between(self, start, first, ends):
        """Numbers of the steps that depend on the source and that a sink depends on."""
        if start is None:
            return set()
        reached = {start}
        for number in range(first + 1, len(self._steps)):
            kind, inputs = self._steps[number]
            if kind not in _SHAPES and not reached.isdisjoint(inputs):
                reached.add(number)
        needed = set(ends)
        for number in range(len(self._steps) - 1, -1, -1):
            if number in needed:
                needed.update(self._steps[number][1])
        return (reached & needed) | ({start} if start in needed else set())

    def _last_uses(self, ends):
        """For each step, the last use of anything made before it; a later use is a path around the step."""
        last, latest = {}, -1
        final = max(ends, default=-1)
        uses = {}
        for number in sorted(self.between):
            for one in self._steps[number][1]:
                if one in self.between and self._steps[number][0] not in _SHAPES:
                    uses[one] = max(uses.get(one, -1), number)
        for number in sorted(self.between):
            last[number] = latest
            latest = max(latest, uses.get(number, -1), final if number in ends else -1)
        return last


def _slice(made_from, axis):
    """The index that an operation takes along an axis; None for any other operation."""
    if made_from.type == "Unpack":
        return made_from.place if made_from.attribute("axis") == axis else None
    if made_from.type == "GatherV2":
        number, along = map(tf.get_static_value, made_from.inputs[1:3])
        return int(number) if along == axis and number is not None and np.ndim(number) == 0 else None
    if made_from.type == "StridedSlice" and made_from.attribute("shrink_axis_mask") == 1 << axis:
        begin = tf.get_static_value(made_from.inputs[1])
        return None if begin is None else int(begin[axis])
    return None


def _step(operation, numbers):
    """`(type, input numbers)` of a graph operation; only float tensors, and lists of them, carry a gradient."""
    return operation.type, tuple(
        numbers[tensor.op.name]
        for tensor in operation.inputs
        if tensor.dtype.is_floating or tensor.dtype == tf.variant or tensor.op.type == "Placeholder"
    )


class _Recorder:
    """Sees every eager operation. It keeps small inputs, and of all others only their numbers."""

    def __init__(self):
        self.steps = []
        self._numbers = {}
        self._made = {}

    def see(self, kind, inputs, attributes, outputs, op_name=None, graph=None):  # noqa: ARG002 - as TensorFlow calls it
        if graph is not None or not outputs:
            return
        kind = kind.decode() if isinstance(kind, bytes) else kind
        numbers = tuple(self._ensure(one) for one in inputs if one.dtype.is_floating)
        number = len(self.steps)
        self.steps.append((kind, numbers))
        named = dict(zip(attributes[::2], attributes[1::2], strict=False))
        for place, output in enumerate(outputs):
            self._numbers[id(output)] = (weakref.ref(output), number)
            size = output.shape.num_elements() or 0
            if kind in _KEPT or size <= _LARGEST_KEPT * max(1, output.shape[0] if output.shape.rank else 1):
                made = Made(kind, tuple(inputs), named.get, place, len(outputs))
                self._made[id(output)] = (weakref.ref(output), made)

    def made(self, tensor):
        entry = self._made.get(id(tensor))
        return entry[1] if entry and entry[0]() is tensor else None

    def number(self, tensor):
        entry = self._numbers.get(id(tensor))
        return entry[1] if entry and entry[0]() is tensor else None

    def _ensure(self, tensor):
        """The number of a tensor; a tensor from outside gets a new number."""
        number = self.number(tensor)
        if number is None:
            number = len(self.steps)
            self.steps.append(("Outside", ()))
            self._numbers[id(tensor)] = (weakref.ref(tensor), number)
        return number
