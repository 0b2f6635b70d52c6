"""Short trainings of model copies, whose settings are arguments of one compiled step, and measures of their results."""

import time
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from recipes.common.optimizers import innermost
from recipes.common.patching import replaced
from recipes.common.traversal import layers_of
from recipes.diagnose.checks.model_copy import copied, usual_rate
from recipes.diagnose.checks.output_task import Task
from recipes.diagnose.checks.sample import Sample
from recipes.diagnose.remedies.arms import Arm


@dataclass(frozen=True)
class Prepared:
    """Training and held-out batches for one remedy.

    Attributes:
        train: Training batches `(inputs, labels, weights)`.
        apart: Held-out batches `(inputs, labels, weights)`.
        truth: Labels of the held-out batches before the remedy changed them.
        mean: Mean by which targets were standardized, or 0.
        std: Standard deviation by which targets were standardized, or 1.
    """

    train: list[tuple]
    apart: list[tuple]
    truth: list[Any]
    mean: Any = 0.0
    std: Any = 1.0


def prepared(sample: Sample, arm: Arm) -> Prepared:
    """Split a sample for one remedy, and apply what the remedy changes in the data.

    Every fifth batch is held out, the same ones for every remedy. Of fewer than five batches, all are used for both.

    Args:
        sample: The data.
        arm: The remedy.
    """
    batches = list(sample.batches)
    train = [batch for number, batch in enumerate(batches) if number % 5 != 4 or len(batches) < 5]
    apart = batches[4::5] if len(batches) >= 5 else batches
    truth = [batch[1] for batch in apart]
    if arm.inputs == "drop":
        train = [kept for kept in map(_finite, train) if kept is not None]
        finite = [_finite(batch) for batch in apart]
        apart = [kept for kept in finite if kept is not None]
        truth = [batch[1] for batch in apart]
    if arm.inputs == "shuffle":
        train = _mixed(train)
    if arm.inputs == "standardize":
        train, apart = _standardized(train, apart)
    mean, std = 0.0, 1.0
    if arm.labels is not None:
        train = [(x, arm.labels(y), w) for x, y, w in train]
        apart = [(x, arm.labels(y), w) for x, y, w in apart]
    if arm.targets:
        targets = np.concatenate([np.asarray(y, "float64") for _, y, _ in train])
        mean, std = targets.mean(axis=0), np.maximum(targets.std(axis=0), 1e-12)
        train = [(x, ((y - mean) / std).astype("float32"), w) for x, y, w in train]
        apart = [(x, ((y - mean) / std).astype("float32"), w) for x, y, w in apart]
    return Prepared(train, apart, truth, mean, std)


def _finite(batch):
    inputs, labels, weights = batch
    keep = np.ones(len(keras.tree.flatten(inputs)[0]), bool)
    for part in keras.tree.flatten((inputs, labels)):
        if part.dtype.kind == "f":
            keep &= np.isfinite(part.reshape(len(part), -1)).all(axis=1)
    if not keep.any():
        return None
    cut = keras.tree.map_structure(lambda part: part[keep], (inputs, labels))
    return (*cut, None if weights is None else weights[keep])


def _mixed(batches):
    """The examples of all batches in a random order, in batches of the same sizes."""
    sizes = [len(keras.tree.flatten(batch[0])[0]) for batch in batches]
    whole = keras.tree.map_structure(lambda *parts: np.concatenate(parts), *(batch[:2] for batch in batches))
    order = np.random.default_rng(0).permutation(sum(sizes))
    cuts = np.split(order, np.cumsum(sizes)[:-1])
    return [(*keras.tree.map_structure(lambda part, rows=rows: part[rows], whole), None) for rows in cuts]


