"""Record the outputs of a model's layers on one batch, and compute its loss or the reason why there is none."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from recipes.probe.layout import Watched

_MOST = 2000


class SeenLayers:
    """Records inputs and outputs of the layers of a model, in forward order.

    Args:
        watched: Layers to record.

    Attributes:
        entries: Tuples `(watched, first input or None, output)` for each call of a layer that has one output of floats.
        compiling: Seconds spent on compiling.
        loss: Loss of the batch, or None where there is none.
        strangers: Variables that were used but do not belong to the model; known only on TensorFlow.
    """

    def __init__(self, watched: Sequence[Watched]) -> None:
        self.watched = list(watched)
        self.entries: list[tuple[Watched, Any, Any]] = []
        self.compiling = 0.0
        self.loss: float | None = None
        self.strangers: list[Any] = []
        self._added: Sequence[Any] | None = None
        self._trace: Any = None

    def begin(self, added: Sequence[Any] | None) -> None:
        """Start a new recording.

        Args:
            added: One tensor per entry, which is added to the recorded output; None adds nothing.
        """
        self.entries, self._added, self._trace = [], added, trace_state()

    def hooks(self) -> list[tuple[Any, str, Callable]]:
        """The methods to wrap while the model runs, as `recipes.common.patching.wrapped` takes them."""
        return [(w.operation, "call", self._recording(w)) for w in self.watched]

    def _recording(self, watched):
        def wrap(original):
            def call(*args, **kwargs):
                output = original(*args, **kwargs)
                tensors = [t for t in keras.tree.flatten(output) if self._is_seen(t)]
                given = next((t for t in keras.tree.flatten((args, kwargs)) if self._is_seen(t)), None)
                if len(tensors) != 1 or len(self.entries) >= _MOST:
                    return output
                if self._added is not None:
                    more = self._added[len(self.entries)]
                    output = keras.tree.map_structure(lambda t: t + more if t is tensors[0] else t, output)
                    tensors = [t for t in keras.tree.flatten(output) if self._is_seen(t)]
                self.entries.append((watched, given, tensors[0]))
                return output

            return call

        return wrap

    def _is_seen(self, tensor):
        if not keras.ops.is_tensor(tensor) or "float" not in str(tensor.dtype):
            return False
        if self._trace is None:
            return hasattr(tensor, "numpy")  # eager tensors, but not those inside a TensorFlow loop
        return self._trace == trace_state()


def trace_state() -> Any:
    """The present trace of JAX, for comparison with another one; None on another backend."""
    if keras.backend.backend() != "jax":
        return None
    from jax.extend.core import get_opaque_trace_state  # noqa: PLC0415 - an optional library

    return get_opaque_trace_state()


def loss_or_why(
    model: keras.Model, inputs: Any, labels: Any, outputs: Any, weights: Any, silent: str
) -> tuple[Any, str]:
    """`(loss, "")`, or `(None, the reason as half a sentence)` where there is none or it cannot be computed.

    Args:
        model: The compiled model.
        inputs: Inputs of the batch.
        labels: Labels of the batch, or None.
        outputs: Outputs of the model for this batch.
        weights: Sample weights, or None.
        silent: A reason that is known already, which is returned; "" computes the loss.
    """
    if silent:
        return None, silent
    try:
        loss = model.compute_loss(x=inputs, y=labels, y_pred=outputs, sample_weight=weights, training=True)
    except Exception as error:  # with labels that a loss does not expect, it may raise anything
        return None, f"the loss cannot be computed ({short(error)})"
    return loss, ""


def short(error: BaseException) -> str:
    """The message of an error in one line of at most 160 characters, without TensorFlow's description of the graph."""
    text = str(error).split("[Op:")[0].split("{{")[-1].split("}}")[-1]
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:160].rstrip(". ")
