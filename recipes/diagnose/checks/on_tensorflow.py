"""Gradients and training steps for the checks before training, on TensorFlow."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from recipes.common.patching import wrapped
from recipes.diagnose.checks.seen_layers import SeenLayers, loss_or_why
from recipes.diagnose.rules.history import told_loss


def send_through(
    model: keras.Model, batch: tuple[Any, Any, Any], seen: SeenLayers, silent: str
) -> tuple[Any, list[Any], list[Any], str]:
    """Run one forward and backward pass of a batch in training mode.

    Args:
        model: A built `keras.Model`.
        batch: `(inputs, labels, weights)`, with inputs as tensors; weights may be None.
        seen: Records the output of every layer, and the loss.
        silent: Why there is no loss, as half a sentence; "" where there is one.

    Returns:
        `(outputs, gradients at the recorded outputs, gradients of the trainable variables, silent)`. A gradient is
        None where the loss does not depend on the tensor. The last entry says why there are no gradients, or is "".
    """
    inputs, labels, weights = batch
    with wrapped(seen.hooks()), tf.GradientTape() as tape:
        outputs = model(inputs, training=True)
        held = [variable.value for variable in model.variables if isinstance(variable.value, tf.Variable)]
        # Under a distribution strategy, a variable has one copy per replica.
        own = {part.ref() for value in held for part in (value, *getattr(value, "values", ()))}
        seen.strangers = [v for v in tape.watched_variables() if v.ref() not in own]
        loss, silent = loss_or_why(model, inputs, labels, outputs, weights, silent)
    seen.loss = None if loss is None else float(loss)
    tensors = [entry[2] for entry in seen.entries]
    values = [v.value for v in model.trainable_variables]
    found = [None] * (len(tensors) + len(values))
    if loss is not None:
        found = tape.gradient(loss, [*tensors, *values])
    dense = [g.values if isinstance(g, tf.IndexedSlices) else g for g in found]
    return outputs, dense[: len(tensors)], dense[len(tensors) :], silent


def trial_step(trial: Any) -> Callable[[tuple], tuple[Any, Any]]:
    """The compiled training step on TensorFlow, see `recipes.diagnose.checks.trial_step`."""

    strategy = trial.model.distribute_strategy
    replicas = strategy.num_replicas_in_sync

    def _trial_step(batch):
        model = trial.model
        if trial.own_step:
            logs = strategy.run(lambda: model.train_step(batch))
            # Every replica gets the whole batch. The error is raised later: inside a trace its type would change.
            loss, trial.told = told_loss(
                tf.nest.map_structure(lambda log: strategy.experimental_local_results(log)[0], logs)
            )
            return (tf.constant(float("nan")) if loss is None else loss), None
        inputs, labels, weights = keras.utils.unpack_x_y_sample_weight(batch)
        with tf.GradientTape() as tape:
            outputs = model(inputs, training=True)
            loss = model.compute_loss(
                x=inputs, y=labels, y_pred=outputs, sample_weight=weights, training=True
            )
            if not trial.regularized and model.losses:
                loss -= tf.cast(tf.add_n(model.losses), loss.dtype)
            scaled = trial.optimizer.scale_loss(loss) / replicas  # the gradients of all replicas are summed
        gradients = tape.gradient(scaled, model.trainable_variables)
        pairs = [(g, v) for g, v in zip(gradients, model.trainable_variables, strict=True) if g is not None]
        strategy.run(lambda: apply(pairs))
        return loss, outputs

    def apply(pairs):  # a strategy sums tensors that each replica has made itself
        trial.optimizer.apply_gradients([(tf.identity(g), v) for g, v in pairs])

    return tf.function(_trial_step, reduce_retracing=True)
