"""DeepDream: change an image so that the patterns a network sees in it become stronger."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from typing_extensions import Unpack

from recipes.common.types import FloatArray, Images
from recipes.common.validation import is_number, is_whole
from recipes.explain.engine import layer_lookup, tracing
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.image_spec import Canvas
from recipes.explain.engine.inputs import pack
from recipes.explain.engine.options import Layer, SynthesisOptions, shares
from recipes.explain.synthesis.objective import Candidate
from recipes.explain.synthesis.optimize import Problem, check_steps, optimize
from recipes.explain.synthesis.parameterization import Pixels

LARGEST_WINDOW = 512


@shares(SynthesisOptions, steps=10, learning_rate=0.02)
def deep_dream(
    model: keras.Model,
    images: Images,
    layer: Layer | Sequence[Layer],
    *,
    call_index: int | None = None,
    octaves: int = 4,
    octave_scale: float = 1.4,
    jitter: int = 32,
    tile: int | tuple[int, int] | None = None,
    **options: Unpack[SynthesisOptions],
) -> FloatArray | Any:
    """DeepDream: increase the activations that a layer already has, from coarse octaves to fine ones.

    Source: Mordvintsev et al. 2015, "Inceptionism",
    https://research.google/blog/inceptionism-going-deeper-into-neural-networks. The gradient at the layer is set to
    the layer's activation, which increases half its squared length; each step is normalized. The image is optimized at
    the size of each octave, and the added detail is carried over to the next octave.

    The network sees windows of the image at a random shift, drawn again for each step, and borders wrap around. So no
    seam stays in one place, and images of any size fit a network of fixed size.

    Args:
        model: A built `keras.Model` with one image input. It is never changed; layers above `layer` are not computed.
        images: `(n, height, width, channels)` of any size, or one image; in `value_range`.
        layer: Layer object, name, path or index, or a list of them, whose mean squares are added. Early layers give
            strokes, late layers give objects.
        call_index: Number of the call of a shared layer, from 0.
        octaves: Number of sizes, >= 1; the last one is the image's own size.
        octave_scale: Factor between two sizes, > 1.
        jitter: Largest random shift in pixels, >= 0, if the network sees the whole image at once.
        tile: `(height, width)` of the windows in pixels, or one number, for networks that take any size. None means the
            whole image up to 512 pixels. If the network has a fixed size, the windows have that size.
        options: The options of `SynthesisOptions`. `steps` are those of an octave; `learning_rate` is the root mean
            square change of a step, with the value range as -1..1; the objective is the layer's mean square,
            `return_scores` gives it as `(octaves * steps, n)`.

    Returns:
        float32, of the shape and range of `images`.

    Raises:
        ValueError: when the layer is unknown, images are outside `value_range`, an octave is below 4 pixels, or another
            argument is outside its range.
    """
    canvas = Canvas("deep_dream", model, size=False, value_range=options["value_range"])
    base, single = canvas.unit(images, any_size=True)
    check_steps("deep_dream", options["steps"], options["learning_rate"])
    if not is_whole(jitter) or jitter < 0:
        raise UsageError(
            f"deep_dream expects jitter to be a whole number of pixels, 0 or more. Received {jitter!r}. "
            "Write 0 to turn it off."
        )
    sizes = octave_sizes(base.shape[1:3], octaves, octave_scale)
    problem = Problem(
        objective=Activity(_calls(model, layer, call_index), canvas.keys),
        parameterization=Pixels((None, None, canvas.shape[-1])),
        value_range=canvas.value_range,
        preprocess=options["preprocess"],
        views=Windows(_window(canvas, base.shape[1:3], tile), jitter),
        channels_first=canvas.channels_first,
        optimizer="normalized",
    )
    run = {name: options[name] for name in ("steps", "learning_rate", "seed", "compile", "verbose")}
    low, high = canvas.value_range
    detail, scores = np.zeros((len(base), *sizes[0], base.shape[-1]), "float32"), []
    for number, size in enumerate(sizes):
        plain = _resize(base, size)
        start = problem.parameterization.encode(np.clip(plain + _resize(detail, size), 0, 1))
        result = optimize("deep_dream", model, problem, start, spent=number * options["steps"], **run)
        detail = (result.images - low) / (high - low) - plain
        scores.append(result.scores)
    dreams = result.images[0] if single else result.images
    return (dreams, np.concatenate(scores)) if options["return_scores"] else dreams


def _calls(model, layer, call_index):
    chosen = layer if isinstance(layer, (list, tuple)) else [layer]
    if not chosen:
        raise UsageError(
            "deep_dream expects a layer, or a list of one or more. Received an empty list. "
            "Give for example the name of a layer in the middle."
        )
    return tuple(layer_lookup.find(model, one, call_index=call_index, method="deep_dream") for one in chosen)


@dataclasses.dataclass(frozen=True)
class Activity:
    """The objective: the mean square of the layers' activations over all windows of each image, `(n,)`."""

    calls: tuple
    keys: object

    def __call__(self, model: keras.Model, candidate: Candidate) -> tf.Tensor:
        _, activations = tracing.capture(
            model, pack(model, [candidate.seen], self.keys), self.calls, stop=True
        )
        count = tf.shape(candidate.images)[0]
        squares = [tf.square(tf.cast(activation, "float32")) for activation in activations]
        return tf.add_n([tf.reduce_mean(tf.reshape(square, [count, -1]), 1) for square in squares])


