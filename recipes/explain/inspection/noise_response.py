"""The response of a network to pure noise, for which no class would be a right answer."""

import dataclasses
from typing import Literal

import keras
import numpy as np
from numpy.typing import NDArray
from typing_extensions import Unpack

from recipes.common.types import FloatArray, ValueRange
from recipes.explain.engine import targets, tracing
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.image_spec import Canvas
from recipes.explain.engine.inputs import pack, see
from recipes.explain.engine.options import InspectionOptions, shares


@dataclasses.dataclass(frozen=True)
class NoiseResponse:
    """The predictions of a network for noise images.

    Args:
        images: float32 `(n, height, width, channels)`, the noise images.
        probabilities: float32 `(n, classes)`, the softmax of the logits.
        classes: int `(n,)`, the predicted classes.
        share: float32 `(classes,)`: the fraction of images for which each class was predicted.
        confidence: Mean probability of the predicted class; a network without a preference would have 1 / classes.
        entropy: Mean entropy of the probabilities in nats; a network without a preference would have log(classes).
    """

    images: FloatArray
    probabilities: FloatArray
    classes: NDArray[np.int64]
    share: FloatArray
    confidence: float
    entropy: float


@shares(InspectionOptions)
def noise_response(
    model: keras.Model,
    *,
    kind: Literal["uniform", "normal", "constant"] = "uniform",
    count: int = 256,
    size: int | tuple[int, int] | None = None,
    value_range: ValueRange = (0, 255),
    seed: int = 0,
    **options: Unpack[InspectionOptions],
) -> NoiseResponse:
    """Run a network on noise images, and report which classes it predicts and with what confidence.

    Source: Hendrycks & Gimpel 2016, "A Baseline for Detecting Misclassified and Out-of-Distribution Examples", section
    3, https://arxiv.org/abs/1610.02136, whose networks have a mean confidence of over 90 % on Gaussian noise.

    Args:
        model: A built `keras.Model` with one image input and classes as output (one sigmoid counts as two).
            It is never changed.
        kind: "uniform" over the value range, "normal" (with the middle of the range as mean and a sixth of it as
            standard deviation, clipped), or "constant" (one color per image).
        count: Number of noise images, >= 1.
        size, value_range: As in `class_image`.
        seed: Integer that fixes the noise.
        options: The options of `InspectionOptions`: `preprocess`, and how the model is run.

    Returns:
        A `NoiseResponse`.

    Raises:
        ValueError: when `kind` or `count` is not one of the above, or the model's output is not `(n, classes)`.
    """
    if kind not in ("uniform", "normal", "constant") or count < 1:
        raise UsageError(
            "noise_response expects kind to be one of 'uniform', 'normal', 'constant', and count >= 1. Received "
            f"{kind!r} and {count}. Leave kind out for uniform noise."
        )
    canvas = Canvas("noise_response", model, size=size, value_range=value_range)
    images = noise_images(kind, (count, *canvas.shape), canvas.value_range, seed)
    logits = np.concatenate(
        [
            tracing.evaluate(
                model,
                _logits,
                [images[start:stop]],
                compile=options["compile"],
                keys=canvas.keys,
                preprocess=options["preprocess"],
                channels_first=canvas.channels_first,
            ).numpy()
            for start, stop in tracing.chunks(count, options["batch_size"])
        ]
    )
    if logits.ndim != 2:
        raise UsageError(
            f"noise_response expects a model whose output is (n, classes). Model '{model.name}' gives shape "
            f"{('n', *logits.shape[1:])}. Wrap it in a keras.Model that ends in one value per class."
        )
    logits = np.concatenate([np.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits
    probabilities = softmax(logits)
    classes = probabilities.argmax(1)
    return NoiseResponse(
        images,
        probabilities.astype("float32"),
        classes,
        (np.bincount(classes, minlength=probabilities.shape[1]) / count).astype("float32"),
        float(probabilities.max(1).mean()),
        float(entropy(probabilities).mean()),
    )


def noise_images(kind: str, shape: tuple[int, ...], value_range: ValueRange, seed: int) -> FloatArray:
    """Noise of a kind (see `noise_response`), float32 `(n, height, width, channels)`."""
    (low, high), generator = value_range, np.random.default_rng(seed)
    draws = {
        "uniform": lambda: generator.uniform(low, high, shape),
        "normal": lambda: np.clip(generator.normal((low + high) / 2, (high - low) / 6, shape), low, high),
        "constant": lambda: np.broadcast_to(generator.uniform(low, high, (shape[0], 1, 1, shape[-1])), shape),
    }
    return draws[kind]().astype("float32")


def softmax(logits: np.ndarray) -> np.ndarray:
    """The softmax of each row of logits `(n, classes)`, float64."""
    powers = np.exp(logits.astype("float64") - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """`-sum p log p` of each row of probabilities `(n, classes)`, in nats; 0 log 0 is 0."""
    logarithms = np.log(np.maximum(probabilities, 1e-300))
    return -np.where(probabilities > 0, probabilities * logarithms, 0).sum(1)


def _logits(model, images, *, keys, preprocess, channels_first):
    outputs = model(pack(model, [see(images, preprocess, channels_first)], keys), training=False)
    (values,) = targets.flat_outputs(model, outputs, targets.Spec("class"))
    return values