def _standardized(train, apart):
    """Standardize each column or channel of the inputs to mean 0 and standard deviation 1 over the training batches."""
    first = [keras.tree.flatten(batch[0]) for batch in train]
    scales = []
    for parts in zip(*first, strict=True):
        values = np.concatenate(parts).astype("float32")
        axes = tuple(range(values.ndim - 1))
        scales.append((values.mean(axis=axes), np.maximum(values.std(axis=axes), 1e-6)))

    def scale(batch):
        flat = keras.tree.flatten(batch[0])
        flat = [(part - m) / s for part, (m, s) in zip(flat, scales, strict=True)]
        flat = [part.astype("float32") for part in flat]
        return (keras.tree.pack_sequence_as(batch[0], flat), *batch[1:])

    return [scale(batch) for batch in train], [scale(batch) for batch in apart]


class Rig:
    """A copy of a model with one compiled training step, which can be started again from the weights of each seed.

    Args:
        model: The user's model, whose loss and optimizer settings are used.
        twins: Copies of the model, one per seed, with different weights. The first is trained; of the others, only the
            weights are used.
        seeds: The seeds, in the order of `twins`.
        loss: Another loss, or None for that of the model.

    Attributes:
        seconds_per_step: Median time of the steps of the last training, in seconds.
        compile_seconds: Time of the very first step, which compiles, in seconds.
    """

    def __init__(self, model: keras.Model, twins: list[keras.Model], seeds: Any, loss: str | None) -> None:
        self.net = twins[0]
        self.net.compile(loss=model.loss if loss is None else loss)
        self._starts = {
            seed: [np.array(keras.ops.convert_to_numpy(v)) for v in twin.variables]
            for seed, twin in zip(seeds, twins, strict=True)
        }
        original = innermost(model.optimizer)
        self._rate = usual_rate(model.optimizer)
        self._own = {
            "rate": 1.0,
            "decay": float(original.weight_decay or 0.0),
            "clipnorm": _or_infinite(original.clipnorm),
            "global_clipnorm": _or_infinite(original.global_clipnorm),
            "clipvalue": _or_infinite(original.clipvalue),
        }
        self.optimizer = _plain(copied(original, weight_decay=False))
        self.optimizer.build(self.net.trainable_variables)
        self._fresh = [tf.identity(variable.value) for variable in self.optimizer.variables]
        norms = [layer for layer in layers_of(self.net) if hasattr(layer, "moving_mean")]
        norms = [layer for layer in norms if isinstance(getattr(layer, "momentum", None), float)]
        self._norms = [(layer, tf.Variable(layer.momentum, trainable=False)) for layer in norms]
        self._momenta = [layer.momentum for layer in norms]
        self._function = tf.function(self._step, reduce_retracing=True)
        self.seconds_per_step = 0.0
        self.compile_seconds = 0.0

    def steps(self, batches: list[tuple], seed: int, knobs: dict[str, float], count: int) -> np.ndarray:
        """Train from the weights of a seed.

        Args:
            batches: Training batches `(inputs, labels, weights)`, used in an order that depends on the seed.
            seed: One of the seeds.
            knobs: Settings of the step that replace those of the model, see `Arm.knobs`.
            count: Number of steps.

        Returns:
            Loss of each step, float64 `(count,)`; infinite from the first step on whose loss is not finite.
        """
        self._rewind(seed)
        settings = {**self._own, **knobs}
        for (_, variable), own in zip(self._norms, self._momenta, strict=True):
            variable.assign(settings.get("momentum", own))
        if "clipnorm" in knobs:  # it replaces all other clipping
            settings |= {"global_clipnorm": np.inf, "clipvalue": np.inf}
        warm = int(settings.get("warmup", 0.0) * count)
        order = np.random.default_rng(seed).permutation(len(batches))
        losses, times = [], []
        for number in range(count):
            batch = batches[order[number % len(batches)]]
            rate = self._rate * settings["rate"] * (min(1.0, (number + 1) / warm) if warm else 1.0)
            numbers = [rate, *(settings[k] for k in ("decay", "clipnorm", "global_clipnorm", "clipvalue"))]
            begin = time.monotonic()
            try:
                with replaced([(layer, "momentum", variable) for layer, variable in self._norms]):
                    loss = float(self._function(_tensors(batch), tf.constant(numbers, tf.float32)))
            except (tf.errors.InvalidArgumentError, ValueError):  # labels that do not fit the loss
                loss = np.inf
            times.append(time.monotonic() - begin)
            losses.append(loss)
            if not np.isfinite(loss):
                losses += [np.inf] * (count - len(losses))
                break
        if not self.seconds_per_step:
            self.compile_seconds = times[0]
        self.seconds_per_step = float(np.median(times))
        return np.where(np.isfinite(losses), losses, np.inf)

    def predict(self, inputs: Any) -> np.ndarray:
        """Outputs in inference mode, as numpy arrays."""
        inputs = keras.tree.map_structure(tf.convert_to_tensor, inputs)
        return keras.tree.map_structure(
            lambda output: np.asarray(keras.ops.convert_to_numpy(output)), self.net(inputs, training=False)
        )

    def loss(self, batch: tuple) -> float:
        """Loss of one batch `(inputs, labels, weights)` in inference mode, without regularization penalties."""
        inputs, labels, weights = batch
        outputs = self.net(keras.tree.map_structure(tf.convert_to_tensor, inputs), training=False)
        total = float(self.net.compute_loss(x=None, y=labels, y_pred=outputs, sample_weight=weights))
        return total - float(sum(float(keras.ops.sum(part)) for part in self.net.losses))

    def _rewind(self, seed):
        for variable, value in zip(self.net.variables, self._starts[seed], strict=True):
            variable.assign(value)
        for variable, value in zip(self.optimizer.variables, self._fresh, strict=True):
            variable.assign(value)

    def _step(self, batch, numbers):
        rate, decay, each, together, value = tf.unstack(numbers)
        inputs, labels, weights = keras.utils.unpack_x_y_sample_weight(batch)
        variables = self.net.trainable_variables
        with tf.GradientTape() as tape:
            outputs = self.net(inputs, training=True)
            loss = self.net.compute_loss(
                x=inputs, y=labels, y_pred=outputs, sample_weight=weights, training=True
            )
        pairs = [
            (tf.convert_to_tensor(gradient), variable)
            for gradient, variable in zip(tape.gradient(loss, variables), variables, strict=True)
            if gradient is not None
        ]
        gradients = [tf.clip_by_value(g, -value, value) for g, _ in pairs]
        gradients = [g * _shrink(tf.norm(g), each) for g in gradients]
        whole = _shrink(tf.linalg.global_norm(gradients), together)
        gradients = [g * tf.cast(whole, g.dtype) for g in gradients]
        for _, variable in pairs:
            variable.assign(variable * (1 - decay * rate))
        self.optimizer.learning_rate.assign(rate)
        self.optimizer.apply_gradients(
            [(gradient, variable) for gradient, (_, variable) in zip(gradients, pairs, strict=True)]
        )
        return loss


