"""What the probe needs to know about Keras on JAX, see `recipes.probe.adapter`."""

from __future__ import annotations

import keras

from recipes.common.lazy_jax import jax
from recipes.probe.jax.jax_forward import Forward as Forward
from recipes.probe.jax.jax_twin import Twin as Twin

WRITES_AT_ONCE = False  # the new values are what the train function returns
SWEEP_COST = 0.4  # a forward pass of its own
UNSEEN = frozenset({"answers"})  # they would cost a forward pass at every step


def several_workers(_: keras.Model) -> bool:
    """Whether other processes take part in the training, whose clocks differ."""
    return jax.process_count() > 1


def wait_for_step(model: keras.Model) -> None:
    """Wait until the previous step is done: JAX returns from a call before that, and calls are what is timed."""
    state = getattr(model, "_jax_state", None) or {}
    jax.block_until_ready((state.get("trainable_variables") or [None])[0])


def bring_back(model: keras.Model) -> None:
    """Write their values into the model's variables, which do not hold them while Keras trains."""
    model.jax_state_sync()
