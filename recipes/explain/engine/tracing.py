"""Run a model and read or replace the outputs of its layers; keep traces as long as the model lives.

A layer is reached by replacing its `call` while the model runs (or is traced). So nested, subclassed and shared layers
are all reached in the same way, also where a sub-model cannot be built. The replacements are removed when the call
returns.

    capture(model, inputs, calls)       the activations of given layers, stopping at the last of them
    tapped, recording, intercepted      the same as `with` blocks, which nest; run the model inside them in any way
    evaluate(model, function, tensors)  `function(model, *tensors)` compiled once with a dynamic batch
"""

import contextlib
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from recipes.common.patching import wrapped
from recipes.common.traversal import walk
from recipes.common.validation import is_whole
from recipes.explain.engine import dataflow, layer_lookup
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.model_state import ModelState

_records = weakref.WeakKeyDictionary()


class Record:
    """The results that are kept for one model: traces, heads, warnings given."""

    def __init__(self) -> None:
        self.traces = {}
        self.heads = {}
        self.units = {}
        self.defaults = {}
        self.layouts = {}
        self.warned = set()
        self.eager = False
        self.state = None

    def refresh(self, model: keras.Model) -> None:
        """Discard what was found about the model if the model has changed since then."""
        if self.state is None or not self.state.holds(model):
            self.state = self.state or ModelState(model)
            self.eager = False
            for known in (self.traces, self.heads, self.units, self.defaults, self.layouts):
                known.clear()


class Reached(BaseException):
    """All requested layers were called. Not an Exception, because Keras wraps those and models may catch them."""


def record_of(model: keras.Model) -> Any:
    """The `Record` of a model; it is freed together with the model."""
    return _records.setdefault(model, Record())


def evaluate(
    model: keras.Model,
    function: Callable[..., Any],
    tensors: Sequence[Any],
    *,
    compile: Any = "auto",
    shapes: Sequence[Any] | None = None,
    **static: Any,
) -> Any:
    """Run `function(model, *tensors, **static)`, traced once per model, function, static arguments and shapes.

    The first axis of every tensor is the batch and stays dynamic in the trace, so a new batch size needs no
    new trace. The cache has a weak reference to the model. `static` values must be hashable and must not hold a model
    or a layer (`layer_lookup.LayerCall` has a weak reference to its layer).

    Args:
        model: A built `keras.Model`.
        function: A plain function of a `keras.Model` and tensors, which calls `forward` or `capture`.
        tensors: List of tensors or arrays of rank >= 1, batch first.
        shapes: The shape of each tensor in the trace, with None for an axis that may vary from call to call. None
            means that only the batch varies.
        compile: `"auto"` traces, and runs a model that cannot be traced eagerly, with one warning. True raises for
            such a model. False always runs eagerly.

    Returns:
        The result of `function`, as eager tensors.

    Raises:
        UsageError: when TensorFlow cannot differentiate channels-first convolutions on this processor, or cannot run
            flash attention.
    """
    try:
        return _evaluate(model, function, tensors, compile, shapes, static)
    except ValueError as error:
        if "lash attention is not supported" not in str(error):
            raise
        raise UsageError(
            f"explain expects attention that TensorFlow can run. '{model.name}' has flash attention, which only Keras' "
            "JAX and PyTorch backends have. Leave out flash_attention=True where its layers are made (a model that "
            "was saved and loaded has none); the weights stay the same."
        ) from error
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
        if "only supports NHWC" not in str(error):
            raise
        raise UsageError(
            f"explain expects convolutions that TensorFlow can differentiate on this processor. '{model.name}' has "
            "channels-first ones, whose gradient needs oneDNN, which is off here. Set TF_ENABLE_ONEDNN_OPTS=1 before "
            "importing tensorflow, or build the model with data_format='channels_last'."
        ) from error


