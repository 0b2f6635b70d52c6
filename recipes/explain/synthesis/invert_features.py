"""Feature inversion: find an image that gives the same activations."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from typing_extensions import Unpack

from recipes.common.types import FloatArray, Images
from recipes.explain.engine import layer_lookup, tracing
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.image_spec import Canvas
from recipes.explain.engine.inputs import pack
from recipes.explain.engine.options import Compile, Layer, OptimizedOptions, Preprocess, shares
from recipes.explain.synthesis.objective import Candidate
from recipes.explain.synthesis.optimize import Problem, optimize
from recipes.explain.synthesis.parameterization import parameterization_of


@shares(OptimizedOptions)
def invert_features(
    model: keras.Model,
    images: Images,
    layer: Layer,
    *,
    call_index: int | None = None,
    total_variation: float = 1e-2,
    alpha_norm: float = 1e-3,
    **options: Unpack[OptimizedOptions],
) -> FloatArray | Any:
    """Make an image from noise that has the same activations at a layer as the given image.

    Source: Mahendran & Vedaldi 2015, "Understanding Deep Image Representations by Inverting Them", equation 1 with
    the normalized Euclidean loss of section 2.1 and the priors of section 2.2: the alpha norm (alpha 6) and total
    variation (beta 2), https://arxiv.org/abs/1412.0035. Unlike in the paper, both priors are means over the image, with
    gray at 0 and the value range -1..1, so that their weights do not depend on its size. The image is optimized by Adam
    as Fourier coefficients (Olah et al. 2017); `parameterization="pixels"` optimizes pixels, as in the paper.

    Args:
        model: A built `keras.Model` with one image input. It is never changed; layers above `layer` are not computed.
        images: `(n, height, width, channels)` as the model takes them, or one image; in `value_range`.
        layer: Layer object, name, path or index.
        call_index: Number of the call of a shared layer, from 0.
        total_variation: Weight of the mean squared difference between neighbors, >= 0.
        alpha_norm: Weight of the mean sixth power of the pixels, >= 0.
        options: The options of `OptimizedOptions`. The objective is minus the loss.

    Returns:
        float32, of the shape and range of `images`. With `return_scores`, `(images, scores)`.

    Raises:
        ValueError: when the layer is unknown, its activations are all zero, or the images do not fit the model.
    """
    method, value_range = "invert_features", options["value_range"]
    canvas = Canvas(method, model, size=np.shape(images)[-3:-1] or None, value_range=value_range)
    images, single = canvas.batch(images)
    call = layer_lookup.find(model, layer, call_index=call_index, method=method)
    wanted = features_of(canvas, model, images, [call], options["preprocess"], options["compile"])[0]
    if not np.any(wanted, axis=tuple(range(1, wanted.ndim))).all():
        raise UsageError(
            f"invert_features expects activations to recover. Layer '{call.path}' is 0 everywhere for an image. "
            "Choose an earlier layer."
        )
    problem = Problem(
        objective=Inversion(call, canvas.keys),
        parameterization=parameterization_of(method, options["parameterization"], canvas.shape),
        value_range=canvas.value_range,
        preprocess=options["preprocess"],
        channels_first=canvas.channels_first,
        optimizer=options["optimizer"],
    )
    start = problem.parameterization.start([[options["seed"], row] for row in range(len(images))])
    priors = np.array([total_variation, alpha_norm], "float32")
    run = {name: options[name] for name in ("steps", "learning_rate", "seed", "compile", "verbose")}
    result = optimize(method, model, problem, start, [wanted], [priors], **run)
    found = result.images[0] if single else result.images
    return (found, result.scores) if options["return_scores"] else found


@dataclasses.dataclass(frozen=True)
class Inversion:
    """The objective: minus the relative squared distance of the activations, and minus the weighted priors."""

    call: layer_lookup.LayerCall
    keys: object

    def __call__(self, model: keras.Model, candidate: Candidate) -> tf.Tensor:
        _, (found,) = tracing.capture(model, pack(model, [candidate.seen], self.keys), [self.call], stop=True)
        (wanted,) = candidate.rows
        weights, centered = candidate.shared[0], 2 * candidate.images - 1
        return -(
            relative_distance(tf.cast(found, "float32"), wanted)
            + weights[0] * total_variation_of(centered)
            + weights[1] * alpha_norm_of(centered)
        )


def relative_distance(found: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
    """Section 2.1: `|f(x) - f0|^2 / |f0|^2` of each image, `(n,)`."""
    axes = tuple(range(1, wanted.shape.rank))
    return tf.reduce_sum(tf.square(found - wanted), axes) / tf.reduce_sum(tf.square(wanted), axes)


def alpha_norm_of(images: tf.Tensor) -> tf.Tensor:
    """Section 2.2: the mean sixth power of the values of each image, with gray at 0: `(n,)`."""
    square = tf.square(images)
    # images**6 would cost a logarithm and an exponential per pixel
    return tf.reduce_mean(square * square * square, [1, 2, 3])


@tf.custom_gradient
def total_variation_of(images: tf.Tensor) -> tf.Tensor:
    """Mean squared difference between neighbors of each image, vertical plus horizontal: `(n,)`.

    Its gradient is written by hand, because the gradient of slices takes four times as long.
    """
    count, height, width, channels = tf.unstack(tf.shape(images))
    rows = tf.reshape(images, [count, height, width * channels])
    down, across = rows[:, 1:] - rows[:, :-1], rows[:, :, channels:] - rows[:, :, :-channels]
    down_share = 1 / tf.cast((height - 1) * width * channels, images.dtype)
    across_share = 1 / tf.cast(height * (width - 1) * channels, images.dtype)

    def gradient(upstream):
        # Except at the border, a pixel is in two differences in each direction.
        below, beside = (
            tf.pad(down, [[0, 0], [1, 1], [0, 0]]),
            tf.pad(across, [[0, 0], [0, 0], [channels] * 2]),
        )
        found = down_share * (below[:, :-1] - below[:, 1:])
        found += across_share * (beside[:, :, :-channels] - beside[:, :, channels:])
        return tf.reshape(2 * upstream[:, None, None] * found, tf.shape(images))

    total = down_share * tf.einsum("nij,nij->n", down, down)
    return total + across_share * tf.einsum("nij,nij->n", across, across), gradient


def features_of(
    canvas: Canvas,
    model: keras.Model,
    images: FloatArray,
    calls: Sequence[layer_lookup.LayerCall],
    preprocess: Preprocess = None,
    compile: Compile = "auto",
) -> list[FloatArray]:
    """The activations of layers for images in the value range: a list of float32 arrays, one per call.

    Layers above the last one are not computed.
    """
    return [
        tracing.array(values)
        for values in tracing.evaluate(
            model,
            _features,
            [tf.convert_to_tensor(images)],
            compile=compile,
            shapes=[(None, None, None, images.shape[-1])] if None in _declared(model) else None,
            keys=canvas.keys,
            calls=tuple(calls),
            preprocess=preprocess,
            channels_first=canvas.channels_first,
        )
    ]


def _features(model, images, *, keys, calls, preprocess, channels_first):
    seen = images if preprocess is None else preprocess(images)
    seen = tf.transpose(seen, [0, 3, 1, 2]) if channels_first else seen
    _, found = tracing.capture(model, pack(model, [seen], keys), calls, stop=True)
    return [tf.cast(values, "float32") for values in found]


def _declared(model):
    declared = getattr(model, "inputs", None)
    return tuple(declared[0].shape[1:]) if declared else (None,)
