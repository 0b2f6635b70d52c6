"""Finer-CAM: Grad-CAM of the difference between a class and the classes most similar to it."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf
from typing_extensions import Unpack

from recipes.common.types import FloatArray, Inputs
from recipes.common.validation import is_number
from recipes.explain.attribution import cam
from recipes.explain.attribution.attribution_task import Task, at_least_one
from recipes.explain.attribution.grad_cam import grad_cam
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.options import LayerOptions, Target, shares


@shares(LayerOptions)
def finer_cam(
    model: keras.Model,
    images: Inputs,
    target: Target = None,
    *,
    similar: int = 3,
    strength: float = 1.0,
    **options: Unpack[LayerOptions],
) -> FloatArray:
    """Finer-CAM: Grad-CAM of the difference between the score of a class and those of the most similar classes.

    Evidence that the classes share cancels; for a bird, the parts remain that distinguish its species from similar
    species. Source: Zhang et al. 2025, "Finer-CAM", section 3, https://arxiv.org/abs/2501.11309. The similar classes
    are those whose logits for the image are nearest to that of the class. As in the authors' code they are weighted by
    a softmax over their logits; these weights are constants in the gradient.

    Args:
        model, images: As in every method; see `recipes.explain`.
        target: A class: None (the predicted one), an integer, one per image, or one-hot labels.
        similar: Number of similar classes to compare with, >= 1.
        strength: Factor of their score, which is subtracted, >= 0; gamma in the paper, 0 gives Grad-CAM.
        options: The options of `LayerOptions`. The score is the difference of logits.

    Returns:
        float32 `(n, height, width)`, at least 0; `(height, width)` for a single image.

    Raises:
        ValueError: when the target is not a class, `similar` or `strength` is outside its range, and as in `grad_cam`.
    """
    at_least_one("finer_cam", "similar", similar)
    if not is_number(strength) or strength < 0:
        raise UsageError(
            f"finer_cam expects strength >= 0. Received strength={strength!r}. The paper uses 1; 0 is Grad-CAM."
        )
    layer, call_index, tokens, resize = (
        options.pop(name) for name in ("layer", "call_index", "tokens", "resize")
    )
    task = Task("finer_cam", model, images, target, **options)
    if task.target.spec.kind != "class" or options["score"] != "logits":
        raise UsageError(
            "finer_cam expects a class as target and score='logits'. Received "
            f"{'another kind of target' if options['score'] == 'logits' else 'probabilities'}. Use grad_cam, which "
            "explains any score."
        )
    task.target = dataclasses.replace(
        task.target,
        spec=dataclasses.replace(task.target.spec, combine=Contrast(int(similar), float(strength))),
    )
    return cam.maps_of(
        task,
        lambda *seen: np.maximum(grad_cam.equation(*seen), 0),
        layer=layer,
        call_index=call_index,
        tokens=tokens,
        resize=resize,
    )


def contrast_weights(logits: tf.Tensor, classes: tf.Tensor, similar: int, strength: float) -> tf.Tensor:
    """The weight of each logit: 1 for the class, and `-strength` divided among the most similar other classes.

    Args:
        logits: float `(n, classes)`.
        classes: The class of each image, int `(n,)`.
        similar: Number of similar classes, >= 1.
        strength: gamma in the paper, >= 0.

    Returns:
        float32 `(n, classes)`; the sum of weights times logits is the score.
    """
    depth = logits.shape[-1]
    own = tf.one_hot(classes, depth)
    distance = tf.abs(logits - tf.reduce_sum(own * logits, 1, keepdims=True))
    closeness = tf.where(own > 0, -np.inf, -distance)
    others = tf.math.top_k(
        closeness, min(similar, depth - 1)
    ).indices  # of two classes equally near, the one with the lower number
    share = tf.nn.softmax(tf.gather(logits, others, axis=1, batch_dims=1))
    return own - strength * tf.reduce_sum(share[..., None] * tf.one_hot(others, depth), 1)


@dataclasses.dataclass(frozen=True)
class Contrast:
    """The score of a class minus that of similar classes, `(n,)`, from logits `(n, classes)` and classes `(n,)`."""

    similar: int
    strength: float

    def __call__(self, logits: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        weights = contrast_weights(tf.stop_gradient(logits), classes, self.similar, self.strength)
        return tf.reduce_sum(weights * logits, -1)
