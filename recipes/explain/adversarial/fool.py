"""Fool a network: find the smallest change of an image that makes the network predict another class."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike
from typing_extensions import Unpack

from recipes.common.types import FloatArray, Images, ValueRange
from recipes.explain.adversarial.attack import margins_of, prepare
from recipes.explain.adversarial.norms import length
from recipes.explain.adversarial.pgd import check_classes
from recipes.explain.engine import tracing
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.inputs import see
from recipes.explain.engine.options import InspectionOptions, shares


@dataclasses.dataclass(frozen=True)
class Fooled:
    """The result of `fool`; without the first axis when one image was given.

    Args:
        images: The changed images, float32 `(n, height, width, channels)` in the value range.
        difference: `images` minus the originals, float32 of the same shape.
        magnified: The middle of the value range plus ten times the difference, clipped to the range; float32.
        predicted: The class that the network now predicts, int32 `(n,)`.
        success: Whether that is the target, bool `(n,)`.
        steps: Number of ascent steps taken, int32 `(n,)`.
        distance: Euclidean length of the difference, float32 `(n,)`, in units of the value range.
    """

    images: FloatArray
    difference: FloatArray
    magnified: FloatArray
    predicted: np.ndarray
    success: np.ndarray
    steps: np.ndarray
    distance: FloatArray


@shares(InspectionOptions)
def fool(
    model: keras.Model,
    images: Images,
    target: int | ArrayLike,
    *,
    value_range: ValueRange = (0, 255),
    steps: int = 200,
    step_size: float | None = None,
    halvings: int = 12,
    **options: Unpack[InspectionOptions],
) -> Fooled:
    """Change images until the network predicts the target class, and make the change as small as possible.

    Source: Szegedy et al. 2013, "Intriguing properties of neural networks", section 4,
    https://arxiv.org/abs/1312.6199. The method is the simpler one of the Stanford lectures CS231n: normalized gradient
    steps increase the target's score until it is the predicted class. Each change is then shortened by bisection along
    the straight line to the original, between an image that is predicted as the target and one that is not.

    Args:
        model: A built `keras.Model` with one image input and classes as output. It is never changed.
        images: `(n, height, width, channels)` or one image, in `value_range`.
        target: The class to predict: one number, or one per image. It must differ from the present prediction.
        value_range: `(low, high)` of the images; the changed images stay in it.
        steps: Largest number of ascent steps, >= 1.
        step_size: Euclidean length of a step, > 0, in units of the value range. None means `(high - low) / 500 *
            sqrt(values per image)`, which is 1/500 of the range per value.
        halvings: Number of bisection steps at the end, >= 0; 0 gives the method of the lectures.
        options: The options of `InspectionOptions`: `preprocess`, and how the model is run.

    Returns:
        A `Fooled`.

    Raises:
        ValueError: when the target is already predicted or is not a class of the network, when images are outside the
            range, or when another argument is outside its range.
    """
    if target is None:
        raise UsageError(
            "fool expects a class to fool the model into. Received target=None. Give a class number, such as target=0."
        )
    preprocess, batch_size, compile = (options[name] for name in ("preprocess", "batch_size", "compile"))
    canvas, images, single, wanted, _ = prepare("fool", model, images, target, value_range)
    check_classes("fool", model, wanted, canvas, images[:1], preprocess, compile)
    low, high = canvas.value_range
    if steps < 1 or halvings < 0 or (step_size is not None and not step_size > 0):
        raise UsageError(
            f"fool expects steps >= 1, halvings >= 0 and step_size > 0. Received {steps}, {halvings} and {step_size}. "
            "Leave them out for the defaults."
        )
    step_size = (high - low) / 500 * np.sqrt(images[0].size) if step_size is None else step_size
    settings = np.array([step_size, low, high, steps, halvings], "float32")
    parts = []
    for start, stop in tracing.chunks(len(images), batch_size):
        classes = wanted.index[start:stop, 0]
        found = tracing.evaluate(
            model,
            _fool,
            [settings, images[start:stop], classes],
            compile=compile,
            shapes=[(5,), (None, *images.shape[1:]), (None,)],
            keys=canvas.keys,
            preprocess=preprocess,
            channels_first=canvas.channels_first,
        )
        first, *found = (values.numpy() for values in found)
        already = np.flatnonzero(first == classes)
        if already.size:
            raise UsageError(
                f"fool expects a target other than the prediction. Image {start + already[0]} is already predicted as "
                f"{first[already[0]]}. Choose another class, or leave that image out."
            )
        parts.append(found)
    changed, predicted, taken = (np.concatenate(values) for values in zip(*parts, strict=True))
    difference = changed - images
    result = {
        "images": changed,
        "difference": difference,
        "magnified": np.clip((low + high) / 2 + 10 * difference, low, high).astype("float32"),
        "predicted": predicted,
        "success": predicted == wanted.index[:, 0],
        "steps": taken,
        "distance": np.sqrt(np.square(difference.astype("float64")).sum((1, 2, 3))).astype("float32"),
    }
    return Fooled(**{name: values[0] if single else values for name, values in result.items()})


def _fool(model, settings, original, target, *, keys, preprocess, channels_first):
    """`(first prediction, images, prediction, steps)` of one batch; each image stops when the target is predicted."""
    step_size, low, high, steps, halvings = tf.unstack(settings)

    def predict(images):
        return margins_of(model, see(images, preprocess, channels_first), target, keys)

    def climb(step, images, done, taken):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            loss, predicted = predict(images)
        done |= predicted == target
        gradient = -tape.gradient(loss, images)
        moved = images + step_size * tf.math.divide_no_nan(gradient, length(gradient))
        moved = tf.clip_by_value(moved, low, high)
        images = tf.where(done[:, None, None, None], images, moved)
        return step + 1, images, done, taken + tf.cast(~done, "int32")

    done = tf.zeros_like(target, "bool")
    _, images, _, taken = tf.while_loop(
        lambda step, _, done, __: (step < steps) & ~tf.reduce_all(done),
        climb,
        (0.0, original, done, tf.zeros_like(target)),
        parallel_iterations=1,
    )
    _, predicted = predict(images)
    reached = predicted == target

    def halve(step, near, far):
        middle = (near + far) / 2
        _, predicted = predict(original + middle * (images - original))
        fooled = (predicted == target)[:, None, None, None]
        return step + 1, tf.where(fooled, near, middle), tf.where(fooled, middle, far)

    # At `far` the target is always predicted, at `near` it is not.
    far = tf.ones([tf.shape(original)[0], 1, 1, 1])
    _, _, far = tf.while_loop(
        lambda step, *_: step < halvings, halve, (0.0, tf.zeros_like(far), far), parallel_iterations=1
    )
    images = tf.where(reached[:, None, None, None], original + far * (images - original), images)
    _, first = predict(original)
    return first, images, predict(images)[1], taken
