"""Running a plan: draws outside XLA, each step compiled or plain, the batch put together again."""

import functools

import numpy as np
import tensorflow as tf

from recipes.augment.engine.batch_layout import class_numbers, label_rows
from recipes.augment.engine.plan import Plan

# Compiled code is always faster, but costs a second or two once. From about this many values a batch it earns that back
# within 1000 batches (benchmarks/augment.py --threshold).
COMPILE_FROM = 2**16


class Engine:
    """A `Plan` for images of one shape and dtype, and the functions that run it.

    Attributes:
        plan: The `Plan`.
    """

    def __init__(self, operations, frame, *, jit_compile, classes, value_range, dtype):
        self.plan = Plan(operations, frame, dtype)
        self.jit_compile, self.classes, self.value_range = jit_compile, classes, value_range
        self.plain = self.plan.steps(compiled=False)
        # One program a step: fused into one, XLA would compute a resampled pixel again for every use of it. Each is a
        # partial of its own, or TensorFlow would take many pipelines for one function that is traced again and again.
        self.compiled = [
            (kind, tf.function(functools.partial(step), jit_compile=True, autograph=False))
            for kind, step in self.plan.steps(compiled=True)
        ]

    def transform(self, images, labels, sample_weight, seed):
        """Augment one batch of tensors; `seed` is int64 of shape (2,).

        Outside a graph this runs operation by operation, on purpose: inside a `tf.function`, TensorFlow's graph
        optimizer reorders arithmetic, and the last bit would differ from what tf.data computes.
        """
        with tf.control_dependencies(self._value_checks(images, labels)):
            batch = tf.identity(tf.shape(images)[0])
        draws = self.plan.draw(seed, batch)
        mixed = [labels, sample_weight] if self.plan.mixes else [None, None]
        if mixed[0] is not None:
            mixed[0] = label_rows(labels, self.classes)
        parts = [images, *mixed]
        compile_from = -(-COMPILE_FROM // int(np.prod(images.shape[1:])))
        if self.jit_compile != "auto":
            large = self.jit_compile
        else:
            large = batch >= compile_from if images.shape[0] is None else images.shape[0] >= compile_from
        run = lambda steps: _present(_run(steps, parts, draws))  # noqa: E731
        if tf.is_tensor(large):
            parts = tf.cond(large, lambda: run(self.compiled), lambda: run(self.plain))
        else:
            parts = run(self.compiled if large else self.plain)
        parts = list(parts)
        last = self.plan.last
        images = tf.ensure_shape(parts.pop(0), (images.shape[0], last.height, last.width, last.channels))
        if mixed[0] is not None:
            labels = parts.pop(0)
        if mixed[1] is not None:
            sample_weight = parts.pop(0)
        return images, labels, sample_weight

    def check_values(self, images, labels):
        """Raise `ValueError` for pixels or labels out of range; for tensors whose values are known."""
        for bad, message in self._value_conditions(images, labels):
            if bad:
                raise ValueError(message().numpy().decode())

    def _value_checks(self, images, labels):
        checks = []
        for bad, message in self._value_conditions(images, labels):
            fail = lambda message=message: tf.debugging.Assert(False, [message()])  # noqa: E731
            checks.append(tf.cond(bad, lambda fail=fail: _after(fail()), lambda: tf.constant(True)))
        return checks

    def _value_conditions(self, images, labels):
        """`(bad, message)` pairs: a scalar bool and a function giving the message as a tensor."""
        low, high = self.value_range
        if images.dtype.is_floating or (low, high) != (0, 255):
            smallest, largest = (
                tf.cast(reduce(images), tf.float32) for reduce in (tf.reduce_min, tf.reduce_max)
            )
            slack = (high - low) * 1e-3
            inside = (smallest >= low - slack) & (largest <= high + slack)
            yield (
                ~inside,
                lambda: tf.strings.format(
                    f"augment.Pipeline expects pixels in {low:g} to {high:g}, its value_range. Received {{}} "
                    "to {}. Set value_range to that of the images, or scale them.",
                    (smallest, largest),
                ),
            )
        if self.classes is not None and tf.is_tensor(labels) and class_numbers(labels):
            lowest, highest = (tf.cast(reduce(labels), tf.int64) for reduce in (tf.reduce_min, tf.reduce_max))
            yield (
                (lowest < 0) | (highest >= self.classes),
                lambda: tf.strings.format(
                    f"augment.Pipeline expects labels in 0 to {self.classes - 1}, as classes={self.classes} says. "
                    "Received labels from {} to {}. Set classes to the number of classes, and number them from 0.",
                    (lowest, highest),
                ),
            )


def _run(steps, parts, draws):
    images, labels, sample_weight = parts
    for kind, step in steps:
        if kind == "image":
            images = step(images, draws)
        else:
            images, labels, sample_weight = step(images, labels, sample_weight, draws)
    return images, labels, sample_weight


def _present(parts):
    return tuple(part for part in parts if part is not None)


def _after(assertion):
    with tf.control_dependencies([assertion] if assertion is not None else []):
        return tf.constant(True)
