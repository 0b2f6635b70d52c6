"""The instrumented twin of a model's train function: the same step, with measurements as extra outputs."""

import functools
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from recipes.common import optimizers
from recipes.common.patching import replaced, wrapped
from recipes.probe.calls import (
    MOST_CALLS,
    RECTIFIERS,
    describe,
    is_wanted,
    loss_logs,
    numbered,
    optimizers_in,
    parts_of,
    variable_axis,
)
from recipes.probe.hooks import tapping_apply, tapping_call, tapping_loss
from recipes.probe.layout import Watched, watched_layers
from recipes.probe.tensorflow import histogram, measure
from recipes.probe.tensorflow.visibility import visible


class Twin:
    """A train function that does what the model's own does, and reports what happened inside.

    Hooks are on layers, optimizer and loss only while `train_step` is traced (or runs eagerly), and only for the thread
    that does so. The numbers leave the graph as outputs of `train_step` and are taken out before `fit` sees the logs.
    So the model's own train function is left alone, and both give the same weights, bit for bit.

    Args:
        model: A compiled and built `keras.Model`.
        quantities: Which of `QUANTITIES` to measure.
        samples: Samples of the batch that activation statistics look at, or "auto".

    Attributes:
        waited: Seconds from the call to the arrival of its batch, in the last call; None where that is not known: with
            several steps in a call, inside XLA, under op determinism.
    """

    def __init__(
        self, model: keras.Model, quantities: Iterable[str], samples: int | Literal["auto"] = "auto"
    ) -> None:
        self.quantities = frozenset(quantities)
        self.samples = samples
        self.traces = 0
        self.layout = None
        self.failure = None
        self.waited = None
        self._model = model
        self._tells_arrival = _tells_arrival(model)
        self._trace_lock = threading.Lock()
        self._variables = list(model.trainable_variables)
        self._optimizers = optimizers_in(model)
        self._watched = [w for w in watched_layers(model) if is_wanted(w, self.quantities)]
        step = self._instrument(model.train_step)
        with replaced([(model, "train_step", step), (model, "train_function", None)]):
            model.make_train_function(force=True)
            self._function = model.train_function

    def __call__(self, plain: Callable[..., Any], iterator: Any) -> tuple[Any, dict[str, Any] | None]:
        """Run one execution of training steps in place of `plain`: `(logs, values)`, the values of its last step."""
        began = time.time()
        result = self._function(iterator)
        if not isinstance(result, dict) or "probe" not in result:
            self.failure = "the model's make_train_function does not run its train_step"
            return result, None
        values = result["probe"]
        arrived = values.pop("arrived", None)
        self.waited = None if arrived is None else max(0.0, float(arrived) - began)
        return result["logs"], values

    def _instrument(self, train_step):
        @functools.wraps(train_step)  # a strategy of several machines looks whose step it is
        def step(data):
            with self._trace_lock:
                self.traces += 1
            arrival = {"arrived": _after(data)} if self._tells_arrival else {}
            before = [tf.identity(v.value) for v in self._variables]  # no copy until the update writes
            rates = {id(one): self._learning_rate(one) for one in self._optimizers}
            seen = Seen()
            with wrapped(self._hooks(seen)):
                logs = train_step(data)
            try:
                if seen.fault is not None:
                    raise seen.fault
                values = self._measure(data, logs, before, self._rate_of_step(rates, seen), seen)
            except Exception as error:  # a fault of the probe must not become a fault of the training
                self.failure = f"{type(error).__name__}: {error}"
                values = {}
            return {"logs": logs, "probe": {**values, **arrival}}

        return step

    def _hooks(self, seen):
        hooks = [(w.operation, "call", tapping_call(w, seen)) for w in self._watched]
        hooks += [(optimizer, "apply", tapping_apply(optimizer, seen)) for optimizer in self._optimizers]
        return [*hooks, (self._model, "compute_loss", tapping_loss(seen))]

    def _learning_rate(self, optimizer):
        rate = getattr(optimizer, "learning_rate", None)  # a MultiOptimizer has none
        if rate is None:
            return tf.fill([], np.nan)
        return tf.identity(tf.cast(tf.convert_to_tensor(rate), tf.float32))

    def _rate_of_step(self, rates, seen):
        """The learning rate of the one optimizer that made the step, else NaN."""
        used = [rates[id(one)] for one in seen.optimizers] or list(rates.values())
        return used[0] if len(used) == 1 else tf.fill([], np.nan)

    def _measure(self, data, logs, before, rate, seen):
        answers = {"answers": seen.answers} if "answers" in self.quantities and seen.answers else {}
        if self.quantities == {"answers"}:
            return answers
        return {**self._measured(data, logs, before, rate, seen), **answers}

    def _measured(self, data, logs, before, rate, seen):
        calls = seen.calls()
        # Before anything else reads them.
        in_sight = [[visible(tensor, seen.predictions) for tensor in outputs] for _, _, outputs in calls]
        layout = {
            "layers": [],
            "activations": [],
            "variables": variable_axis(self._model, self._variables, calls),
            "unseen": seen.unseen(),
        }
        loss, losses = self._loss(logs, seen)
        values = {"learning_rate": rate, "loss": loss, "loss_finite": measure.finite(losses)}
        weights = {}
        if self.quantities & {"variables", "finite"}:
            weights = self._variable_norms(before, seen)
        if "variables" in self.quantities:
            written = self._updates(seen, weights["gradient_norm"])
            values |= {**weights, "update_norm": tf.where(written, weights["update_norm"], np.nan)}
        if "finite" in self.quantities:
            parts = parts_of(data)
            values |= measure.batch_facts(*parts[:2])
            values["input_finite"] = tf.stack([measure.finite(part) for part in parts])
            # A norm is finite when all numbers are; what is not finite before or after the step changed by as much.
            for name in ("weight", "update"):
                values[f"{name}_finite"] = tf.cast(tf.math.is_finite(weights[f"{name}_norm"]), tf.float32)
            values["output_finite"] = tf.stack([measure.finite(t) for t in in_sight] or [tf.ones(())])
            values["alarm"] = 1 - tf.reduce_min(values["update_finite"]) * values["loss_finite"]
        single = [
            (name, w, out[0], d) for d, (name, w, out) in enumerate(calls) if w.kind and _has_units(w, out)
        ]
        if "activations" in self.quantities and single:
            rows = [measure.activation_statistics(out, w, self.samples) for _, w, out, _ in single]
            rates = [row.pop("rates") for row in rows]
            if measure.replicas() == 1:
                rows = [{k: v for k, v in row.items() if k != "square"} for row in rows]
            values |= {key: tf.stack([row[key] for row in rows]) for key in rows[0]}
            values["rates"] = tf.concat(rates, 0)
            layout["activations"] = [
                {"name": name, "units": rate.shape[0], "depth": d, **describe(w)}
                for (name, w, _, d), rate in zip(single, rates, strict=True)
            ]
        rectified = [(name, w, out) for name, w, out, _ in single if w.kind in RECTIFIERS]
        if "ever_active" in self.quantities and rectified:
            active = [measure.ever_active(out, w) for _, w, out in rectified]
            values["ever_active"] = tf.concat(active, 0)
            layout["ever_active"] = [(r[0], a.shape[0]) for r, a in zip(rectified, active, strict=True)]
        if "histograms" in self.quantities:
            values |= histogram.measure_all(self._variables, before, self._gradients(seen), single)
        layout["layers"] = [{"name": name, **describe(w)} for name, w, _ in calls]
        with self._trace_lock:
            self.layout = layout
        return values

    def _variable_norms(self, before, seen):
        """The norms of each variable, of its change and of its gradient, measured together."""
        after = [tf.identity(v.value) for v in self._variables]
        changed = [a - b for a, b in zip(after, before, strict=True)]
        gradients = self._gradients(seen) if "variables" in self.quantities else []
        norms = measure.norms([*before, *changed, *gradients])
        names, count = ("weight_norm", "update_norm", "gradient_norm"), len(before)
        found = {names[i]: norms[i * count : (i + 1) * count] for i in range(3 if gradients else 2)}
        return {**found, "gradient_norm": found["gradient_norm"] / seen.scale} if gradients else found

    def _gradients(self, seen):
        gradients = [measure.dense(seen.gradient.get(id(v)), v) for v in self._variables]
        if measure.replicas() > 1:
            gradients = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        return gradients

    def _updates(self, seen, gradients):
        # Not every step writes weights: gradients may be accumulated, and loss scaling skips what overflows.
        present = [i for i, v in enumerate(self._variables) if seen.gradient.get(id(v)) is not None]
        if not (seen.loss_scaled and present):
            return seen.writes
        return tf.logical_and(seen.writes, tf.reduce_all(tf.math.is_finite(tf.gather(gradients, present))))

    def _loss(self, logs, seen):
        """`(loss, losses)`: the loss of the step, NaN where it is not known, and all known numbers of that kind."""
        if seen.loss is not None:
            # Keras divides each replica's share of the loss.
            loss = tf.reduce_mean(tf.cast(seen.loss, tf.float32) * measure.replicas())
            return loss, [loss]
        # A custom train_step: the losses that it logs.
        told = loss_logs(logs)
        losses = [tf.reduce_mean(tf.cast(tf.convert_to_tensor(value), tf.float32)) for value in told.values()]
        return (losses[list(told).index("loss")] if "loss" in told else tf.fill([], np.nan)), losses


