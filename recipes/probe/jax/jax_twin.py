"""Measures a training step on JAX: the model's own train function makes the step, and a second one looks into it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import keras
import numpy as np

from recipes.common.lazy_jax import jax, jnp
from recipes.common.patching import wrapped
from recipes.probe.calls import (
    RECTIFIERS,
    describe,
    is_wanted,
    loss_logs,
    optimizers_in,
    parts_of,
    variable_axis,
)
from recipes.probe.hooks import tapping_call, tapping_loss, tapping_stateless_apply
from recipes.probe.jax import jax_measure as measure
from recipes.probe.jax.jax_seen import Seen
from recipes.probe.layout import watched_layers


class Twin:
    """Makes a training step by the model's own train function, and reports what happened inside.

    On JAX a step is a pure function of state and batch. So a second function, compiled separately, makes the same step
    on the same state, keeps what the hooks caught and discards its new weights. XLA leaves out what is not needed, such
    as the backward pass where no gradient is wanted. The step that counts is the compiled function that runs in a plain
    `fit`, whose rounding a separate measurement cannot change. Updates are new minus old weights of that step.

    Args:
        model: A compiled and built `keras.Model`.
        quantities: Which of `recipes.probe.calls.QUANTITIES` to measure; "answers" are not available.
        samples: Samples of the batch that activation statistics look at, or "auto".

    Attributes:
        waited: Seconds from the call to the arrival of its batch, in the last call; None with several steps in a call.
    """

    def __init__(
        self, model: keras.Model, quantities: Iterable[str], samples: int | Literal["auto"] = "auto"
    ) -> None:
        self.quantities = frozenset(quantities)
        self.samples = samples
        self.traces = 0
        self.layout: dict[str, Any] | None = None
        self.failure: str | None = None
        self.waited: float | None = None
        self._model = model
        self._variables = list(model.trainable_variables)
        self._watched = [w for w in watched_layers(model) if is_wanted(w, self.quantities)]
        self._compiles = model.jit_compile and not model.run_eagerly
        self._look = jax.jit(self._look_at) if self._compiles else self._look_at
        self._compare = jax.jit(self._compare_with) if self._compiles else self._compare_with

    def __call__(
        self, plain: Callable[..., Any], state: Any, iterator: Iterator[Any]
    ) -> tuple[Any, dict[str, jax.Array] | None]:
        """Run one execution of training steps by `plain`: `((logs, state), values)`, the values of its last step."""
        began = time.monotonic()
        batches = list(_up_to(self._model.steps_per_execution, iterator))
        self.waited = time.monotonic() - began if len(batches) == 1 else None
        if len(batches) > 1:
            _, state = plain(state, iter(batches[:-1]))
        found = self._looked(state, batches[-1]) if batches else None
        result = plain(state, iter(batches[-1:]))
        if found is None:
            return result, None
        values, before = found
        if before:
            values |= self._compare(before, result[1][0], values.pop("writes"), values["loss_finite"])
        return result, values

    def _looked(self, state, batch):
        if self.failure is not None:
            return None
        drawn = random.getstate(), np.random.get_state()  # noqa: NPY002 - where layers draw from the global generators
        try:
            return self._look(state, batch)
        except Exception as error:  # a fault of the probe must not become a fault of the training
            self.failure = f"{type(error).__name__}: {error}"
            return None
        finally:
            random.setstate(drawn[0])
            np.random.set_state(drawn[1])  # noqa: NPY002

    def _look_at(self, state, batch):
        """`(values, weights before)` of the step from this state on this batch."""
        if isinstance(state[0][0], jax.core.Tracer):
            self.traces += 1
        seen = Seen()
        with seen.watching(), wrapped(self._hooks(seen)):
            logs, _ = self._model.train_step(state, batch)
        if seen.fault is not None:
            raise seen.fault
        needed = self.quantities & {"variables", "finite", "histograms"}
        # Copies, because the step that follows may write into the same memory.
        before = [jnp.copy(value) for value in state[0]] if needed else []
        return _on_all_devices(self._measured(state, batch, logs, seen), state), before

    def _hooks(self, seen):
        model = self._model
        hooks = [(w.operation, "call", tapping_call(w, seen)) for w in self._watched]
        hooks += [
            (one, "stateless_apply", tapping_stateless_apply(one, seen)) for one in optimizers_in(model)
        ]
        return [*hooks, (model, "compute_loss", tapping_loss(seen))]

    def _measured(self, state, batch, logs, seen):
        calls = seen.calls()
        layout = {"layers": [], "activations": [], "unseen": seen.unseen()}
        layout["variables"] = variable_axis(self._model, self._variables, calls)
        loss, losses = _loss(logs, seen)
        values = {"learning_rate": self._rate(state), "loss": loss, "loss_finite": measure.finite(losses)}
        if self.quantities & {"variables", "finite", "histograms"}:
            values["writes"] = jnp.asarray(seen.writes)
        if "variables" in self.quantities:
            gradients = measure.norms(self._gradients(seen)) / seen.scale
            values["gradient_norm"] = gradients
            if seen.loss_scaled:  # what overflows is skipped
                here = np.array([id(v) in seen.gradient for v in self._variables])
                values["writes"] &= jnp.all(jnp.isfinite(gradients) | ~here)
        if "finite" in self.quantities:
            parts = parts_of(batch)
            values |= measure.batch_facts(*parts[:2])
            values["input_finite"] = jnp.stack([measure.finite(part) for part in parts])
            found = [measure.finite(arrays) for _, _, arrays in calls]
            values["output_finite"] = jnp.stack(found or [jnp.ones(())])
        single = [(name, w, out[0], d) for d, (name, w, out) in enumerate(calls) if w.kind and len(out) == 1]
        single = [one for one in single if one[2].ndim]
        if "activations" in self.quantities and single:
            rows = [measure.activation_statistics(out, w, self.samples) for _, w, out, _ in single]
            rates = [row.pop("rates") for row in rows]
            values |= {key: jnp.stack([row[key] for row in rows]) for key in rows[0]}
            values["rates"] = jnp.concatenate(rates)
            layout["activations"] = [
                {"name": name, "units": rate.shape[0], "depth": d, **describe(w)}
                for (name, w, _, d), rate in zip(single, rates, strict=True)
            ]
        rectified = [(name, w, out) for name, w, out, _ in single if w.kind in RECTIFIERS]
        if "ever_active" in self.quantities and rectified:
            active = [measure.ever_active(out, w) for _, w, out in rectified]
            values["ever_active"] = jnp.concatenate(active)
            layout["ever_active"] = [(r[0], a.shape[0]) for r, a in zip(rectified, active, strict=True)]
        if "histograms" in self.quantities:
            values |= self._histograms(state, seen, single)
        layout["layers"] = [{"name": name, **describe(w)} for name, w, _ in calls]
        self.layout = layout
        return values

    def _histograms(self, state, seen, single):
        rows = {
            "histogram_weight": state[0],
            "histogram_gradient": self._gradients(seen),
            "histogram_activation": [out[:16] for _, _, out, _ in single],
        }
        return {
            name: jnp.stack([measure.histogram(a) for a in arrays]) for name, arrays in rows.items() if arrays
        }

    def _gradients(self, seen):
        found = [seen.gradient.get(id(v)) for v in self._variables]
        return [jnp.full((1,), jnp.nan) if gradient is None else gradient for gradient in found]

    def _rate(self, state):
        """The learning rate of the optimizer at its state before the step; NaN for one with several rates."""
        optimizer = self._model.optimizer
        if optimizer is None or len(state) < 3 or len(state[2]) != len(optimizer.variables):
            return jnp.asarray(jnp.nan)
        with keras.StatelessScope(list(zip(optimizer.variables, state[2], strict=True))):
            rate = getattr(optimizer, "learning_rate", None)  # a MultiOptimizer has none
            return jnp.asarray(jnp.nan if rate is None else keras.ops.convert_to_tensor(rate), "float32")

    def _compare_with(self, before, after, writes, loss_finite):
        changed = [new - old for new, old in zip(after, before, strict=True)]
        norms, count = measure.norms([*before, *changed]), len(before)
        weight, update = norms[:count], norms[count:]
        found = {}
        if "variables" in self.quantities:
            found |= {"weight_norm": weight, "update_norm": jnp.where(writes, update, jnp.nan)}
        if "finite" in self.quantities:
            found["weight_finite"] = jnp.isfinite(weight).astype("float32")
            found["update_finite"] = jnp.isfinite(update).astype("float32")
            found["alarm"] = 1 - found["update_finite"].min() * loss_finite
        if "histograms" in self.quantities:
            found["histogram_update"] = jnp.stack([measure.histogram(one) for one in changed])
        return _on_all_devices(found, [after])


def _up_to(count, iterator):
    for _ in range(count):
        try:
            yield next(iterator)
        except StopIteration:
            return


def _loss(logs, seen):
    """`(loss, losses)`: the loss of the step, NaN where it is not known, and all known numbers of that kind."""
    if seen.loss is not None:
        loss = jnp.mean(jnp.asarray(seen.loss, "float32"))
        return loss, [loss]
    told = loss_logs(logs)
    losses = [jnp.mean(jnp.asarray(value, "float32")) for value in told.values()]
    return (losses[list(told).index("loss")] if "loss" in told else jnp.asarray(jnp.nan)), losses


def _on_all_devices(values, state):
    """Values that every process can read, where the state is spread over several devices."""
    distribution = keras.distribution.distribution()
    if distribution is None or not isinstance(state[0][0], jax.core.Tracer):
        return values
    everywhere = jax.sharding.NamedSharding(
        distribution.device_mesh.backend_mesh, jax.sharding.PartitionSpec()
    )
    return {name: jax.lax.with_sharding_constraint(value, everywhere) for name, value in values.items()}
