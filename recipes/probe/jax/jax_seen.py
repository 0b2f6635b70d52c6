"""What the hooks caught during one step on JAX, and how it leaves the transformations in which it was caught."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras

from recipes.common import optimizers
from recipes.common.lazy_jax import jax, jax_core
from recipes.common.patching import wrapped
from recipes.probe.calls import MOST_CALLS, Call, numbered
from recipes.probe.jax import jax_measure as measure
from recipes.probe.layout import Watched


class _Frame:
    """What was caught in one function that JAX traces; it may leave that function as an output only."""

    def __init__(self) -> None:
        self.trace = jax_core.get_opaque_trace_state()
        self.outputs: list[tuple[Watched, list[jax.Array]]] = []
        self.loss: list[jax.Array] = []

    def arrays(self) -> tuple[list[list[jax.Array]], list[jax.Array]]:
        """All arrays, cut off from differentiation."""
        held = ([arrays for _, arrays in self.outputs], self.loss)
        return jax.tree.map(jax.lax.stop_gradient, held)


class Seen:
    """Outputs of layers, the loss and the gradients of one training step.

    A value inside `jax.grad` belongs to that transformation and may not be used outside it. So while a step is looked
    at, `jax.grad` and `jax.value_and_grad` hand on what was caught inside as an auxiliary output. Values in other
    transformations (the body of a loop, recomputed memory) are left alone, and `unseen` names them.
    """

    def __init__(self) -> None:
        self.gradient: dict[int, Any] = {}
        self.optimizers: list[keras.optimizers.Optimizer] = []
        self.scale: Any = 1.0
        self.writes: Any = True
        self.loss_scaled = False
        self.fault: Exception | None = None
        self._frames = [_Frame()]
        self._count: dict[str, int] = {}
        self._unseen: dict[str, str] = {}

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Let `jax.grad` and `jax.value_and_grad`, called by this thread, hand on what is caught inside them."""
        import jax as itself  # noqa: PLC0415 - what is set on the lazy module reaches nobody

        with wrapped([(itself, "value_and_grad", self._handing_on), (itself, "grad", self._grad_alone)]):
            yield

    def output(self, watched: Watched, output: Any) -> None:
        """Take a layer's output, when its arrays live in the function that is traced here."""
        arrays = [array for array in keras.tree.flatten(output) if measure.is_float(array)]
        if not arrays:
            return
        loops = hasattr(watched.operation, "state_size") and not isinstance(
            watched.operation, keras.layers.RNN
        )
        if loops or self._frames[-1].trace != jax_core.get_opaque_trace_state():
            self._unseen[watched.name] = "runs inside a loop, a condition or recomputed memory"
        elif self._count.get(watched.name, 0) >= MOST_CALLS:
            self._unseen[watched.name] = (
                f"is called often in one step: only its first {MOST_CALLS} calls are seen"
            )
        else:
            self._count[watched.name] = self._count.get(watched.name, 0) + 1
            self._frames[-1].outputs.append((watched, arrays))

    def gradients(
        self, optimizer: keras.optimizers.Optimizer, state: list[Any], gradients: list[Any]
    ) -> None:
        """Take the gradients as they reach the optimizer, whose variables have the values `state`."""
        if self._frames[-1].trace != jax_core.get_opaque_trace_state():
            return  # in a branch of a condition
        variables = optimizers.known_variables(optimizer)
        self.gradient |= {id(v): g for v, g in zip(variables, gradients, strict=True)}
        self.optimizers += [optimizer] if optimizer not in self.optimizers else []
        self.loss_scaled |= optimizers.is_dynamically_scaled(optimizer)
        with keras.StatelessScope(list(zip(optimizer.variables, state, strict=True))):
            self.scale = optimizers.loss_scale(optimizer)
            self.writes = optimizers.writes(optimizer)

    def take_loss(self, loss: Any, labels: Any, predictions: Any) -> None:
        """Take the loss of the step."""
        if self._frames[-1].trace == jax_core.get_opaque_trace_state():
            self._frames[-1].loss = [loss]

    @property
    def loss(self) -> Any:
        """The loss of the step, or None where nothing computed it by `model.compute_loss`."""
        return next(iter(self._frames[0].loss), None)

    def calls(self) -> list[Call]:
        """The calls in forward order, see `recipes.probe.calls.numbered`."""
        return numbered(self._frames[0].outputs)

    def unseen(self) -> list[str]:
        """Sentences that name what was out of reach."""
        return [f"{name} {why}" for name, why in self._unseen.items()]

    def _handing_on(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def value_and_grad(fun, argnums=0, has_aux=False, **options):
            frame = []

            def caught(*args, **kwargs):
                self._frames.append(_Frame())
                try:
                    out = fun(*args, **kwargs)
                finally:
                    frame.append(self._frames.pop())
                value, aux = out if has_aux else (out, None)
                return value, (aux, frame[-1].arrays())

            differentiate = original(caught, argnums, has_aux=True, **options)

            def call(*args, **kwargs):
                (value, (aux, (outputs, loss))), grads = differentiate(*args, **kwargs)
                inside, outside = frame[-1], self._frames[-1]
                watched = [one for one, _ in inside.outputs]
                outside.outputs += list(zip(watched, outputs, strict=True))
                outside.loss = loss or outside.loss
                return ((value, aux) if has_aux else value), grads

            return call

        return value_and_grad

    def _grad_alone(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def grad(fun, argnums=0, has_aux=False, **options):
            both = jax.value_and_grad(fun, argnums, has_aux, **options)

            def call(*args, **kwargs):
                value, grads = both(*args, **kwargs)
                return (grads, value[1]) if has_aux else grads

            return call

        return grad
