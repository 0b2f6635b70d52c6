"""One evaluation of a synthesis: from parameters to the image, its view, its score and its gradient."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from recipes.explain.engine.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Candidate:
    """The arguments of an objective.

    Args:
        seen: The images as the model sees them: under a random view, preprocessed, in the model's own layout.
        images: The unit images `(n, height, width, channels)`, in 0..1.
        parameters: `(n, ...)`, from which the images were decoded.
        rows: Constant tensors with one row per image.
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
    """`(scores (n,), gradient)`: each image's score and its gradient with respect to the image's own parameters."""
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
            "not reach it. Look for rounding, argmax or stop_gradient between the image and the score."
        )
    return value, gradient


def view_of(problem: Any, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """The model's view of unit images at a step: transformed, scaled to the value range and preprocessed."""
    low, high = problem.value_range
    seen = low + (high - low) * problem.views(images, seed)
    if problem.preprocess is not None:
        seen = problem.preprocess(seen)
    return tf.transpose(seen, [0, 3, 1, 2]) if problem.channels_first else seen
