"""The common part of class_image, unit_image and facets: the maximization of a score of the network."""

import dataclasses
import warnings
import weakref
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from recipes.common.validation import is_number
from recipes.explain.attribution.attribution_task import Task
from recipes.explain.engine import layer_lookup, targets, tracing
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.image_spec import Canvas
from recipes.explain.engine.inputs import pack
from recipes.explain.engine.objectives import Term
from recipes.explain.engine.options import AttributionOptions, defaults_of
from recipes.explain.synthesis.invert_features import total_variation_of
from recipes.explain.synthesis.objective import Candidate
from recipes.explain.synthesis.optimize import Problem, optimize
from recipes.explain.synthesis.parameterization import Fourier, Latent, Pixels
from recipes.explain.synthesis.random_views import Views
from recipes.explain.synthesis.texture import gram_matrix

# The defaults that None stands for; shifts and padding are shares of the shorter side.
_SHIFTS = ("jitter", "pad", "second_jitter")
_STILL = {
    **dict.fromkeys(_SHIFTS, 0),
    "scale": 0.0,
    "rotate": 0.0,
    "total_variation": 0.0,
    "frequency_power": 1.0,
    "anneal": False,
    "coarse": 0.0,
}
_FOURIER = {"optimizer": "adam", "learning_rate": 0.05, "l2": 0.0}
DEFAULTS = {
    # Of a dozen settings on EfficientNet-Lite0 at 224 pixels, most classes were recognized with these.
    "fourier": {
        **_FOURIER,
        "jitter": 3 / 56,
        "pad": 3 / 28,
        "second_jitter": 1 / 112,
        "scale": 0.3,
        "rotate": 10.0,
        "total_variation": 0.0,
        "coarse": 6.0,
        "anneal": False,
        "frequency_power": 1.15,
    },
    # On a small image, rotations and padding act mostly like a blur.
    "small": {**_STILL, **_FOURIER, "jitter": 1 / 16, "scale": 0.1},
    "pixels": {"optimizer": "normalized", "learning_rate": 0.02, "l2": 1e-4, **_STILL},
    "generator": {"optimizer": "adam", "learning_rate": 0.05, "l2": 0.005, **_STILL},
}
SMALL = 64  # shorter side in pixels below which an image is small


@dataclasses.dataclass(frozen=True)
class Score:
    """The objective: the score of a target minus penalties, `(n,)`.

    The penalties are `l2` times the squared distance from gray (or from the latent zero), `l1` times the mean distance
    from gray, the total variation, and the similarity between images of one target.

    Args:
        spec: The `targets.Spec` of the target.
        keys: How the image is packed for the model.
        latent: Whether the `l2` penalty applies to the parameters.
        function: The user's callable, or None.
        compared: `LayerCall` whose Gram matrices are compared between images of one target, or None.
        channels_first: Whether that layer has channels first.
    """

    spec: targets.Spec
    keys: object
    latent: bool
    function: object = None
    compared: Any = None
    channels_first: bool = False

    def __call__(self, model: keras.Model, candidate: Candidate) -> tf.Tensor:
        l2, l1, variation, diversity = tf.unstack(candidate.shared[0], 4)
        score, likeness = self._score(model, candidate)
        norm = tf.square(candidate.parameters) if self.latent else tf.square(2 * candidate.images - 1)
        score -= l2 * tf.reduce_sum(norm, tuple(range(1, norm.shape.rank))) + diversity * likeness
        distance = tf.reduce_mean(tf.abs(2 * candidate.images - 1), (1, 2, 3))
        return score - l1 * distance - variation * total_variation_of(2 * candidate.images - 1)

    def _score(self, model, candidate):
        """The target's score, and the similarity between images of one target, each `(n,)`."""
        inputs, maps = pack(model, [candidate.seen], self.keys), []
        taps = {} if self.compared is None else {self.compared.operation: maps.append}
        with tracing.tapped(taps):
            if self.function is None:
                score, _ = targets.scores(model, inputs, self.spec, candidate.rows)
            else:
                outputs = targets.flat_outputs(model, model(inputs, training=False), self.spec)
                score = targets.call_function(targets.Target(self.spec, None, self.function), outputs)
        if self.compared is None:
            return score, 0.0
        values = tracing.single(maps[self.compared.index or 0], self.compared.path)
        return score, likeness(gram_matrix(values, self.channels_first), candidate.rows[0])