@dataclasses.dataclass(frozen=True)
class Windows:
    """The views of an image of any size: windows that cover it, at a random shift, with borders that wrap around.

    Args:
        size: `(height, width)` of a window in pixels; None takes the whole image.
        jitter: Largest shift in pixels if there are no windows.
    """

    size: tuple | None
    jitter: int

    def __call__(self, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Divide `(n, height, width, channels)` into `(n * windows, *size, channels)`, image by image."""
        draws = tf.random.stateless_uniform([2], seed, -1, 1)
        if self.size is None:
            return tf.roll(images, tf.cast(tf.round(draws * self.jitter), "int32"), [1, 2])
        counts = []
        for axis, side in enumerate(self.size, start=1):
            length = tf.shape(images)[axis]
            count = (length + side - 1) // side
            shift = tf.cast(tf.round(draws[axis - 1] * tf.cast(length, "float32")), "int32")
            images = tf.gather(images, (shift + tf.range(count * side)) % length, axis=axis)
            counts.append(count)
        height, width = self.size
        channels = images.shape[-1]
        images = tf.reshape(images, [-1, counts[0], height, counts[1], width, channels])
        return tf.reshape(tf.transpose(images, [0, 1, 3, 2, 4, 5]), [-1, height, width, channels])


def octave_sizes(shape: Sequence[int], octaves: int, octave_scale: float) -> list[tuple[int, int]]:
    """The sizes of the octaves in pixels: the image's size divided by powers of the scale, the smallest first."""
    if not is_number(octave_scale) or octave_scale <= 1 or not is_whole(octaves) or octaves < 1:
        raise UsageError(
            f"deep_dream expects octaves >= 1 and octave_scale > 1. Received octaves={octaves}, octave_scale="
            f"{octave_scale}. Write octaves=1 for the image's own size only."
        )
    # In logarithms, because many octaves of a large scale overflow a float.
    if math.log(min(shape)) - (int(octaves) - 1) * math.log(octave_scale) < math.log(3.5):
        raise UsageError(
            f"deep_dream expects octaves of at least 4 pixels. Received octaves={octaves}, octave_scale={octave_scale} "
            f"and an image of {shape[0]} x {shape[1]}. Give fewer octaves."
        )
    return [
        tuple(round(side / octave_scale**number) for side in shape)
        for number in reversed(range(int(octaves)))
    ]


def _window(canvas, shape, tile):
    fixed = canvas.shape[:2]
    if None not in fixed:
        if tile is not None and tuple(np.broadcast_to(tile, 2)) != fixed:
            raise UsageError(
                f"deep_dream expects tile to be the size that model '{canvas.model.name}' takes, {fixed}. Received "
                f"{tile!r}. Leave it out, or rebuild the model with keras.Input((None, None, {canvas.shape[-1]}))."
            )
        return fixed
    if tile is None:
        return (LARGEST_WINDOW, LARGEST_WINDOW) if max(shape) > LARGEST_WINDOW else None
    return tuple(int(side) for side in np.broadcast_to(tile, 2))


def _resize(images, size):
    if images.shape[1:3] == tuple(size):
        return images
    return tf.image.resize(images, size, antialias=True).numpy()