def _shrink(norm, limit):
    return tf.minimum(1.0, limit / tf.maximum(tf.cast(norm, tf.float32), 1e-30))


def _or_infinite(value):
    return np.inf if value is None else float(value)


def _plain(optimizer):
    """A copy of an optimizer without clipping, which the training step of `Rig` does itself."""
    settings = {**optimizer.get_config(), "clipnorm": None, "global_clipnorm": None, "clipvalue": None}
    return type(optimizer).from_config(settings)


def _tensors(batch):
    return keras.tree.map_structure(tf.convert_to_tensor, tuple(part for part in batch if part is not None))


class Measure:
    """Measures the result of a trial on held-out batches.

    Args:
        task: Task of the unchanged model.
        labels: Facts about the training data and its labels, from `describe_data`.
    """

    def __init__(self, task: Task, labels: dict) -> None:
        self.task, self.labels = task, labels

    def of(self, rig: Rig, data: Prepared, arm: Arm) -> dict[str, float]:
        """Loss, accuracy and explained variance with the present weights.

        Args:
            rig: The trained copy.
            data: Data of the remedy, whose held-out batches are used.
            arm: The remedy.

        Returns:
            Name of the measure -> value. Outputs that are structures or not finite have a loss only; a measure that is
            not defined for the labels is NaN.
        """
        losses = [self._number(rig.loss, batch) for batch in data.apart]
        found = {"loss": float(np.mean(losses))}
        outputs = [rig.predict(batch[0]) for batch in data.apart]
        if not all(isinstance(part, np.ndarray) for part in [*outputs, *data.truth]):
            return found
        outputs, truth = np.concatenate(outputs), np.concatenate(data.truth)
        if not np.isfinite(outputs).all():
            return found
        from_logits = self.task.from_logits and arm.loss is None
        found["accuracy"] = _accuracy(outputs, truth, from_logits)
        predicted = outputs.astype("float64") * data.std + data.mean
        found["explained variance"] = _explained(predicted, truth)
        return found

    def _number(self, function, batch):
        try:
            value = function(batch)
        except (ValueError, TypeError, tf.errors.OpError):
            return np.inf
        return value if np.isfinite(value) else np.inf

    def gains(self, arm: Arm, base: dict, mine: dict) -> tuple[np.ndarray, str]:
        """Gain of a remedy for each seed, and the name of the measure.

        Args:
            arm: The remedy.
            base: Results of the unchanged model: "ends" holds what `of` returned for each seed.
            mine: The same with the remedy.

        Returns:
            `(gains, measure)`: float32 `(seeds,)` in [-1, 1], see `RemedyTrial.gains`; "loss", "accuracy" or
            "explained variance".
        """
        if arm.same_measure:
            pairs = [(a["loss"], b["loss"]) for a, b in zip(base["ends"], mine["ends"], strict=True)]
            return np.asarray([_saved(*pair) for pair in pairs], "float32"), "loss"
        name = "explained variance" if arm.targets or not self._classes() else "accuracy"
        pairs = [
            (a.get(name, np.nan), b.get(name, np.nan))
            for a, b in zip(base["ends"], mine["ends"], strict=True)
        ]
        gains = [np.nan_to_num(after, nan=-1.0) - np.nan_to_num(before, nan=0.0) for before, after in pairs]
        return np.asarray(np.clip(gains, -1, 1), "float32"), name

    def _classes(self):
        return (
            "class_counts" in self.labels
            or self.labels.get("label_kinds", 10**9) <= 20
            or "rows" in self.labels
        )


