"""Gradients and training steps for the checks before training, on JAX."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import keras

from recipes.common.lazy_jax import jax, jnp
from recipes.common.patching import wrapped
from recipes.diagnose.checks.seen_layers import SeenLayers, loss_or_why
from recipes.diagnose.rules.history import told_loss


def send_through(
    model: keras.Model, batch: tuple[Any, Any, Any], seen: SeenLayers, silent: str
) -> tuple[Any, list[Any], list[Any], str]:
    """Run one forward and backward pass in training mode; arguments and result as in `on_tensorflow.send_through`.

    To get the gradient at the output of a layer, zeros are added to it, and the gradient of these is taken. Where the
    loss does not depend on a variable, its gradient is zeros, not None.
    """
    inputs, labels, weights = batch
    variables = model.trainable_variables
    told = {"silent": silent}

    def run(values, added):
        seen.begin(added)
        with wrapped(seen.hooks()), keras.StatelessScope(list(zip(variables, values, strict=True))):
            outputs = model(inputs, training=True)
            loss, told["silent"] = loss_or_why(model, inputs, labels, outputs, weights, told["silent"])
        loss = jnp.zeros(()) if loss is None else jnp.asarray(loss, "float32")
        return loss, (outputs, [entry[1:] for entry in seen.entries])

    start, values = time.monotonic(), [v.value for v in variables]
    _, (_, found) = jax.eval_shape(lambda values: run(values, None), values)
    added = [jnp.zeros(output.shape, output.dtype) for _, output in found]
    differentiated = (
        jax.jit(jax.value_and_grad(run, argnums=(0, 1), has_aux=True)).lower(values, added).compile()
    )
    seen.compiling = time.monotonic() - start
    (loss, (outputs, found)), gradients = differentiated(values, added)
    seen.loss = None if told["silent"] else float(loss)
    seen.entries = [(entry[0], *pair) for entry, pair in zip(seen.entries, found, strict=True)]
    if told["silent"]:
        return outputs, [None] * len(added), [None] * len(values), told["silent"]
    return outputs, gradients[1], gradients[0], ""


def trial_step(trial: Any) -> Callable[[tuple], tuple[Any, Any]]:
    """The compiled training step on JAX, see `recipes.diagnose.checks.trial_step`."""
    model, optimizer = trial.model, trial.optimizer
    parts = [model.trainable_variables, model.non_trainable_variables, optimizer.variables]

    def own(state, batch):
        logs, state = model.train_step(state, batch)
        loss, trial.told = told_loss(logs)
        return (jnp.nan if loss is None else loss), None, state

    def usual(state, batch):
        inputs, labels, weights = keras.utils.unpack_x_y_sample_weight(batch)

        def loss_of(values):
            mapping = [*zip(parts[0], values, strict=True), *zip(parts[1], state[1], strict=True)]
            with keras.StatelessScope(mapping) as scope:
                outputs = model(inputs, training=True)
                loss = model.compute_loss(
                    x=inputs, y=labels, y_pred=outputs, sample_weight=weights, training=True
                )
                if not trial.regularized:
                    loss -= sum(jnp.asarray(penalty, loss.dtype) for penalty in model.losses)
            kept = [scope.get_current_value(v) for v in parts[1]]
            with keras.StatelessScope(list(zip(parts[2], state[2], strict=True))):
                scaled = optimizer.scale_loss(loss)
            return scaled, (loss, outputs, kept)

        (_, (loss, outputs, kept)), gradients = jax.value_and_grad(loss_of, has_aux=True)(list(state[0]))
        trained, slots = optimizer.stateless_apply(state[2], gradients, state[0])
        return loss, outputs, (trained, kept, slots)

    compiled = jax.jit(own if trial.own_step else usual)

    def step(batch):
        held = [*parts, model.metrics_variables] if trial.own_step else parts
        loss, outputs, state = compiled(tuple([v.value for v in part] for part in held), batch)
        for part, values in zip(held, state, strict=True):
            for variable, value in zip(part, values, strict=True):
                variable.assign(value)
        return loss, outputs

    return step
