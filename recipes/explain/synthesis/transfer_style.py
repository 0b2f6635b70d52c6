"""Style transfer: the content of one image in the style of others."""

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike
from typing_extensions import Unpack

from recipes.common.color import YIQ
from recipes.common.types import FloatArray, Images
from recipes.explain.engine import tracing
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.image_spec import Canvas
from recipes.explain.engine.inputs import pack
from recipes.explain.engine.options import Layer, OptimizedOptions, check_flag, shares
from recipes.explain.synthesis.backbones import content_layer as find_content_layer
from recipes.explain.synthesis.backbones import style_layers as find_style_layers
from recipes.explain.synthesis.invert_features import features_of, relative_distance, total_variation_of
from recipes.explain.synthesis.objective import Candidate
from recipes.explain.synthesis.optimize import Problem, optimize
from recipes.explain.synthesis.parameterization import parameterization_of
from recipes.explain.synthesis.texture import check_weights, style_loss, style_targets


@shares(OptimizedOptions)
def transfer_style(
    model: keras.Model,
    content: Images,
    style: "Images | Sequence[Images]",
    *,
    content_weight: float = 1.0,
    style_weight: float = 10.0,
    total_variation: float = 1e-2,
    style_weights: Sequence[float] | None = None,
    style_size: int | None = None,
    content_layer: Layer | None = None,
    style_layers: Sequence[Layer] | None = None,
    layer_weights: Sequence[float] | None = None,
    keep_color: bool = False,
    start: Literal["content", "noise"] = "content",
    **options: Unpack[OptimizedOptions],
) -> FloatArray | Any:
    """Make an image with the feature maps of `content` at one layer and the Gram matrices of `style` at several.

    Source: Gatys et al. 2016, "Image Style Transfer Using Convolutional Neural Networks", equations 1 to 7. Unlike in
    the paper, both losses are divided by the squared length of their targets, so that the weights mean the same for any
    network and layer. By default, Adam on Fourier coefficients, started from the content image, replaces L-BFGS on
    pixels (`optimizer="l-bfgs", parameterization="pixels", start="noise"`). Networks other than VGG need this
    (Mordvintsev et al. 2018, "Differentiable Image Parameterizations",
    https://distill.pub/2018/differentiable-parameterizations).

    Args:
        model: A built `keras.Model` with one image input: VGG, ResNet, EfficientNet-Lite0, or any other with
            `content_layer` and `style_layers`. It is never changed; layers above the last one used are not computed. A
            network that takes any size (`keras.Input((None, None, 3))`) keeps the content's size.
        content: `(n, height, width, channels)` or one image, in `value_range`. If the network has a fixed size, the
            images are resized to it, with a warning.
        style: `(height, width, channels)`, any size, or a list of such images.
        content_weight, style_weight: Weights of the two losses.
        total_variation: Weight of the mean squared difference between neighbors, with the range scaled to -1..1.
        style_weights: One number >= 0 per style image; None gives equal weights.
        style_size: Length in pixels of the style's shorter side as the network sees it; larger means coarser strokes.
            None takes the content's shorter side. A network of fixed size allows only that size.
        content_layer, style_layers: Layers by object, name, path or index; None takes those of the model's family.
        layer_weights: One number >= 0 per style layer; None gives equal weights.
        keep_color: Whether to take only the luminance from the result, and the colors from the content (Gatys et al.
            2016, "Preserving Color in Neural Artistic Style Transfer", section 4, https://arxiv.org/abs/1606.05897).
        start: "content" or "noise".
        options: The options of `OptimizedOptions`. The objective is minus the loss.

    Returns:
        float32 `(n, height, width, channels)` in `value_range`; `(height, width, channels)` for one content image.

    Raises:
        ValueError: when a layer is unknown, weights do not fit, or images are outside `value_range`.

    Warns:
        UserWarning: when an image is resized to the network's size.
    """
    method, preprocess, compile = "transfer_style", options["preprocess"], options["compile"]
    check_flag(method, "keep_color", keep_color)
    if start not in ("content", "noise"):
        raise UsageError(
            f"{method} expects start to be 'content' or 'noise'. Received {start!r}. Write 'content', which converges "
            "faster."
        )
    open_canvas = Canvas(method, model, size=False, value_range=options["value_range"])
    size = open_canvas.shape[:2] if None not in open_canvas.shape[:2] else np.shape(content)[-3:-1]
    canvas = Canvas(method, model, size=size, value_range=options["value_range"])
    content_images, single = fitted(canvas, content, canvas.shape[:2], "content")
    styles = _styles(canvas, style, style_size, takes_any_size=None in open_canvas.shape[:2])
    if keep_color and canvas.shape[-1] != 3:
        raise UsageError(
            f"{method} with keep_color expects RGB images. Received {canvas.shape[-1]} channels. Leave keep_color out."
        )
    calls = find_style_layers(model, style_layers, method)
    content_call = find_content_layer(model, content_layer, method)
    wanted = features_of(canvas, model, content_images, [content_call], preprocess, compile)
    shares_of_styles = check_weights(method, style_weights, len(styles), "style_weights")
    constants = [
        np.array([content_weight, style_weight, total_variation], "float32"),
        check_weights(method, layer_weights, len(calls)),
        *style_targets(method, canvas, model, styles, shares_of_styles, calls, preprocess, compile),
    ]
    problem = Problem(
        objective=ContentAndStyle(content_call, calls, canvas.keys, canvas.channels_first),
        parameterization=parameterization_of(method, options["parameterization"], canvas.shape),
        value_range=canvas.value_range,
        preprocess=preprocess,
        channels_first=canvas.channels_first,
        optimizer=options["optimizer"],
    )
    begin = _begin(problem, content_images, options["seed"] if start == "noise" else None)
    run = {name: options[name] for name in ("steps", "learning_rate", "seed", "compile", "verbose")}
    result = optimize(method, model, problem, begin, wanted, constants, **run)
    made = result.images
    if keep_color:
        made = np.clip(with_luminance(content_images, made), *canvas.value_range).astype("float32")
    made = made[0] if single else made
    return (made, result.scores) if options["return_scores"] else made