def _saved(before, after):
    """Share of the loss that the remedy saves, in [-1, 1]; 1 where only the loss before is not finite, 0 where both."""
    if not np.isfinite(after):
        return -1.0 if np.isfinite(before) else 0.0
    if not np.isfinite(before):
        return 1.0
    return float(np.clip((before - after) / max(abs(before), 1e-12), -1, 1))


def _accuracy(outputs, truth, from_logits):
    """Accuracy in [0, 1] for any kind of labels: class numbers, rows, or any two values; NaN where none fits."""
    rows = truth.reshape(len(truth), -1)
    if outputs.ndim == 2 and outputs.shape[1] > 1:
        if rows.shape[1] == 1:
            kinds = np.unique(rows)
            wanted = np.searchsorted(kinds, rows[:, 0]) if kinds.max() >= outputs.shape[1] else rows[:, 0]
            return float(np.mean(outputs.argmax(axis=1) == wanted))
        if (rows.sum(axis=1) == 1).all():
            return float(np.mean(outputs.argmax(axis=1) == rows.argmax(axis=1)))
    if outputs.size != rows.size:
        return float("nan")
    positive = outputs.reshape(rows.shape) > (0.0 if from_logits else 0.5)
    return float(np.mean(positive == (rows > (rows.min() + rows.max()) / 2)))


def _explained(predicted, truth):
    if predicted.size != truth.size or truth.dtype.kind not in "fiub":
        return float("nan")
    truth = truth.astype("float64").reshape(len(truth), -1)
    predicted = predicted.reshape(truth.shape)
    variance = truth.var(axis=0).mean()
    return float(max(1 - np.mean((predicted - truth) ** 2) / max(variance, 1e-12), -1.0))
