"""Texture synthesis: an image with the statistics of another image, but not its spatial arrangement."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from typing_extensions import Unpack

from recipes.common.types import FloatArray, Images
from recipes.explain.engine import tracing
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.image_spec import Canvas
from recipes.explain.engine.inputs import pack
from recipes.explain.engine.layer_lookup import LayerCall
from recipes.explain.engine.options import Compile, Layer, OptimizedOptions, Preprocess, shares
from recipes.explain.synthesis.backbones import style_layers
from recipes.explain.synthesis.invert_features import features_of
from recipes.explain.synthesis.objective import Candidate
from recipes.explain.synthesis.optimize import Problem, optimize
from recipes.explain.synthesis.parameterization import parameterization_of


@shares(OptimizedOptions)
def texture(
    model: keras.Model,
    image: Images,
    *,
    layers: Sequence[Layer] | None = None,
    layer_weights: Sequence[float] | None = None,
    count: int = 1,
    size: int | tuple[int, int] | None = None,
    **options: Unpack[OptimizedOptions],
) -> FloatArray | Any:
    """Make images from noise whose feature maps have the same Gram matrices as those of a given texture.

    Source: Gatys et al. 2015, "Texture Synthesis Using Convolutional Neural Networks", equations 2 to 4,
    https://arxiv.org/abs/1505.07376. Unlike in the paper, each layer's error is divided by the squared length of its
    target, `|G - A|^2 / |A|^2`, so that the same weights suit any network. Adam on Fourier coefficients replaces L-BFGS
    on pixels; the paper's method is `optimizer="l-bfgs", parameterization="pixels"`.

    Args:
        model: A built `keras.Model` with one image input: VGG, ResNet, EfficientNet-Lite0, or any other with `layers`.
            It is never changed; layers above the last one used are not computed.
        image: `(height, width, channels)` in `value_range`.
        layers: Layers (objects, names, paths, indices) whose Gram matrices are compared. None takes those of the
            model's family, from fine to coarse.
        layer_weights: One number >= 0 per layer; None gives equal weights.
        count: Number of textures, from different noise, >= 1.
        size: `(height, width)` in pixels or one number, for networks that take any size; None takes the image's own.
        options: The options of `OptimizedOptions`. The objective is minus the weighted mean of the relative errors.

    Returns:
        float32 `(count, height, width, channels)` in `value_range`, without the first axis for one. With
        `return_scores`, `(images, scores)`.

    Raises:
        ValueError: when a layer is unknown or has no map, or the image or the weights do not fit.
    """
    method, value_range = "texture", options["value_range"]
    calls = style_layers(model, layers, method)
    source = Canvas(method, model, size=np.shape(image)[-3:-1] or None, value_range=value_range)
    given, _ = source.batch(image, "image")
    canvas = Canvas(method, model, size=source.shape[:2] if size is None else size, value_range=value_range)
    grams = style_targets(
        method, source, model, [given], [1.0], calls, options["preprocess"], options["compile"]
    )
    problem = Problem(
        objective=Style(calls, canvas.keys, canvas.channels_first),
        parameterization=parameterization_of(method, options["parameterization"], canvas.shape),
        value_range=canvas.value_range,
        preprocess=options["preprocess"],
        channels_first=canvas.channels_first,
        optimizer=options["optimizer"],
    )
    start = problem.parameterization.start([[options["seed"], row] for row in range(count)])
    weights = check_weights(method, layer_weights, len(calls))
    run = {name: options[name] for name in ("steps", "learning_rate", "seed", "compile", "verbose")}
    result = optimize(method, model, problem, start, (), [weights, *grams], **run)
    made = result.images[0] if count == 1 else result.images
    return (made, result.scores) if options["return_scores"] else made


@dataclasses.dataclass(frozen=True)
class Style:
    """The objective: minus the weighted relative errors of the Gram matrices.

    `candidate.shared` holds the weights, then one target Gram matrix per layer.
    """

    calls: tuple
    keys: object
    channels_first: bool

    def __call__(self, model: keras.Model, candidate: Candidate) -> tf.Tensor:
        _, maps = tracing.capture(model, pack(model, [candidate.seen], self.keys), self.calls, stop=True)
        return -style_loss(maps, candidate.shared[0], candidate.shared[1:], self.channels_first)


def style_loss(
    maps: Sequence[tf.Tensor], weights: tf.Tensor, grams: Sequence[tf.Tensor], channels_first: bool = False
) -> tf.Tensor:
    """Weighted sum over layers of `|G - A|^2 / |A|^2` for each image: `(n,)`."""
    total = 0.0
    for place, (values, wanted) in enumerate(zip(maps, grams, strict=True)):
        error = tf.reduce_sum(tf.square(gram_matrix(values, channels_first) - wanted), [1, 2])
        total += weights[place] * error / tf.reduce_sum(tf.square(wanted))
    return total


def gram_matrix(maps: tf.Tensor, channels_first: bool = False) -> tf.Tensor:
    """The products of every two channels averaged over positions, `(n, channels, channels)`, of `(n, ..., channels)`.

    Source: Gatys et al. 2015, equation 2, divided by the number of positions, so that images of different sizes can be
    compared.
    """
    maps = tf.cast(maps, "float32")
    if channels_first:
        maps = tf.transpose(maps, [0, *range(2, maps.shape.rank), 1])
    flat = tf.reshape(maps, [tf.shape(maps)[0], -1, maps.shape[-1]])
    return _products(flat) / tf.cast(tf.shape(flat)[1], "float32")


@tf.custom_gradient
def _products(flat):
    # The gradient needs only one matrix product; the product of two different matrices would need two.
    def gradient(upstream):
        return tf.matmul(flat, upstream + tf.transpose(upstream, [0, 2, 1]))

    return tf.matmul(flat, flat, transpose_a=True), gradient


def style_targets(
    method: str,
    canvas: Canvas,
    model: keras.Model,
    images: Sequence[FloatArray],
    weights: Sequence[float],
    calls: Sequence[LayerCall],
    preprocess: Preprocess,
    compile: Compile,
) -> list[FloatArray]:
    """The Gram matrix of each layer, averaged over style images by their weights.

    The weighted sum of squared errors has the same minimum as the error to the weighted mean.
    """
    grams = None
    for image, weight in zip(images, weights, strict=True):
        maps = features_of(canvas, model, image, calls, preprocess, compile)
        for call, values in zip(calls, maps, strict=True):
            if values.ndim < 3:
                raise UsageError(
                    f"{method} expects layers that return maps (n, height, width, channels). Layer '{call.path}' "
                    f"returns shape {('n', *values.shape[1:])}. Choose a convolution or a layer that follows one."
                )
        found = [weight * gram_matrix(values, canvas.channels_first)[0].numpy() for values in maps]
        grams = found if grams is None else [old + new for old, new in zip(grams, found, strict=True)]
    return grams


def check_weights(
    method: str, weights: Sequence[float] | None, count: int, name: str = "layer_weights"
) -> FloatArray:
    """Check weights and scale them to a sum of 1, float32 `(count,)`; None gives equal weights."""
    values = np.ones(count) if weights is None else np.asarray(weights, "float64").ravel()
    if len(values) != count or not (values >= 0).all() or not values.sum() > 0:
        raise UsageError(
            f"{method} expects {name} to be {count} numbers >= 0, not all 0. Received {weights!r}. Leave it out for "
            "equal weights."
        )
    return (values / values.sum()).astype("float32")
