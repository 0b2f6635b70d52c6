"""What a network says to pure noise, where the right answer would be: nothing."""

import dataclasses

import numpy as np

from recipes.explain.engine import targets, tracing
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.image_spec import Canvas
from recipes.explain.engine.inputs import pack, see


@dataclasses.dataclass(frozen=True)
class NoiseResponse:
    """Answers to noise.

    Args:
        images: float32 `(n, height, width, channels)`, the noise.
        probabilities: float32 `(n, classes)`, softmax of the logits.
        classes: int `(n,)`, the predicted ones.
        share: float32 `(classes,)`: how often each class was predicted.
        confidence: Mean probability of the predicted class; 1 / classes would be honest.
        entropy: Mean entropy of the probabilities in nats; log(classes) would be honest.
    """

    images: np.ndarray
    probabilities: np.ndarray
    classes: np.ndarray
    share: np.ndarray
    confidence: float
    entropy: float


def noise_response(
    model,
    *,
    kind="uniform",
    count=256,
    size=None,
    value_range=(0, 255),
    preprocess=None,
    seed=0,
    batch_size=64,
    compile="auto",
):
    """Show a network noise, and report which classes it sees in it and how sure it is.

    After Hendrycks & Gimpel 2016, "A Baseline for Detecting Misclassified and Out-of-Distribution Examples", section 3,
    https://arxiv.org/abs/1610.02136, whose networks give Gaussian noise a mean confidence of over 90 %.

    Args:
        model: A built `keras.Model` with one image input and classes as output (one sigmoid counts as two).
            Never changed.
        kind: "uniform" over the value range, "normal" (middle of the range, a sixth of it as standard
            deviation, clipped), or "constant" (one color an image).
        count: Noise images.
        size, value_range, preprocess, seed, compile: As in `class_image`.
        batch_size: Images at once.

    Returns:
        A `NoiseResponse`.

    Raises:
        ValueError: an unknown kind, a model whose output is not `(n, classes)`.
    """
    canvas = Canvas("noise_response", model, size=size, value_range=value_range)
    low, high = canvas.value_range
    generator, shape = np.random.default_rng(seed), (count, *canvas.shape)
    draws = {
        "uniform": lambda: generator.uniform(low, high, shape),
        "normal": lambda: np.clip(generator.normal((low + high) / 2, (high - low) / 6, shape), low, high),
        "constant": lambda: np.broadcast_to(
            generator.uniform(low, high, (count, 1, 1, canvas.shape[-1])), shape
        ),
    }
    if kind not in draws or count < 1:
        raise UsageError(
            f"noise_response expects kind to be one of {', '.join(map(repr, draws))}, and count >= 1. Received "
            f"{kind!r} and "
            f"{count}. Leave kind out for uniform noise."
        )
    images = draws[kind]().astype("float32")
    logits = np.concatenate(
        [
            tracing.evaluate(
                model,
                _logits,
                [images[start:stop]],
                compile=compile,
                keys=canvas.keys,
                preprocess=preprocess,
                channels_first=canvas.channels_first,
            ).numpy()
            for start, stop in tracing.chunks(count, batch_size)
        ]
    )
    if logits.ndim != 2:
        raise UsageError(
            f"noise_response expects a model whose output is (n, classes). Model '{model.name}' gives shape "
            f"{('n', *logits.shape[1:])}. Wrap it in a keras.Model that ends in one value per class."
        )
    logits = np.concatenate([np.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits
    logits = logits.astype("float64") - logits.max(1, keepdims=True)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    classes = probabilities.argmax(1)
    entropy = -np.where(probabilities > 0, probabilities * np.log(np.maximum(probabilities, 1e-300)), 0).sum(
        1
    )
    return NoiseResponse(
        images,
        probabilities.astype("float32"),
        classes,
        (np.bincount(classes, minlength=probabilities.shape[1]) / count).astype("float32"),
        float(probabilities.max(1).mean()),
        float(entropy.mean()),
    )


def _logits(model, images, *, keys, preprocess, channels_first):
    outputs = model(pack(model, [see(images, preprocess, channels_first)], keys), training=False)
    (values,) = targets.flat_outputs(model, outputs, targets.Spec("class"))
    return values
