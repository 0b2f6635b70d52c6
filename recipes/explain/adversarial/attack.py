"""What the attacks share: the loss that is raised, the largest step in a norm, exact projections."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from recipes.common.types import FloatArray, Images, Labels, ValueRange
from recipes.common.validation import is_number
from recipes.explain.engine import targets
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.image_spec import Canvas
from recipes.explain.engine.inputs import pack

NORMS = {"inf": "inf", "l_inf": "inf", np.inf: "inf", "l2": "2", "2": "2", 2: "2"}
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
    """Check what every attack is given.

    Returns:
        `(canvas, images float32 (n, ...), single, labels as a target or None, norm "inf" or "2")`.
    """
    if not is_number(epsilon) or epsilon < 0:
        raise UsageError(
            f"{method} expects epsilon to be a distance in the units of value_range, at least 0. Received {epsilon!r}. "
            "Usual for images in 0..255 is 8, in 0..1 it is 8 / 255."
        )
    if not isinstance(norm, (str, int, float)) or norm not in NORMS:
        raise UsageError(f"{method} expects norm to be 'inf' or 'l2'. Received {norm!r}. Write norm='inf'.")
    canvas = Canvas(method, model, size=np.shape(images)[-3:-1] or None, value_range=value_range)
    images, single = canvas.batch(images)
    if labels is None:
        return canvas, images, single, None, NORMS[norm]
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iufb":
        raise TypeError(
            f"{method} expects class numbers or one-hot rows. Received {labels.dtype}. Give one number an image."
        )
    if single and labels.ndim == 0:
        labels = labels[None]
    if labels.ndim == 2 and labels.shape[-1] == 1 and labels.dtype.kind in "iub":
        labels = labels[:, 0]
    if labels.shape != (len(images),) and labels.ndim != 0:
        if labels.ndim != 2 or len(labels) != len(images):
            raise UsageError(
                f"{method} expects one class number per image: {len(images)}. Received labels of shape {labels.shape}. "
                "Give one label for all images, or one each."
            )
        labels = labels.argmax(1)
    parsed = targets.parse(labels, model, len(images), method=method)
    return canvas, images, single, parsed, NORMS[norm]


def margins_of(
    model: keras.Model, seen: tf.Tensor, labels: tf.Tensor, keys: Any
) -> tuple[tf.Tensor, tf.Tensor]:
    """`(margin (n,), predicted class (n,))` of logits z: `log sum over other classes of exp(z) - z of the label`.

    The cross-entropy is `log(1 + exp(margin))`, so both rise in the same direction and order images alike; but the
    gradient of the margin does not vanish where the network is sure. A network with one sigmoid has two classes, whose
    logits are 0 and that of the sigmoid.
    """
    (values,) = targets.flat_outputs(model, model(pack(model, [seen], keys), training=False), _SPEC)
    if values.shape.rank == 1:
        values = values[:, None]
    if values.shape[-1] == 1:
        values = tf.concat([tf.zeros_like(values), values], -1)
    return margin(values, labels), tf.argmax(values, -1, output_type="int32")


def margin(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """`log sum over other classes of exp(z) - z of the label`: `(n, classes)` and `(n,)` to `(n,)`."""
    own = tf.one_hot(labels, logits.shape[-1], on_value=True, off_value=False)
    others = tf.reduce_logsumexp(tf.where(own, logits.dtype.min, logits), -1)
    return others - tf.reduce_sum(tf.where(own, logits, 0.0), -1)


def steepest(gradient: tf.Tensor, norm: str) -> tf.Tensor:
    """The direction of length 1 in which a linear loss rises most: the sign for "inf", the unit vector for "2"."""
    if norm == "inf":
        return tf.sign(gradient)
    return tf.math.divide_no_nan(gradient, length(gradient))


def length(values: tf.Tensor) -> tf.Tensor:
    """Euclidean length of each image of a batch: `(n, 1, 1, 1)`."""
    largest = tf.reduce_max(tf.abs(values), [1, 2, 3], keepdims=True)  # so that squares do not underflow
    scaled = tf.math.divide_no_nan(values, largest)
    return largest * tf.sqrt(tf.reduce_sum(tf.square(scaled), [1, 2, 3], keepdims=True))


def project(
    images: tf.Tensor, original: tf.Tensor, epsilon: Any, norm: str, low: Any, high: Any
) -> tf.Tensor:
    """The nearest images within `epsilon` of the original; for "2" the ball first, then the range."""
    change = images - original
    if norm == "inf":
        change = tf.clip_by_value(change, -epsilon, epsilon)
    else:
        change *= tf.minimum(1.0, tf.math.divide_no_nan(epsilon, length(change)))
    return tf.clip_by_value(original + change, low, high)


def project_exactly(
    images: FloatArray, original: FloatArray, epsilon: float, norm: str, value_range: ValueRange
) -> FloatArray:
    """`project` in float64, rounded to float32 toward the original, so that `|images - original| <= epsilon` holds for
    the numbers that are returned, not only up to rounding.

    Args:
        images, original: float32 `(n, height, width, channels)`.
        epsilon: The distance allowed.
        norm: "inf" or "2".
        value_range: `(low, high)`.
    """
    start = original.astype("float64")
    change = images.astype("float64") - start
    if norm == "2":
        norms = np.sqrt(np.square(change).sum((1, 2, 3), keepdims=True))
        with np.errstate(divide="ignore", invalid="ignore"):
            change = np.where(norms > epsilon, change * (epsilon / norms), change)
    else:
        change = np.clip(change, -epsilon, epsilon)
    result = np.clip(start + change, *value_range).astype("float32")
    while True:
        change = result.astype("float64") - start
        if norm == "inf":
            over = np.abs(change) > epsilon
        else:
            over = np.sqrt(np.square(change).sum((1, 2, 3), keepdims=True)) > epsilon
            over = over & (change != 0)
        if not over.any():
            return result
        result = np.where(over, np.nextafter(result, original), result)
