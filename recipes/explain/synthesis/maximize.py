"""What class_image, unit_image and facets share: a score of the network, raised."""

import dataclasses
import warnings
import weakref
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from recipes.explain.engine import targets
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.image_spec import Canvas
from recipes.explain.engine.inputs import pack
from recipes.explain.synthesis.objective import Candidate
from recipes.explain.synthesis.optimize import Problem, optimize
from recipes.explain.synthesis.parameterization import Fourier, Latent, Pixels
from recipes.explain.synthesis.random_views import Views

DEFAULTS = {
    "fourier": {"optimizer": "adam", "learning_rate": 0.02, "l2": 0.0, "jitter": 1 / 16, "scale": 0.1},
    "pixels": {"optimizer": "normalized", "learning_rate": 0.02, "l2": 1e-4, "jitter": 0, "scale": 0.0},
    "generator": {"optimizer": "adam", "learning_rate": 0.05, "l2": 0.005, "jitter": 0, "scale": 0.0},
}


@dataclasses.dataclass(frozen=True)
class Score:
    """The score of a target, minus `l2` times the squared distance from gray (or from the latent zero).

    Args:
        spec: `targets.Spec`.
        keys: How the image is packed for the model.
        latent: Whether the penalty is on the parameters.
        function: The reader's callable, or None.
    """

    spec: targets.Spec
    keys: object
    latent: bool
    function: object = None

    def __call__(self, model: keras.Model, candidate: Candidate) -> tf.Tensor:
        inputs = pack(model, [candidate.seen], self.keys)
        if self.function is None:
            score, _ = targets.scores(model, inputs, self.spec, candidate.rows)
        else:
            outputs = targets.flat_outputs(model, model(inputs, training=False), self.spec)
            score = targets.call_function(targets.Target(self.spec, None, self.function), outputs)
        norm = tf.square(candidate.parameters) if self.latent else tf.square(2 * candidate.images - 1)
        return score - candidate.shared[0][0] * tf.reduce_sum(norm, tuple(range(1, norm.shape.rank)))


def raise_score(method: str, model: keras.Model, target: Any, count: int | None, **options: Any) -> Any:
    """Raise one score per image.

    Args:
        method: The public function's name, for messages.
        target: What `targets.parse` takes, or a `targets.Target` with one row per image.
        count: Number of images, None for as many as `start` has.
        options: Those of `ClassImageOptions`, all of them.

    Returns:
        Images, float32 `(n, height, width, channels)`; with `return_scores` also the objective of every step.
    """
    canvas = Canvas(method, model, size=options["size"], value_range=options["value_range"])
    start, count = _starts(method, canvas, options["start"], count)
    if not isinstance(target, targets.Target):
        target = targets.parse(target, model, count, score=options["score"], method=method)
    elif len(target.index) != count:
        target = dataclasses.replace(target, index=np.repeat(target.index, count, axis=0))
    kind = _kind(method, options["parameterization"], options["generator"], start)
    problem = _problem(method, kind, canvas, target, options)
    image, defaults = problem.parameterization, DEFAULTS[kind]
    l2, rate = (
        defaults[name] if options[name] is None else options[name] for name in ("l2", "learning_rate")
    )
    result = optimize(
        method,
        model,
        problem,
        image.start([[options["seed"], row] for row in range(count)])
        if start is None
        else image.encode(start),
        [target.index],
        [np.array([l2], "float32")],
        learning_rate=rate,
        after_first=lambda: targets.check(model, target, method),
        **{name: options[name] for name in ("steps", "decay", "blur_every", "seed", "compile", "verbose")},
    )
    _warn_of_silence(method, target, result.scores)
    return (result.images, result.scores) if options["return_scores"] else result.images


def _starts(method, canvas, start, count):
    """Where the images begin, one each (None: not given), and how many they are."""
    if start is None:
        return None, count or 1
    start, _ = canvas.unit(start, "start")
    if count not in (None, 1, len(start)) and len(start) > 1:
        raise UsageError(
            f"{method} expects one start per target: {count}. Received {len(start)}. Give one start for "
            "all, or one each."
        )
    count = max(count or 1, len(start))
    return np.broadcast_to(start, (count, *start.shape[1:])), count


def _problem(method, kind, canvas, target, options):
    """What is raised, of which image, seen how."""
    defaults, generator = DEFAULTS[kind], options["generator"]
    regularizers = {name: options[name] for name in ("blur", "clip_pixels", "clip_gradients")}
    _check_regularizers(method, kind, **regularizers, decay=options["decay"])
    jitter, scale = options["jitter"], options["scale"]
    jitter = round(defaults["jitter"] * min(canvas.shape[:2])) if jitter is None else int(jitter)
    image = {
        "pixels": lambda: Pixels(canvas.shape),
        "fourier": lambda: Fourier(canvas.shape),
        "generator": lambda: Latent(canvas.shape, weakref.ref(generator), canvas.value_range),
    }[kind]()
    return Problem(
        objective=Score(target.spec, canvas.keys, kind == "generator", target.function),
        parameterization=image,
        value_range=canvas.value_range,
        preprocess=options["preprocess"],
        views=Views(jitter, float(defaults["scale"] if scale is None else scale)),
        channels_first=canvas.channels_first,
        optimizer=defaults["optimizer"] if options["optimizer"] is None else options["optimizer"],
        **{name: float(value) for name, value in regularizers.items()},
    )


def _warn_of_silence(method, target, scores):
    """A unit that stayed at exactly 0 (without a penalty) has no gradient to follow."""
    finite = scores[np.isfinite(scores).all(1)]
    silent = np.flatnonzero(~finite.any(0)) if target.spec.kind == "unit" and len(finite) else []
    if len(silent):
        warnings.warn(
            f"{method} expects units that answer to a nearly gray start. Those of image "
            f"{', '.join(map(str, silent[:8]))} stayed at 0, where there is no gradient to follow. Choose the layer "
            "before the activation, or begin at real images with start=.",
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
            f"{method} expects either start= or generator=. Received both. A generator's images begin at random latent "
            "vectors, which seed= chooses."
        )
    return "generator"


def _check_regularizers(method, kind, **values):
    for name, value in values.items():
        if not 0 <= value < (np.inf if name == "blur" else 1):
            raise UsageError(
                f"{method} expects {name} to be {'a sigma in pixels, at least 0' if name == 'blur' else 'in [0, 1)'}. "
                f"Received {value!r}. 0 turns it off."
            )
        if value and kind != "pixels":
            raise UsageError(
                f"{method} with {name} expects parameterization='pixels', whose values are the image. Received "
                f"{kind!r}. Write parameterization='pixels', or leave {name} out."
            )