def _evaluate(model, function, tensors, compile, shapes, static):
    record = record_of(model)
    record.refresh(model)
    if compile not in (True, False, "auto"):
        raise UsageError(
            f"explain expects compile to be 'auto', True or False. Received {compile!r}. Leave it out for 'auto'."
        )
    tensors = [tf.convert_to_tensor(tensor) for tensor in tensors]
    if compile is False or (compile == "auto" and (record.eager or getattr(model, "run_eagerly", False))):
        with dataflow.watching():
            return function(model, *tensors, **static)
    shapes = shapes or [(None, *tensor.shape[1:]) for tensor in tensors]
    signature = tuple(
        tf.TensorSpec(shape, tensor.dtype) for shape, tensor in zip(shapes, tensors, strict=True)
    )
    key = (function, tuple(sorted(static.items())), signature)
    if key not in record.traces:
        try:
            record.traces[key] = _trace(model, function, signature, static)
            record.state.settle(model)
        except (UsageError, Warning):  # a warning where the user has made warnings errors
            raise
        except Exception as error:
            if compile is True:
                raise
            with dataflow.watching():
                result = function(
                    model, *tensors, **static
                )  # an error that is not about tracing is raised here
            record.eager = True
            warn_once(
                model,
                "eager",
                f"explain expects a model that can be traced into a graph. '{model.name}' cannot be "
                f"({type(error).__name__}: {str(error).strip().splitlines()[0]}), so it runs eagerly, which "
                "is slower. Write its call with keras.ops, or pass compile=False to turn this warning off.",
            )
            return result
    return record.traces[key](*tensors)


def forget(model: keras.Model, value: Any) -> None:
    """Delete the traces that have `value` among their static arguments, if it will not be used again."""
    traces = record_of(model).traces
    for key in [key for key in traces if any(static == value for _, static in key[1])]:
        del traces[key]


def forward(model: keras.Model, inputs: Any, *, taps: Mapping[Any, Callable[..., Any]] | None = None) -> Any:
    """`model(inputs, training=False)` with `taps` on some of its operations (see `tapped`)."""
    with tapped(taps or {}):
        return model(inputs, training=False)


def capture(model: keras.Model, inputs: Any, calls: Sequence[Any], *, stop: bool = False) -> Any:
    """Run the model and return what the layers of `calls` returned.

    Args:
        model: A built `keras.Model`.
        inputs: The structure of tensors the model takes.
        calls: List of `layer_lookup.LayerCall`.
        stop: True stops as soon as all calls were made, so nothing above is computed; the outputs are
            then None. If only the whole pass can tell that a call was the last, the pass continues.

    Returns:
        `(outputs, activations)`: the model's outputs (None when stopped), one tensor per call.
    """
    with recording(calls, stop=stop) as recorder:
        try:
            outputs = forward(model, inputs)
        except Reached:
            outputs = None
    return outputs, recorder.activations()


@contextlib.contextmanager
def recording(
    calls: Sequence[Any], *, on_output: Callable[..., Any] | None = None, stop: bool = False
) -> Iterator[Any]:
    """Record what the layers of `calls` return while the block runs the model (nests freely).

    Args:
        calls: List of `layer_lookup.LayerCall`.
        on_output: Function that is called with each candidate tensor, such as `tape.watch`.
        stop: As in `capture`; the caller then has to catch `Reached`.

    Yields:
        A recorder, whose `activations()` gives one tensor per call after the block.
    """
    recorder = _Recorder(calls, on_output, stop)
    with tapped({call.operation: recorder.tap(call.path) for call in calls}):
        yield recorder


@contextlib.contextmanager
def tapped(taps: Mapping[Any, Callable[..., Any]] | None) -> Iterator[Any]:
    """While the block runs, call `taps[operation](output)` for each output of the operation.

    The result of the tap replaces the output, unless it is None.
    """

    def wrapper(tap):
        def wrap(call):
            def stand_in(*args, **kwargs):
                output = call(*args, **kwargs)
                replacement = tap(output)
                return output if replacement is None else _in_place_of(output, replacement)

            return stand_in

        return wrap

    with intercepted({operation: wrapper(tap) for operation, tap in taps.items()}):
        yield


@contextlib.contextmanager
def surveying(model: keras.Model, *, on_output: Callable[..., Any] | None = None) -> Iterator[Any]:
    """Yield a list that collects `(Node, tensor)` of every layer that returns one float tensor in the block."""
    survey = []

    def tap_of(node):
        def tap(output):
            flat = _tensors(output)
            reachable = tf.executing_eagerly() or (
                getattr(flat[0], "graph", None) is tf.compat.v1.get_default_graph() if flat else False
            )
            if len(flat) == 1 and reachable and tf.as_dtype(flat[0].dtype).is_floating:
                if on_output:
                    on_output(flat[0])
                survey.append((node, flat[0]))

        return tap

    with tapped({node.operation: tap_of(node) for node in walk(model)}):
        yield survey