def _styles(canvas, style, style_size, *, takes_any_size):
    """The style images, in the size at which the network sees them."""
    styles = list(style) if isinstance(style, (list, tuple)) or np.ndim(style) == 4 else [style]
    side = min(canvas.shape[:2])
    if takes_any_size:
        return [scaled(canvas, image, style_size or side) for image in styles]
    if style_size not in (None, side):
        raise UsageError(
            f"{canvas.method} with style_size expects a network that takes any size. Model '{canvas.model.name}' takes "
            f"{canvas.shape[:2]}. Build it with keras.Input((None, None, {canvas.shape[-1]})), or leave style_size out."
        )
    return [fitted(canvas, image, canvas.shape[:2], "style")[0] for image in styles]


def _begin(problem, content, seed):
    """Parameters of the content images, or of noise if a seed is given."""
    if seed is not None:
        return problem.parameterization.start([[seed, row] for row in range(len(content))])
    low, high = problem.value_range
    return problem.parameterization.encode((content - low) / (high - low))


@dataclasses.dataclass(frozen=True)
class ContentAndStyle:
    """The objective: minus the weighted content, style and total variation losses."""

    content: object
    style: tuple
    keys: object
    channels_first: bool

    def __call__(self, model: keras.Model, candidate: Candidate) -> tf.Tensor:
        calls = [*self.style] if self.content in self.style else [*self.style, self.content]
        _, maps = tracing.capture(model, pack(model, [candidate.seen], self.keys), calls, stop=True)
        found, (wanted,) = tf.cast(maps[calls.index(self.content)], "float32"), candidate.rows
        weights, layer_weights, *grams = candidate.shared
        content = relative_distance(found, wanted)
        style = style_loss(maps[: len(self.style)], layer_weights, grams, self.channels_first)
        return -(
            weights[0] * content
            + weights[1] * style
            + weights[2] * total_variation_of(2 * candidate.images - 1)
        )


def with_luminance(colors: ArrayLike, luminance: ArrayLike) -> np.ndarray:
    """The colors of one RGB image with the luminance of another, `(..., 3)`, computed in YIQ."""
    yiq = np.asarray(colors) @ YIQ.T
    yiq[..., 0] = np.asarray(luminance) @ YIQ[0]
    return yiq @ np.linalg.inv(YIQ).T


def fitted(canvas: Canvas, images: Images, size: tuple[int, int], name: str) -> tuple[FloatArray, bool]:
    """Check images and resize them to the network's size, with a warning, if they have another size."""
    images = np.asarray(images)
    if images.ndim in (3, 4) and images.shape[-3:-1] != size:
        warnings.warn(
            f"{canvas.method} expects {name} images of {size[0]} x {size[1]} pixels. Received {images.shape[-3]} x "
            f"{images.shape[-2]}, which are resized to that. To keep their size, build the network with "
            f"keras.Input((None, None, {canvas.shape[-1]})).",
            stacklevel=4,
        )
        images = _resized(canvas, images, size)
    return canvas.batch(images, name)


def scaled(canvas: Canvas, image: Images, side: int) -> FloatArray:
    """A style image `(1, height, width, channels)`, resized so that its shorter side has `side` pixels."""
    image = np.asarray(image)
    factor = side / min(image.shape[:2])
    size = tuple(max(1, round(length * factor)) for length in image.shape[:2])
    fitted = Canvas(canvas.method, canvas.model, size=size, value_range=canvas.value_range)
    return fitted.batch(_resized(canvas, image, size), "style")[0]


def _resized(canvas, images, size):
    low, high = canvas.value_range
    return np.clip(tf.image.resize(np.asarray(images, "float32"), size, antialias=True).numpy(), low, high)
