"""The outputs of a model's layers on one batch, and the loss of it or why there is none."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from recipes.probe.layout import Watched

_MOST = 2000


class SeenLayers:
    """What passes through the layers of a model, in forward order.

    Args:
        watched: Layers to look at.

    Attributes:
        entries: list of `(watched, first input or None, output)`, of layers with one output of floats.
        compiling: Seconds that went into compiling.
        loss: Of the batch, or None where there is none.
        strangers: Shapes of variables that took part and are none of the model's; known on TensorFlow alone.
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
        """Forget what was seen, and add these tensors to the outputs from now on; None adds nothing."""
        self.entries, self._added, self._trace = [], added, trace_state()

    def hooks(self) -> list[tuple[Any, str, Callable]]:
        """For `recipes.common.patching.wrapped`."""
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
            return hasattr(tensor, "numpy")  # eager on TensorFlow: what a loop holds is not
        return self._trace == trace_state()


def trace_state() -> Any:
    """What JAX is tracing, to be compared; None on another backend."""
    if keras.backend.backend() != "jax":
        return None
    from jax.extend.core import get_opaque_trace_state  # noqa: PLC0415 - an optional library

    return get_opaque_trace_state()


def loss_or_why(
    model: keras.Model, inputs: Any, labels: Any, outputs: Any, weights: Any, silent: str
) -> tuple[Any, str]:
    """`(loss, "")`, or `(None, half a sentence)` where there is none or it cannot be computed."""
    if silent:
        return None, silent
    try:
        loss = model.compute_loss(x=inputs, y=labels, y_pred=outputs, sample_weight=weights, training=True)
    except Exception as error:  # whatever a loss makes of labels that it does not expect
        return None, f"the loss cannot be computed ({short(error)})"
    return loss, ""


def short(error: BaseException) -> str:
    """What an error says, in one line of at most 160 letters, without TensorFlow's trace of its graph."""
    text = str(error).split("[Op:")[0].split("{{")[-1].split("}}")[-1]
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:160].rstrip(". ")