class Seen:
    """What the hooks caught during one step."""

    def __init__(self) -> None:
        self.graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
        self.loss = None
        self.gradient = {}
        self.optimizers = []
        self.scale = tf.ones(())
        self.writes = tf.constant(True)
        self.loss_scaled = False
        self.fault = None
        self.predictions = set()
        self.answers = None
        self._outputs = []
        self._calls = {}
        self._unseen = {}

    def output(self, watched: Watched, output: Any) -> None:
        """Take a layer's output, when its tensors live in the graph of the step."""
        tensors = [tensor for tensor in keras.tree.flatten(output) if measure.is_float(tensor)]
        if not tensors:
            return
        loops = hasattr(watched.operation, "state_size") and not isinstance(
            watched.operation, keras.layers.RNN
        )
        if loops or any(getattr(tensor, "graph", None) is not self.graph for tensor in tensors):
            self._unseen[watched.name] = "runs inside a loop, a condition or recomputed memory"
        elif self._calls.get(watched.name, 0) >= MOST_CALLS:
            self._unseen[watched.name] = (
                f"is called often in one step: only its first {MOST_CALLS} calls are seen"
            )
        else:
            self._calls[watched.name] = self._calls.get(watched.name, 0) + 1
            self._outputs.append((watched, tensors))

    def gradients(
        self, optimizer: keras.optimizers.Optimizer, gradients: list[Any], variables: list[Any] | None
    ) -> None:
        """Take the gradients as they reach the optimizer, with the factor of loss scaling."""
        variables = optimizers.known_variables(optimizer) if variables is None else variables
        self.gradient |= {id(v): g for v, g in zip(variables, gradients, strict=True)}
        self.optimizers += [optimizer] if optimizer not in self.optimizers else []
        self.loss_scaled |= optimizers.is_dynamically_scaled(optimizer)
        self.scale = tf.identity(optimizers.loss_scale(optimizer))
        self.writes = tf.convert_to_tensor(optimizers.writes(optimizer))

    def take_loss(self, loss: Any, labels: Any, predictions: Any) -> None:
        """Take the loss, the model's output tensors, and labels and output where there is one of each."""
        self.loss = loss
        self.answers = (labels, predictions) if tf.is_tensor(labels) and tf.is_tensor(predictions) else None
        self.predictions = {id(tensor) for tensor in keras.tree.flatten(predictions)}

    def calls(self) -> list[tuple[str, Watched, list[tf.Tensor]]]:
        """The calls in forward order, see `recipes.probe.calls.numbered`."""
        return numbered(self._outputs)

    def unseen(self) -> list[str]:
        """Sentences that name what was out of reach."""
        return [f"{name} {why}" for name, why in self._unseen.items()]


def _tells_arrival(model):
    """Whether the step can tell when its batch came: XLA and deterministic operations have no clock."""
    if model.jit_compile or model.steps_per_execution > 1:
        return False
    try:
        tf.timestamp()
    except tf.errors.OpError:
        return False
    return True


def _after(data):
    """The clock when the batch is there, seconds since 1970."""
    with tf.control_dependencies([part for part in tf.nest.flatten(data) if tf.is_tensor(part)]):
        return tf.timestamp()


def _has_units(watched, outputs):
    shape = outputs[0].shape
    return len(outputs) == 1 and bool(shape.rank) and shape[watched.unit_axis(shape.rank)] is not None