def likeness(grams: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Mean cosine between each image's Gram matrix and those of the other images of its target.

    Source: Olah et al. 2017, "Feature Visualization", section "Diversity" and its footnote.

    Args:
        grams: `(n, channels, channels)`.
        rows: int `(n, k)`: images with equal rows have the same target.

    Returns:
        float32 `(n,)` in 0..1; 0 if there is no other image of the target.
    """
    flat = tf.math.l2_normalize(tf.reshape(grams, [tf.shape(grams)[0], -1]), 1)
    same = tf.cast(tf.reduce_all(rows[:, None] == rows[None], -1), "float32")
    others = same - tf.eye(tf.shape(flat)[0])
    cosines = tf.matmul(flat, flat, transpose_b=True)
    return tf.math.divide_no_nan(tf.reduce_sum(cosines * others, 1), tf.reduce_sum(others, 1))


def raise_score(method: str, model: keras.Model, target: Any, count: int | None, **options: Any) -> Any:
    """Maximize one score per image.

    Args:
        method: The public function's name, for messages.
        target: A target as `targets.parse` takes it, or a `targets.Target` with one row per image.
        count: Number of images; None for as many as `start` has.
        options: All options of `ClassImageOptions`.

    Returns:
        Images, float32 `(n, height, width, channels)`; with `return_scores`, `(images, scores)`, where scores are the
        objective before every step, `(steps, n)`.
    """
    canvas = Canvas(method, model, size=options["size"], value_range=options["value_range"])
    start, count = _starts(method, canvas, options["start"], count)
    if isinstance(target, (list, tuple)) and any(isinstance(one, Term) for one in target):
        target = _parse_terms(method, model, target, options["score"])
    if not isinstance(target, targets.Target):
        target = targets.parse(target, model, count, score=options["score"], method=method)
    elif len(target.index) != count:
        target = dataclasses.replace(target, index=np.repeat(target.index, count, axis=0))
    kind = _kind(method, options["parameterization"], options["generator"], start)
    defaults = DEFAULTS["small" if kind == "fourier" and min(canvas.shape[:2]) < SMALL else kind]
    for name, value in defaults.items():
        if options[name] is None:
            options[name] = round(value * min(canvas.shape[:2])) if name in _SHIFTS else value
    problem = _problem(method, kind, canvas, target, options)
    image = problem.parameterization
    penalties = [options[name] for name in ("l2", "l1", "total_variation", "diversity")]
    result = optimize(
        method,
        model,
        problem,
        image.start([[options["seed"], row] for row in range(count)])
        if start is None
        else image.encode(start),
        [target.index],
        [np.array(penalties, "float32")],
        after_first=lambda: targets.check(model, target, method),
        **{name: options[name] for name in ("steps", "learning_rate", "decay", "blur_every")},
        **{name: options[name] for name in ("anneal", "seed", "compile", "verbose")},
    )
    _warn_of_silence(method, target, result.scores)
    return (result.images, result.scores) if options["return_scores"] else result.images


def _starts(method, canvas, start, count):
    """The start images, one per image (None if not given), and the number of images."""
    if start is None:
        return None, count or 1
    start, _ = canvas.unit(start, "start")
    if count not in (None, 1, len(start)) and len(start) > 1:
        raise UsageError(
            f"{method} expects one start per target: {count}. Received {len(start)}. Give one start for all, or one "
            "start per target."
        )
    count = max(count or 1, len(start))
    return np.broadcast_to(start, (count, *start.shape[1:])), count


def _parse_terms(method, model, terms, score):
    """A `Target` with one row for each of several units, directions or sums that differ only in their numbers."""
    parsed = [targets.parse(one, model, 1, score=score, method=method) for one in terms]
    if any(one.spec != parsed[0].spec for one in parsed):
        raise UsageError(
            f"{method} expects a list of targets of one layer and kind. Received {terms!r}. Call {method} once for "
            "each kind."
        )
    return targets.Target(parsed[0].spec, np.concatenate([one.index for one in parsed]))


def _problem(method, kind, canvas, target, options):
    """The `Problem` to optimize: the objective, the parameterization of the image, and its views."""
    generator = options["generator"]
    regularizers = {name: options[name] for name in ("blur", "clip_pixels", "clip_gradients")}
    _check_regularizers(method, kind, **regularizers, decay=options["decay"])
    _check_penalties(method, options)
    image = {
        "pixels": lambda: Pixels(canvas.shape),
        "fourier": lambda: Fourier(canvas.shape, float(options["frequency_power"])),
        "generator": lambda: Latent(canvas.shape, weakref.ref(generator), canvas.value_range),
    }[kind]()
    compared = _compared(method, canvas, target, options) if options["diversity"] else None
    return Problem(
        objective=Score(
            *(target.spec, canvas.keys, kind == "generator", target.function),
            compared=compared,
            channels_first=canvas.channels_first,
        ),
        parameterization=image,
        value_range=canvas.value_range,
        preprocess=options["preprocess"],
        views=Views(
            scale=float(options["scale"]),
            rotate=float(options["rotate"]),
            **{name: int(options[name]) for name in _SHIFTS},
        ),
        channels_first=canvas.channels_first,
        optimizer=options["optimizer"],
        coarse=float(options["coarse"]) if kind == "fourier" else 0.0,
        **{name: float(value) for name, value in regularizers.items()},
    )


def _compared(method, canvas, target, options):
    """The layer whose Gram matrices are compared between images of one target."""
    if len(target.index) < 2 or target.function is not None:
        raise UsageError(
            f"{method} expects several images of one class or Unit for diversity=. Received "
            f"{'a function' if target.function is not None else 'one image'}. Write for example [130] * 4."
        )
    if options["diversity_layer"] is not None:
        call = layer_lookup.find(canvas.model, options["diversity_layer"], method=method)
    elif target.spec.call is not None:
        call = target.spec.call
    else:
        gray = np.full((1, *canvas.shape), np.mean(canvas.value_range), "float32")
        gray = gray if options["preprocess"] is None else np.asarray(options["preprocess"](gray))
        gray = np.moveaxis(gray, -1, 1) if canvas.channels_first else gray
        task = Task(method, canvas.model, gray, 0, **defaults_of(AttributionOptions))
        task.layer_pass(slice(0, 1), None, differentiate=False)
        call = tracing.default_layer(canvas.model, task.target.spec)
    return call


def _warn_of_silence(method, target, scores):
    """Warn about units that stayed at exactly 0 (without a penalty), because they have no gradient to follow."""
    finite = scores[np.isfinite(scores).all(1)]
    silent = np.flatnonzero(~finite.any(0)) if target.spec.kind == "unit" and len(finite) else []
    if len(silent):
        warnings.warn(
            f"{method} expects units that answer to a nearly gray start. The units of image "
            f"{', '.join(map(str, silent[:8]))} stayed at 0, where there is no gradient to follow. Choose the layer "
            "before the activation, or start from real images with start=.",
            stacklevel=5,
        )


def _kind(method, parameterization, generator, start):
    if parameterization not in ("fourier", "pixels"):
        raise UsageError(
            f"{method} expects parameterization to be 'fourier' or 'pixels'. Received {parameterization!r}. "
            "For a generator's latent space pass the generator as generator=."
        )
    if generator is None:
        return parameterization
    inputs = getattr(generator, "inputs", None)
    if not inputs or len(inputs) != 1 or None in inputs[0].shape[1:]:
        raise UsageError(
            f"{method} expects generator= to be a keras.Model from one latent vector to images. Received "
            f"{type(generator).__name__}. Build it with keras.Input((latent_size,))."
        )
    if start is not None:
        raise UsageError(
            f"{method} expects either start= or generator=. Received both. Leave out start=: a generator's images "
            "start from random latent vectors, which seed= fixes."
        )
    return "generator"


def _check_regularizers(method, kind, **values):
    for name, value in values.items():
        if not 0 <= value < (np.inf if name == "blur" else 1):
            raise UsageError(
                f"{method} expects {name} to be {'a sigma in pixels, at least 0' if name == 'blur' else 'in [0, 1)'}. "
                f"Received {value!r}. Write 0 to turn it off."
            )
        if value and kind != "pixels":
            raise UsageError(
                f"{method} with {name} expects parameterization='pixels', whose values are the image. Received "
                f"{kind!r}. Write parameterization='pixels', or leave {name} out."
            )


def _check_penalties(method, options):
    for name in (
        "l1",
        "total_variation",
        "diversity",
        "scale",
        "frequency_power",
        "coarse",
        "rotate",
        *_SHIFTS,
    ):
        value = 0 if options[name] is None else options[name]
        if not is_number(value) or not value >= 0:
            raise UsageError(
                f"{method} expects {name} to be a number, at least 0. Received {name}={value!r}. Leave it out for the "
                "default."
            )
