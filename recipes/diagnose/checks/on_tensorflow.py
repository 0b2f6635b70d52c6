"""What the checks before training compute by differentiating on TensorFlow."""

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
    """Send a batch through a model in training mode and back.

    Args:
        model: Built.
        batch: `(inputs, labels, weights)`, inputs tensors.
        seen: Takes the output of every layer.
        silent: Why there is no loss; "" where there is.

    Returns:
        `(outputs, gradients of what was seen, gradients of the trainable variables, silent)`; a gradient is None where
        the loss does not depend on it.
    """
    inputs, labels, weights = batch
    with wrapped(seen.hooks()), tf.GradientTape() as tape:
        outputs = model(inputs, training=True)
        held = [variable.value for variable in model.variables if isinstance(variable.value, tf.Variable)]
        # Under a strategy a variable has a copy for each replica.
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
    """See `recipes.diagnose.checks.trial_step`."""

    strategy = trial.model.distribute_strategy
    replicas = strategy.num_replicas_in_sync

    def _trial_step(batch):
        model = trial.model
        if trial.own_step:
            logs = strategy.run(lambda: model.train_step(batch))
            # Every replica has the whole batch. Raised in a trace it would come out as another error; so later.
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
            scaled = trial.optimizer.scale_loss(loss) / replicas  # which add up what they apply
        gradients = tape.gradient(scaled, model.trainable_variables)
        pairs = [(g, v) for g, v in zip(gradients, model.trainable_variables, strict=True) if g is not None]
        strategy.run(lambda: apply(pairs))
        return loss, outputs

    def apply(pairs):  # a tensor of each replica's own is what a strategy adds up
        trial.optimizer.apply_gradients([(tf.identity(g), v) for g, v in pairs])

    return tf.function(_trial_step, reduce_retracing=True)
