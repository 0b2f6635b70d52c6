"""The common parts of the attacks: the checks of their arguments, and the loss that they increase."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from recipes.common.types import FloatArray, Images, Labels, ValueRange
from recipes.common.validation import is_number
from recipes.explain.adversarial.norms import norm_named
from recipes.explain.engine import targets
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.image_spec import Canvas
from recipes.explain.engine.inputs import pack

_SPEC = targets.Spec("class")


def prepare(
    method: str,
    model: keras.Model,
    images: Images,
    labels: "Labels | None",
    value_range: ValueRange,
    epsilon: float = 0.0,
    norm: str = "inf",
) -> tuple[Canvas, FloatArray, bool, targets.Target | None, str]:
    """Check the arguments that all attacks share.

    Returns:
        `(canvas, images, single, labels, norm)`: the images are float32 `(n, height, width, channels)`, `single` tells
        whether one image was given, the labels are a target or None, and the norm is "inf" or "2".

    Raises:
        UsageError: when an argument is outside its range or does not fit the model.
        TypeError: when the labels are not numbers.
    """
    if not is_number(epsilon) or epsilon < 0:
        raise UsageError(
            f"{method} expects epsilon to be a distance in the units of value_range, at least 0. Received {epsilon!r}. "
            "Start from 8 for images in 0..255, from 8 / 255 for images in 0..1."
        )
    norm = norm_named(method, norm)
    canvas = Canvas(method, model, size=np.shape(images)[-3:-1] or None, value_range=value_range)
    images, single = canvas.batch(images)
    if labels is None:
        return canvas, images, single, None, norm
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iufb":
        raise TypeError(
            f"{method} expects class numbers or one-hot rows. Received {labels.dtype}. Give one number per image."
        )
    if single and labels.ndim == 0:
        labels = labels[None]
    if labels.ndim == 2 and labels.shape[-1] == 1 and labels.dtype.kind in "iub":
        labels = labels[:, 0]
    if labels.shape != (len(images),) and labels.ndim != 0:
        if labels.ndim != 2 or len(labels) != len(images):
            raise UsageError(
                f"{method} expects one class number per image: {len(images)}. Received labels of shape {labels.shape}. "
                "Give one label for all images, or one label per image."
            )
        labels = labels.argmax(1)
    parsed = targets.parse(labels, model, len(images), method=method)
    return canvas, images, single, parsed, norm


def margins_of(
    model: keras.Model, seen: tf.Tensor, labels: tf.Tensor, keys: Any
) -> tuple[tf.Tensor, tf.Tensor]:
    """The margin float32 `(n,)` and the predicted class int32 `(n,)` of each image.

    The margin of logits z is `log sum over other classes of exp(z) - z of the label`. The cross-entropy is
    `log(1 + exp(margin))`, so both increase in the same direction and rank images alike. But the gradient of the margin
    does not vanish where the network is confident. A network with one sigmoid has two classes, whose logits are 0 and
    the logit of the sigmoid.
    """
    (values,) = targets.flat_outputs(model, model(pack(model, [seen], keys), training=False), _SPEC)
    if values.shape.rank == 1:
        values = values[:, None]
    if values.shape[-1] == 1:
        values = tf.concat([tf.zeros_like(values), values], -1)
    return margin(values, labels), tf.argmax(values, -1, output_type="int32")


def margin(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """`log sum over other classes of exp(z) - z of the label`, `(n,)`, for logits `(n, classes)` and labels `(n,)`."""
    own = tf.one_hot(labels, logits.shape[-1], on_value=True, off_value=False)
    others = tf.reduce_logsumexp(tf.where(own, logits.dtype.min, logits), -1)
    return others - tf.reduce_sum(tf.where(own, logits, 0.0), -1)
