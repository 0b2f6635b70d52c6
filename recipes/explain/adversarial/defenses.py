"""Defenses against adversarial examples: adversarial training, consistency training and smoothed prediction."""

import contextlib
from collections.abc import Iterator
from typing import Literal

import keras
import numpy as np
import tensorflow as tf
from typing_extensions import Unpack

from recipes.common.blur import gaussian_blur
from recipes.common.patching import replaced
from recipes.common.types import FloatArray, Images, ValueRange
from recipes.explain.adversarial.norms import norm_named, random_changes
from recipes.explain.adversarial.pgd import default_step, stepped
from recipes.explain.engine import layer_lookup, tracing
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.image_spec import Canvas, check_range
from recipes.explain.engine.inputs import pack
from recipes.explain.engine.options import Layer, PassOptions, shares


@contextlib.contextmanager
def adversarial_training(
    model: keras.Model,
    *,
    epsilon: float,
    value_range: ValueRange,
    norm: Literal["inf", "l2"] = "inf",
    steps: int = 7,
    step_size: float | None = None,
    clean: float = 0.0,
    seed: int = 0,
) -> Iterator[keras.Model]:
    """Adversarial training: within the block, each step of `fit` trains on adversarial examples of its batch.

    Source: Madry et al. 2017, equation 2.1 and section 2.1, https://arxiv.org/abs/1706.06083. The attack is PGD from a
    random start on the compiled loss, with batch normalization and dropout in inference mode. The model's own
    `train_step` then trains on the attacked images. After the block the original `train_step` is restored.

    Args:
        model: A compiled and built `keras.Model` with one image input.
        epsilon, value_range, norm: As in `pgd`.
        steps: Number of steps of the attack, >= 1; 7 in the paper for CIFAR-10. Each step costs a forward pass and a
            gradient.
        step_size: Length of a step in the units of `value_range`. None means 2.5 epsilon / steps.
        clean: Fraction of each batch that is not attacked, in [0, 1); 0.5 weighs both halves equally, as Goodfellow et
            al. 2014, section 6.
        seed: Integer that fixes the random starts.

    Yields:
        The model.

    Example:
        >>> with explain.adversarial_training(model, epsilon=8, value_range=(0, 255)):
        ...     model.fit(images, labels, epochs=10)

    Raises:
        ValueError: when `epsilon`, `steps`, `clean` or `value_range` is outside its range, or the model is not built
            and compiled.
        TypeError: when `model` is not a `keras.Model`.
    """
    low, high = check_range("adversarial_training", value_range)
    _check_compiled("adversarial_training", model)
    norm = norm_named("adversarial_training", norm)
    if not 0 <= epsilon < np.inf or steps < 1 or not 0 <= clean < 1:
        raise UsageError(
            "adversarial_training expects epsilon >= 0, steps >= 1 and clean in [0, 1). Received "
            f"{epsilon}, {steps}, {clean}. Start from epsilon=8, norm='inf', steps=7, clean=0."
        )
    step_size = default_step(epsilon, steps) if step_size is None else step_size
    original_step = model.train_step
    generator = tf.random.Generator.from_seed(seed)

    def attack(images, y, sample_weight):
        begin = images + epsilon * random_changes(generator, tf.shape(images), norm)
        begin = tf.clip_by_value(begin, low, high)

        def body(step, perturbed):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(perturbed)
                outputs = model(perturbed, training=False)
                loss = model.compute_loss(perturbed, y, outputs, sample_weight, training=False)
            gradient = tape.gradient(loss, perturbed)
            return step + 1, stepped(perturbed, gradient, images, (epsilon, norm), step_size, (low, high))

        _, found = tf.while_loop(lambda step, _: step < steps, body, (0, begin), parallel_iterations=1)
        kept = tf.cast(clean * tf.cast(tf.shape(images)[0], "float32"), "int32")
        return tf.concat([images[:kept], found[kept:]], 0)

    def train_step(data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if not tf.is_tensor(x):
            raise UsageError(
                f"adversarial_training expects a model with one image input. Received {type(x).__name__}. Train on one "
                "input, or attack with pgd beforehand."
            )
        x = tf.stop_gradient(attack(tf.cast(x, "float32"), y, sample_weight))
        return original_step(keras.utils.pack_x_y_sample_weight(x, y, sample_weight))

    with replaced([(model, "train_step", train_step), (model, "train_function", None)]):
        yield model


@contextlib.contextmanager
def consistency_training(
    model: keras.Model,
    layer: Layer,
    *,
    value_range: ValueRange,
    noise: float = 0.05,
    weight: float = 1.0,
    seed: int = 0,
) -> Iterator[keras.Model]:
    """Stability training: within the block, `fit` also keeps the representations of an image and a noisy copy close.

    Source: Zheng et al. 2016, "Improving the Robustness of Deep Neural Networks via Stability Training", equations 1
    to 3, https://arxiv.org/abs/1604.04326: `loss + weight * |f(x) - f(x + noise)|^2`. Here the distance is divided by
    `|f(x)|^2` and averaged over the batch. Both representations are computed with batch normalization and dropout in
    inference mode.

    Args:
        model: A compiled and built `keras.Model` with one image input.
        layer: The layer whose output is the representation, by object, name, path or index. The paper takes the last
            layer before the classifier.
        value_range: `(low, high)` of the images; noisy images are clipped to it.
        noise: Standard deviation of the Gaussian noise, as a fraction of the value range, >= 0.
        weight: Weight of the distance, >= 0; alpha in the paper, 0.01 there for squared distances that are not
            divided.
        seed: Integer that fixes the noise.

    Yields:
        The model.

    Raises:
        ValueError: when the layer is unknown, `noise` or `weight` is negative, or the model is not built and compiled.
        TypeError: when `model` is not a `keras.Model`.
    """
    low, high = check_range("consistency_training", value_range)
    _check_compiled("consistency_training", model)
    if not (0 <= noise < np.inf and 0 <= weight < np.inf):
        raise UsageError(
            f"consistency_training expects noise >= 0 and weight >= 0. Received {noise} and {weight}. Start from "
            "noise=0.05 and weight=1."
        )
    call = layer_lookup.find(model, layer, method="consistency_training")
    original_loss = model.compute_loss
    generator = tf.random.Generator.from_seed(seed)

    def compute_loss(x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = original_loss(x, y, y_pred, sample_weight, training=training)
        if not training:
            return loss
        images = tf.cast(x, "float32")
        noisy = images + noise * (high - low) * generator.normal(tf.shape(images))
        both = tf.concat([images, tf.clip_by_value(noisy, low, high)], 0)
        _, (values,) = tracing.capture(model, both, [call], stop=True)
        plain, perturbed = tf.split(tf.cast(values, "float32"), 2)
        return loss + weight * tf.reduce_mean(relative_distance(plain, perturbed))

    with replaced([(model, "compute_loss", compute_loss), (model, "train_function", None)]):
        yield model


def relative_distance(plain: tf.Tensor, perturbed: tf.Tensor) -> tf.Tensor:
    """`|f(x) - f(x')|^2 / |f(x)|^2` of each image, `(n,)`.

    The gradient goes through the denominator too. Otherwise training could reduce the loss by shrinking the
    representation.
    """
    axes = tuple(range(1, plain.shape.rank))
    return tf.math.divide_no_nan(
        tf.reduce_sum(tf.square(plain - perturbed), axes), tf.reduce_sum(tf.square(plain), axes)
    )


@shares(PassOptions)
def smoothed_predict(
    model: keras.Model,
    images: Images,
    *,
    value_range: ValueRange,
    noise: float = 0.1,
    samples: int = 32,
    blur: float = 0.0,
    seed: int = 0,
    **options: Unpack[PassOptions],
) -> FloatArray:
    """Randomized smoothing: predict the average over noisy copies of each image, optionally blurred.

    Small changes that were computed for the image itself lose their effect under the noise. Source: Cohen et al. 2019,
    "Certified Adversarial Robustness via Randomized Smoothing", section 3.2, https://arxiv.org/abs/1902.02918; the
    paper counts votes, here probabilities are averaged. The blur follows Xu et al. 2017, "Feature Squeezing", section
    III.B, https://arxiv.org/abs/1704.01155, who use a median filter.

    Args:
        model: A built `keras.Model` with one image input. It is never changed.
        images: `(n, height, width, channels)` or one image, in `value_range`.
        value_range: `(low, high)` of the images; noisy images are clipped to it.
        noise: Standard deviation of the Gaussian noise, as a fraction of the value range, >= 0; 0 adds no noise.
        samples: Number of noisy copies of each image, >= 1.
        blur: Standard deviation in pixels of a Gaussian blur after the noise, >= 0; 0 does not blur.
        seed: Integer that fixes the noise, which is the same for every image.
        options: The options of `PassOptions`: how the model is run.

    Returns:
        float32 `(n, classes)`, the mean of the model's outputs; `(classes,)` for one image.

    Raises:
        ValueError: when an argument is outside its range, or the images do not fit the model or `value_range`.
    """
    canvas = Canvas("smoothed_predict", model, size=np.shape(images)[-3:-1] or None, value_range=value_range)
    images, single = canvas.batch(images)
    if not 0 <= noise < np.inf or not 0 <= blur < np.inf or samples < 1:
        raise UsageError(
            f"smoothed_predict expects noise >= 0, blur >= 0 and samples >= 1. Received {noise}, {blur}, {samples}. "
            "Give noise as a fraction of the value range, such as 0.1."
        )
    low, high = canvas.value_range
    settings = np.array([low, high, noise * (high - low)], "float32")
    total = 0.0
    for sample in range(samples):
        normal = np.random.default_rng([seed, sample]).normal(size=(1, *images.shape[1:])).astype("float32")
        parts = [
            tracing.evaluate(
                model,
                _noisy_outputs,
                [settings, images[start:stop], normal],
                compile=options["compile"],
                shapes=[(3,), (None, *images.shape[1:]), normal.shape],
                blur=float(blur),
                channels_first=canvas.channels_first,
                keys=canvas.keys,
            ).numpy()
            for start, stop in tracing.chunks(len(images), options["batch_size"])
        ]
        total = total + np.concatenate(parts) / samples
    return total[0].astype("float32") if single else total.astype("float32")


def _noisy_outputs(model, settings, images, normal, *, blur, channels_first, keys):
    low, high, deviation = tf.unstack(settings)
    images = tf.clip_by_value(images + deviation * normal, low, high)
    images = gaussian_blur(images, blur) if blur else images
    images = tf.transpose(images, [0, 3, 1, 2]) if channels_first else images
    return tf.cast(keras.tree.flatten(model(pack(model, [images], keys), training=False))[0], "float32")


def _check_compiled(method, model):
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"{method} expects a keras.Model. Received {type(model).__name__}. Wrap layers in keras.Sequential."
        )
    if not model.built or not getattr(model, "compiled", False):
        raise UsageError(
            f"{method} expects a built and compiled model. Received '{model.name}', which is not. "
            "Call model.compile(optimizer, loss) first."
        )
