"""Finer-CAM: Grad-CAM of the difference between a class and those it is most easily taken for."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from typing_extensions import Unpack

from recipes.common.types import FloatArray, Inputs
from recipes.common.validation import is_number
from recipes.explain.attribution import cam
from recipes.explain.attribution.attribution_task import Task, at_least_one
from recipes.explain.attribution.grad_cam import grad_cam
from recipes.explain.engine import tracing
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
    """Grad-CAM of how much a class is preferred to its most similar ones: what tells it from them.

    What the classes share cancels; the parts by which a bird is told from its relatives stay. Source: Zhang et al.
    2025, "Finer-CAM", section 3, https://arxiv.org/abs/2501.11309. Similar are the classes whose logits for the
    image come nearest to that of the class; as in the authors' code they are weighted by their probabilities, which
    are held constant here.

    Args:
        model, images: As in every method, see `recipes.explain`.
        target: A class: None (the predicted one), an integer, one per image, or one-hot labels.
        similar: How many other classes to compare with, >= 1.
        strength: How much of their score is subtracted, gamma in the paper, >= 0; 0 is Grad-CAM.
        options: Those of `LayerOptions`. The score is the difference of logits.

    Returns:
        float32 `(n, height, width)`, at least 0; `(height, width)` for a single image.

    Raises:
        ValueError: a target that is no class, and what `grad_cam` raises.
    """
    at_least_one("finer_cam", "similar", similar)
    if not is_number(strength) or strength < 0:
        raise UsageError(
            f"finer_cam expects strength >= 0. Received strength={strength!r}. The paper uses 1; 0 is Grad-CAM."
        )
    layer, call_index, tokens, resize = (
        options.pop(name) for name in ("layer", "call_index", "tokens", "resize")
    )
    classes = Task("finer_cam", model, images, target, **options)
    if classes.target.spec.kind != "class" or options["score"] != "logits":
        raise UsageError(
            "finer_cam expects a class as target and score='logits'. Received "
            f"{'another kind of target' if options['score'] == 'logits' else 'probabilities'}. Use grad_cam, which "
            "explains any score."
        )
    contrast = _Contrast(similar, strength)
    task = Task(
        *("finer_cam", model, images),
        {next(iter(target)): contrast} if isinstance(target, dict) else contrast,
        **options,
    )
    call = cam.find_layer(task, layer, call_index)
    maps = []
    for rows in task.chunks():
        contrast.classes = classes.target.index[rows, 0]
        activations, gradients, *_ = task.layer_pass(rows, call)
        place = call or tracing.default_layer(model, task.target.spec)
        seen = (cam.spread(task, values, place, tokens) for values in (activations, gradients))
        maps.append(np.maximum(grad_cam.equation(*seen), 0))
    return cam.finish(task, np.concatenate(maps), resize)


def contrast_weights(logits: FloatArray, classes: np.ndarray, similar: int, strength: float) -> FloatArray:
    """What each logit counts: 1 for the class, `-strength` shared out among the most similar others.

    Args:
        logits: `(n, classes)`.
        classes: int `(n,)`.
        similar: Number of other classes.
        strength: gamma in the paper.

    Returns:
        float32 `(n, classes)`, so that `(weights * logits).sum(1)` is the score.
    """
    rows = np.arange(len(logits))
    distance = np.abs(logits - logits[rows, classes][:, None])
    distance[rows, classes] = np.inf
    others = np.argsort(distance, axis=1, kind="stable")[:, : min(similar, logits.shape[1] - 1)]
    chosen = np.take_along_axis(logits.astype("float64"), others, 1)
    share = np.exp(chosen - chosen.max(1, keepdims=True))
    weights = np.zeros(logits.shape, "float32")
    np.put_along_axis(weights, others, -strength * share / share.sum(1, keepdims=True), 1)
    weights[rows, classes] = 1
    return weights


class _Contrast:
    """The score of a chunk of images, whose classes are set before it is evaluated (-1 is the predicted one)."""

    def __init__(self, similar: int, strength: float) -> None:
        self.similar, self.strength, self.classes = similar, strength, None

    def __call__(self, outputs: Any) -> tf.Tensor:
        logits = outputs[0] if isinstance(outputs, (list, tuple)) else outputs
        logits = tf.cast(logits[:, None] if logits.shape.rank == 1 else logits, "float32")
        if logits.shape[-1] == 1:
            logits = tf.concat([-logits, logits], -1)  # one sigmoid counts as two classes
        values = logits.numpy()
        classes = np.where(self.classes < 0, values.argmax(1), self.classes)
        weights = contrast_weights(values, classes, self.similar, self.strength)
        return tf.reduce_sum(weights * logits, -1)
