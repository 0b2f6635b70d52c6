"""One evaluation of a synthesis: from parameters to the image, what the network sees of it, its score and gradient."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from recipes.explain.engine.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Candidate:
    """What an objective judges.

    Args:
        seen: What the model sees: images under a random view, preprocessed, in the model's own layout.
        images: The unit images `(n, height, width, channels)`, 0..1.
        parameters: `(n, ...)`, what the images were decoded from.
        rows: Constant tensors with a row for each image.
        shared: Constant tensors that all images share.
    """

    seen: tf.Tensor
    images: tf.Tensor
    parameters: tf.Tensor
    rows: Sequence[tf.Tensor]
    shared: Sequence[tf.Tensor]


def value_and_gradient(
    model: keras.Model,
    problem: Any,
    parameters: tf.Tensor,
    rows: Sequence[tf.Tensor],
    shared: Sequence[tf.Tensor],
    seeds: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """`(scores (n,), gradient of each image's score by its own parameters)`, in a trace or eagerly."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(parameters)
        images = problem.parameterization.decode(parameters)
        seen = view_of(problem, images, seeds)
        candidate = Candidate(seen, images, parameters, rows, shared)
        value = tf.cast(problem.objective(model, candidate), "float32")
    gradient = tape.gradient(value, parameters)
    if gradient is None:
        raise UsageError(
            "explain expects a score that depends on the image in a differentiable way. The gradient does "
            "not reach it. "
            "Look for rounding, argmax or stop_gradient between the image and the score."
        )
    return value, gradient


def view_of(problem: Any, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """What the model sees of unit images at a step."""
    low, high = problem.value_range
    seen = low + (high - low) * problem.views(images, seed)
    if problem.preprocess is not None:
        seen = problem.preprocess(seen)
    return tf.transpose(seen, [0, 3, 1, 2]) if problem.channels_first else seen
