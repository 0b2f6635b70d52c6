"""Full-batch training with scipy's optimizers, for data small enough to see whole at every step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from recipes.common.backends import require_tensorflow
from recipes.common.datasets import as_batches
from recipes.common.types import Data, Verbose


def fit_full_batch(
    model: keras.Model,
    data: Data,
    method: Literal["L-BFGS-B", "CG", "BFGS", "SLSQP"] = "L-BFGS-B",
    *,
    loss: str | keras.losses.Loss | Callable[..., Any] | None = None,
    validation_data: Data | None = None,
    max_iterations: int = 200,
    batch_size: int = 1024,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: Verbose = "auto",
    tolerance: float | None = None,
    options: Mapping[str, Any] | None = None,
) -> keras.callbacks.History:
    """Minimize a model's loss over the whole data set by L-BFGS or another of scipy's methods.

    Every source of noise is off: dropout and random layers are in inference mode, and batch normalization uses the
    statistics it has and keeps them. The data is read in order, in chunks whose losses and gradients one compiled
    function adds up. The objective is the loss as compiled, over all examples, plus the model's regularization losses.
    Sources: Byrd et al. 1995, https://doi.org/10.1137/0916069 (L-BFGS-B); Nocedal and Wright 2006, chapter 7.

    The optimizer of the model is not used or changed. Weights travel as one float64 vector; with weights in float32
    the optimum is found to about 1e-4 (relative), with a float64 model to 1e-6 and better. The loss is computed in the
    dtype of the model's output, not in Keras' `floatx`. When training is interrupted, the model keeps the weights of
    the last finished iteration.

    Args:
        model: A built `keras.Model` with one output, changed in place. Constraints on weights are not applied.
        data: `tf.data.Dataset` of (x, y) or (x, y, weight), batched or not, or a tuple of such arrays. It must not be
            random: the same in every pass, so no shuffle and no augmentation.
        method: Any method of `scipy.optimize.minimize` that uses gradients and no second derivatives: `"L-BFGS-B"`,
            `"CG"`, `"BFGS"`, `"SLSQP"`.
        loss: A Keras loss or its name. Default: the compiled one.
        validation_data: As in `fit`; the model must then be compiled. Logged as `val_loss`, ...
        max_iterations: Limit on iterations, >= 1; each takes one or a few passes over the data.
        batch_size: Examples per chunk, for data that comes un-batched; the memory for one chunk is needed.
        callbacks: Keras callbacks; an iteration is an epoch to them. `stop_training` is honoured.
        verbose: 0, 1 or "auto": a progress line per iteration.
        tolerance: scipy's `tol`. Default: 1e-12 for float64 models, 1e-9 otherwise, where float32 stops on its own.
        options: Further entries of scipy's `options` for the method.

    Returns:
        A `keras.callbacks.History`: `.history["loss"]`, `.history["gradient_norm"]` (largest absolute entry) and
        `val_...`, one entry per iteration; `.result`, scipy's `OptimizeResult` (None where a callback stopped it).

    Raises:
        ValueError: for an empty or endless data set, data without labels, several outputs, a loss with another
            reduction than a mean or a sum, an unknown method, or `max_iterations` below 1.
        RuntimeError: on another backend than TensorFlow.
    """
    from scipy.optimize import minimize  # noqa: PLC0415 - heavy, and for this alone

    require_tensorflow("training.fit_full_batch", "whose gradients it adds up")
    _check_arguments(model, method, max_iterations)
    objective = _Objective(model, data, loss, batch_size)
    history = keras.callbacks.History()
    listeners = keras.callbacks.CallbackList(
        [*callbacks, history],
        add_progbar=verbose not in (0, None),
        model=model,
        verbose=2 if verbose == "auto" else verbose,
        epochs=max_iterations,
        steps=1,
    )
    accepted = start = objective.read()
    iteration, result = 0, None

    def finished(vector):
        nonlocal accepted, iteration
        accepted = np.array(vector)
        value, gradient = objective(accepted)
        listeners.on_epoch_begin(iteration)
        logs = {"loss": value, "gradient_norm": float(np.abs(gradient).max())}
        if validation_data is not None:
            x, y, weight = keras.utils.unpack_x_y_sample_weight(validation_data)
            found = model.evaluate(x, y, sample_weight=weight, verbose=0, return_dict=True)
            logs.update({f"val_{name}": number for name, number in found.items()})
        listeners.on_epoch_end(iteration, logs)
        iteration += 1
        if model.stop_training:
            raise StopIteration

    model.stop_training = False
    listeners.on_train_begin()
    try:
        result = minimize(
            objective,
            start,
            method=method,
            jac=True,
            tol=tolerance or (1e-12 if objective.dtype == "float64" else 1e-9),
            callback=finished,
            options={"maxiter": max_iterations, **(options or {})},
        )
        accepted = result.x
    except StopIteration:
        pass  # from methods of scipy that do not catch it as the callback's request to stop
    finally:
        objective.write(accepted)
    listeners.on_train_end()
    history.result = result
    return history


class _Objective:
    """vector -> (loss, gradient) over the whole data set; remembers its last answer."""

    def __init__(self, model, data, loss, batch_size):
        self.model = model
        self.variables = model.trainable_variables
        self.dtype = "float64" if all(v.dtype == "float64" for v in self.variables) else "float32"
        self.sizes = [int(np.prod(variable.shape)) for variable in self.variables]
        self.loss, self.mean = _per_example(model if loss is None else loss)
        self.batches = as_batches(data, model, batch_size=batch_size, caller="fit_full_batch")
        if len(self.batches.element_spec) < 2:
            raise ValueError(
                "fit_full_batch expects data with labels. Received images alone. Give (x, y) or a dataset of pairs."
            )
        self.examples = None if self.mean else sum(len(batch[1]) for batch in self.batches)
        self._at, self._answer = None, None
        self._run = tf.function(self._pass).get_concrete_function()

    def read(self):
        return np.concatenate([np.asarray(v, "float64").ravel() for v in self.variables])

    def write(self, vector):
        parts = np.split(vector, np.cumsum(self.sizes)[:-1])
        for variable, part in zip(self.variables, parts, strict=True):
            variable.assign(part.reshape(variable.shape))

    def __call__(self, vector):
        if self._at is None or not np.array_equal(self._at, vector):
            self.write(vector)
            value, gradient = self._run()
            self._at, self._answer = np.array(vector), (float(value), np.asarray(gradient))
        return self._answer

    def _pass(self):
        """Loss and gradient, added up over the data chunk by chunk."""
        total, count = tf.zeros((), tf.float64), tf.zeros((), tf.float64)
        gradient = tf.zeros((sum(self.sizes),), tf.float64)
        for batch in self.batches:
            with tf.GradientTape() as tape:
                values, divisor = self._values(*batch)
                part = tf.reduce_sum(values)
                if self.model.losses:
                    # Regularization counts once: in a mean by each chunk's share of it, in a sum by its examples'.
                    share = divisor if self.mean else tf.shape(values)[0] / self.examples
                    part += tf.cast(share, part.dtype) * tf.cast(tf.add_n(self.model.losses), part.dtype)
            gradient += self._flat(tape.gradient(part, [v.value for v in self.variables]))
            total += tf.cast(part, tf.float64)
            count += tf.cast(divisor, tf.float64)
        return (total / count, gradient / count) if self.mean else (total, gradient)

    def _values(self, inputs, labels, weights=None):
        """Weighted loss of each example, and what their mean is divided by."""
        outputs = self.model(inputs, training=False)
        if outputs.dtype not in (tf.float32, tf.float64):
            outputs = tf.cast(outputs, tf.float32)
        if labels.dtype.is_floating:
            labels = tf.cast(labels, outputs.dtype)
        values = self.loss(labels, outputs)
        divisor = tf.size(values)
        if weights is not None:
            weights = tf.cast(weights, values.dtype)
            weights = tf.reshape(
                weights, tf.concat([tf.shape(weights), [1] * (values.shape.rank - weights.shape.rank)], 0)
            )
            if self.mean == "weighted":
                divisor = tf.reduce_sum(weights * tf.ones_like(values))
            values = values * weights
        return values, divisor

    def _flat(self, gradients):
        flat = []
        for gradient, size in zip(gradients, self.sizes, strict=True):
            if gradient is None:
                flat.append(tf.zeros((size,), tf.float64))
            else:
                flat.append(tf.cast(tf.reshape(tf.convert_to_tensor(gradient), (-1,)), tf.float64))
        return tf.concat(flat, axis=0)


def _per_example(source):
    """A function (labels, outputs) -> one value per example, and its reduction: "mean", "weighted" or "" for a sum."""
    loss = source.loss if isinstance(source, keras.Model) else source
    if loss is None or isinstance(loss, (list, tuple, dict)):
        raise ValueError(
            f"fit_full_batch expects one loss for one output. Received loss={loss!r}. "
            "Compile the model with a loss, or give loss='mse'."
        )
    loss = keras.losses.get(loss)
    if not isinstance(loss, keras.losses.Loss):
        return loss, "mean"
    reductions = {
        "sum_over_batch_size": "mean",
        "mean": "mean",
        "mean_with_sample_weight": "weighted",
        "sum": "",
    }
    if loss.reduction not in reductions:
        raise ValueError(
            f"fit_full_batch expects a loss that is a mean or a sum over examples. Received "
            f"reduction={loss.reduction!r}. Leave reduction out when you make the loss."
        )
    return loss.call, reductions[loss.reduction]


def _check_arguments(model, method, max_iterations):
    methods = ("L-BFGS-B", "CG", "BFGS", "SLSQP")
    if method not in methods:
        raise ValueError(
            f"fit_full_batch expects a method of scipy.optimize.minimize that works with gradients, one of "
            f"{methods}. Received method={method!r}. L-BFGS-B needs the least memory."
        )
    if not model.built or not model.trainable_variables or len(model.outputs or [None]) != 1:
        raise ValueError(
            f"fit_full_batch expects a built model with trainable weights and one output. Received {model.name!r}. "
            "Give it a keras.Input, and one loss."
        )
    if max_iterations < 1:
        raise ValueError(f"fit_full_batch expects max_iterations >= 1. Received {max_iterations}. Take 200.")