def single(output: Any, path: str) -> Any:
    """The only tensor of a layer's output; raises if there are several or it belongs to another graph."""
    flat = _tensors(output)
    if len(flat) != 1:
        raise UsageError(
            f"explain expects layer '{path}' to return one tensor. It returned {len(flat)}. "
            "Choose a layer inside it, as 'outer/inner'."
        )
    if not tf.executing_eagerly() and getattr(flat[0], "graph", None) is not tf.compat.v1.get_default_graph():
        raise UsageError(
            f"explain expects layer '{path}' to run in the model's own graph. It runs inside a loop or a "
            "tf.function of its own, whose tensors cannot be reached. Choose the layer around it."
        )
    return flat[0]


def _tensors(output):
    """The tensors that a layer returned, flat, without a None for attention scores that were not requested."""
    return [one for one in keras.tree.flatten(output) if one is not None]


def _in_place_of(output, replacement):
    """Replace the only tensor in the output of a layer."""
    if tf.is_tensor(output) or not tf.is_tensor(replacement):
        return replacement
    return keras.tree.map_structure(lambda one: None if one is None else replacement, output)


def intercepted(wrappers: Mapping[Any, Callable[..., Any]]) -> Any:
    """Replace each operation's `call` by `wrappers[operation](call)`, in this thread, until the block ends."""
    return wrapped(
        [
            (operation, name, wrap)
            for operation, wrap in wrappers.items()
            for name in ("call", "quantized_call")
            if name == "call" or getattr(operation, "quantization_mode", None)
        ]
    )


def warn_once(model: keras.Model, key: Any, message: str) -> None:
    """Warn the first time that `key` occurs for this model."""
    warned = record_of(model).warned
    if key not in warned:
        warned.add(key)
        warnings.warn(message, stacklevel=2)


def default_layer(model: keras.Model, spec: Any) -> Any:
    """The last feature map below a target if a pass has found it, otherwise None."""
    return record_of(model).defaults.get(spec)


def remember_default(model: keras.Model, spec: Any, call: Any) -> None:
    """Store the feature map that `default_layer` returns."""
    record_of(model).defaults[spec] = call


def chunks(count: int, size: int) -> Any:
    """`(start, stop)` pairs that divide `count` evaluations into pieces of at most `size`."""
    if not is_whole(size) or size < 1:
        raise ValueError(
            f"recipes.explain expects batch_size to be a whole number, at least 1. Received {size!r}. It limits the "
            "memory; 64 suits most machines."
        )
    return [(start, min(start + size, count)) for start in range(0, count, size)]


def array(tensor: Any) -> Any:
    """A numpy float32 view of an eager tensor, without a copy if possible."""
    return np.asarray(tensor, dtype="float32")


def _trace(model, function, signature, static):
    reference = weakref.ref(model)

    def traced(*arguments):
        return function(reference(), *arguments, **static)

    # Without AutoGraph, like Keras' own predict.
    return tf.function(traced, autograph=False, input_signature=signature).get_concrete_function()


class _Recorder:
    def __init__(self, calls, on_output, stop):
        self.calls, self.on_output = list(calls), on_output
        self.stop = stop and all(call.last for call in calls)
        self.seen = {call.path: [] for call in calls}

    def tap(self, path):
        def see(output):
            tensor = single(output, path)
            if self.on_output:
                self.on_output(tensor)
            self.seen[path].append(tensor)
            if self.stop and all(len(self.seen[call.path]) > (call.index or 0) for call in self.calls):
                raise Reached

        return see

    def activations(self):
        return [_choose(call, self.seen[call.path]) for call in self.calls]


def _choose(call, outputs):
    if not outputs:
        raise UsageError(
            f"explain expects layer '{call.path}' to be called by the model's forward pass. It was never called. "
            "Choose a layer that inference uses."
        )
    if call.index is None and len(outputs) > 1:
        raise layer_lookup.several_calls("explain", call.path, len(outputs))
    index = 0 if call.index is None else call.index
    if not -len(outputs) <= index < len(outputs):
        raise UsageError(
            f"explain expects call_index to be one of the {len(outputs)} calls of layer '{call.path}'. "
            f"Received call_index={call.index}. Count from 0, or leave it out for a layer called once."
        )
    return outputs[index]
