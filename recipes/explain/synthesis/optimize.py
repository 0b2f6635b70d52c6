"""The loop behind every synthesized image: gradient ascent on any objective, compiled in chunks of steps.

`optimize` runs chunks of steps inside a `tf.while_loop`, so a step takes only the time of its forward pass and
gradient, and Python only reports progress. L-BFGS runs outside TensorFlow, on the same compiled value and gradient.
"""

import dataclasses
import math
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from recipes.common.blur import gaussian_blur
from recipes.common.types import FloatArray, ValueRange, Verbose
from recipes.common.validation import is_number, is_whole
from recipes.explain.engine import tracing
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.options import Compile, Preprocess
from recipes.explain.synthesis.l_bfgs import minimize
from recipes.explain.synthesis.objective import value_and_gradient
from recipes.explain.synthesis.random_views import Views

OPTIMIZERS = ("adam", "gradient", "normalized", "l-bfgs")
CHUNK = 16


@dataclasses.dataclass(frozen=True)
class Problem:
    """The problem that is optimized. It is hashable: one trace is kept per model and problem; numbers are tensors.

    Args:
        objective: Hashable callable `(model, candidate) -> (n,)` to be maximized (see `objective.Candidate`).
        parameterization: An object of `recipes.explain.synthesis.parameterization`.
        value_range: `(low, high)` of the images.
        preprocess: Function from images in `value_range` to the inputs of the model, or None.
        views: Random transformations of the images that the model sees.
        channels_first: Whether the model takes `(n, channels, height, width)`.
        optimizer: "adam", "gradient" (rate times gradient), "normalized" (rate times gradient divided by its root
            mean square) or "l-bfgs".
        blur: Standard deviation in pixels of the blur of the parameters, 0 for none; for pixels only, like the next
        two. clip_pixels: Fraction of the pixels, those nearest to gray, that are set to gray after each step.
        clip_gradients: Fraction of the pixels, those that contribute least to the score, that are set to gray. coarse:
        For Fourier coefficients, the number of waves across the image that are optimized at first (see
            `Fourier.open`); 0 optimizes all from the start.
    """

    objective: object
    parameterization: object
    value_range: ValueRange = (0.0, 255.0)
    preprocess: Preprocess = None
    views: Views = Views()
    channels_first: bool = False
    optimizer: str = "adam"
    blur: float = 0.0
    clip_pixels: float = 0.0
    clip_gradients: float = 0.0
    coarse: float = 0.0


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of `optimize`.

    Args:
        images: float32 `(n, height, width, channels)` in the value range.
        scores: float32 `(steps, n)`, the objective before each step; NaN after an image was stopped.
        parameters: `(n, ...)`, the parameters of the parameterization.
    """

    images: FloatArray
    scores: FloatArray
    parameters: FloatArray


def optimize(
    method: str,
    model: keras.Model,
    problem: Problem,
    start: Any,
    rows: Sequence[Any] = (),
    shared: Sequence[Any] = (),
    *,
    steps: int,
    learning_rate: float,
    decay: float = 0.0,
    blur_every: int = 4,
    seed: int = 0,
    compile: Compile = "auto",
    verbose: Verbose = "auto",
    after_first: Callable[[], None] | None = None,
    spent: int = 0,
    anneal: bool = False,
) -> Result:
    """Maximize the problem's objective for some steps; every image of the batch is optimized separately.

    Args:
        method: The public function's name, for messages.
        model: A built `keras.Model`, which is not changed.
        problem: A `Problem`.
        start: Parameters to start from, `(n, ...)`.
        rows, shared: Tensors passed to the objective; the first axis of each may change from call to call.
        steps: Number of steps, >= 1.
        learning_rate: Step size in the units of the parameters, > 0.
        decay: Fraction of the parameters removed at each step, in [0, 1).
        blur_every: Number of steps between two blurs.
        seed: Integer that fixes the random views.
        compile, verbose: As in `recipes.explain`.
        after_first: Function that is called once after the first chunk, when targets can be checked; or None.
        anneal: Whether the learning rate decreases to 0 along half a cosine; not with "l-bfgs".
        spent: Number of steps of earlier calls in the same run, so that new views are drawn.

    Returns:
        A `Result`. An image whose score or gradient is no longer finite keeps its last finite state.

    Warns:
        UserWarning: when a score or gradient is no longer finite.

    Raises:
        UsageError: when `steps`, `learning_rate` or the optimizer is not valid.
    """
    check_steps(method, steps, learning_rate)
    if problem.optimizer not in OPTIMIZERS:
        raise UsageError(
            f"{method} expects optimizer to be one of {', '.join(map(repr, OPTIMIZERS))}. Received "
            f"{problem.optimizer!r}. "
            "Leave it out for the default."
        )
    start = tf.convert_to_tensor(np.asarray(start, "float32"))
    rows, shared = (list(map(tf.convert_to_tensor, constants)) for constants in (rows, shared))
    bar = _Bar(steps, verbose)
    if problem.optimizer == "l-bfgs":
        parameters, scores, alive = minimize(
            model, problem, start, rows, shared, steps, seed, compile, bar.reach
        )
        if after_first:
            after_first()
    else:
        falls_over = steps if anneal else np.inf
        settings = tf.constant([learning_rate, decay, max(1, blur_every), falls_over, steps], "float32")
        run = _Ascent(model, problem, start, rows, shared, settings, seed, spent, compile)
        done = 0
        while done < steps and run.alive.any():
            count = min(CHUNK, steps - done)
            run.advance(count)
            if not done and after_first:
                after_first()
            done += count
            bar.reach(done)
        parameters, scores, alive = run.result()
    if getattr(problem.objective, "function", None) is not None:
        tracing.forget(model, problem)  # the user's function may be a new object in every call
    if not alive.all():
        stopped = np.flatnonzero(~alive)
        warnings.warn(
            f"{method} expects scores and gradients to stay finite. The scores or gradients of image "
            f"{', '.join(map(str, stopped[:8]))} did not, after {int(np.isfinite(scores[:, stopped[0]]).sum())} of "
            f"{steps} steps; its last finite state is returned. Lower learning_rate, or look for NaN in the weights.",
            stacklevel=4,
        )
    return Result(images_of(problem, parameters), scores, parameters)


def images_of(problem: Problem, parameters: Any) -> FloatArray:
    """Decode parameters to images in the value range, float32 numpy `(n, height, width, channels)`."""
    low, high = problem.value_range
    images = np.clip(np.asarray(problem.parameterization.decode(tf.convert_to_tensor(parameters))), 0, 1)
    return (low + (high - low) * images).astype("float32")


def check_steps(method: str, steps: int, learning_rate: float) -> None:
    """Raise `UsageError` unless `steps` is a whole number in 1 to 10**6 and `learning_rate` a number above 0."""
    if not is_whole(steps) or not 1 <= steps <= 10**6:
        raise UsageError(
            f"{method} expects steps to be a whole number, at least 1 and at most a million. Received {steps!r}. "
            "Leave it out for the default."
        )
    if not is_number(learning_rate) or learning_rate <= 0:
        raise UsageError(
            f"{method} expects learning_rate > 0. Received {learning_rate!r}. Leave it out for the default."
        )


class _Bar:
    """A progress bar, shown on request, or if more than five seconds are left after the first two chunks."""

    def __init__(self, steps, verbose):
        self.steps, self.verbose, self.shown, self.begun = steps, verbose, None, None

    def reach(self, done):
        if self.begun is None:
            self.begun = (done, time.perf_counter())  # the first chunk includes the trace
            if self.verbose == "auto":
                return
        if self.shown is None:
            elapsed, steps = time.perf_counter() - self.begun[1], done - self.begun[0]
            long = steps and elapsed / steps * (self.steps - done) > 5
            shown = long if self.verbose == "auto" else self.verbose
            self.shown = keras.utils.Progbar(self.steps, unit_name="step") if shown else False
        if self.shown:
            self.shown.update(done)


class _Ascent:
    """First-order steps, in compiled chunks."""

    def __init__(self, model, problem, start, rows, shared, settings, seed, spent, compile):
        self.model, self.problem, self.compile = model, problem, compile
        self.rows, self.shared, self.settings = rows, shared, settings
        self.state = [start, tf.zeros_like(start), tf.zeros_like(start), tf.ones([start.shape[0]], "bool")]
        self.seed, self.step, self.spent = int(seed), 0, spent
        self.scores = []

    @property
    def alive(self):
        return self.state[3].numpy()

    def advance(self, count):
        counters = tf.constant([self.step, self.step + count, self.seed, self.spent], "int32")
        tensors = [counters, self.settings, *self.state, *self.rows, *self.shared]
        size = self.problem.parameterization.trace_shape or self.state[0].shape[1:]
        shapes = [(4,), (5,), *[(None, *size)] * 3, (None,)]
        shapes += [(None, *tensor.shape[1:]) for tensor in tensors[6:]]
        *self.state, scores = tracing.evaluate(
            self.model,
            ascend,
            tensors,
            compile=self.compile,
            shapes=shapes,
            problem=self.problem,
            rows=len(self.rows),
        )
        self.step += count
        self.scores.append(scores.numpy())

    def result(self):
        return self.state[0].numpy(), np.concatenate(self.scores), self.alive


def ascend(
    model: keras.Model,
    counters: tf.Tensor,
    settings: tf.Tensor,
    parameters: tf.Tensor,
    first: tf.Tensor,
    second: tf.Tensor,
    alive: tf.Tensor,
    *constants: tf.Tensor,
    problem: Problem,
    rows: int,
) -> tuple[tf.Tensor, ...]:
    """Kernel of a chunk of steps: `(parameters, first moment, second moment, alive, scores (steps, n))`."""
    begin, end, seed, spent = tf.unstack(counters)
    *settings, steps = tf.unstack(settings)

    def body(step, parameters, first, second, alive, scores):
        seeds = tf.stack([seed, step + spent])
        value, gradient = value_and_gradient(
            model, problem, parameters, constants[:rows], constants[rows:], seeds
        )
        if problem.coarse:
            gradient *= problem.parameterization.open(problem.coarse, tf.cast(step, "float32") / steps)
        moved, new_first, new_second = _move(problem, step, parameters, gradient, first, second, settings)
        finite = tf.math.is_finite(value) & _finite(gradient) & _finite(moved)
        scores = scores.write(step - begin, tf.where(alive & finite, value, np.nan))
        alive &= finite
        kept = tf.reshape(
            alive, tf.concat([tf.shape(alive), tf.ones([parameters.shape.rank - 1], "int32")], 0)
        )
        return (
            step + 1,
            tf.where(kept, moved, parameters),
            tf.where(kept, new_first, first),
            tf.where(kept, new_second, second),
            alive,
            scores,
        )

    # Images are independent, so their number may be dynamic; TensorArray then needs the shape of its elements.
    scores = tf.TensorArray("float32", size=end - begin, element_shape=[None])
    _, parameters, first, second, alive, scores = tf.while_loop(
        lambda step, *_: step < end,
        body,
        (begin, parameters, first, second, alive, scores),
        parallel_iterations=1,
    )
    return parameters, first, second, alive, scores.stack()


def _move(problem, step, parameters, gradient, first, second, settings):
    """One step of the optimizer, followed by the regularizers that are not penalties."""
    rate, decay, blur_every, falls_over = settings
    rate *= (1 + tf.cos(math.pi * tf.cast(step, "float32") / falls_over)) / 2
    axes = tuple(range(1, parameters.shape.rank))
    if problem.optimizer == "adam":
        # Kingma & Ba 2014, algorithm 1, with its default moments.
        count = tf.cast(step + 1, "float32")
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * tf.square(gradient)
        size = rate * tf.sqrt(1 - 0.999**count) / (1 - 0.9**count)
        moved = parameters + size * first / (tf.sqrt(second) + 1e-8)
    elif problem.optimizer == "normalized":
        norm = tf.sqrt(tf.reduce_mean(tf.square(gradient), axes, keepdims=True))
        moved = parameters + rate * tf.math.divide_no_nan(gradient, norm)
    else:
        moved = parameters + rate * gradient
    moved = moved * (1 - decay)
    if problem.blur:
        due = tf.equal(step % tf.cast(blur_every, "int32"), 0)
        moved = tf.cond(due, lambda: gaussian_blur(moved, problem.blur), lambda: moved)
    if problem.clip_pixels:
        moved *= _above(tf.norm(moved, axis=-1, keepdims=True), problem.clip_pixels)
    if problem.clip_gradients:
        contribution = tf.abs(tf.reduce_sum(moved * gradient, -1, keepdims=True))
        moved *= _above(contribution, problem.clip_gradients)
    if problem.parameterization.bounded:
        moved = tf.clip_by_value(moved, -1, 1)
    return moved, first, second


def _above(values, fraction):
    """0 for the smallest `fraction` of the pixels of each image, 1 for all others."""
    flat = tf.reshape(values, [tf.shape(values)[0], -1])
    place = tf.cast(fraction * tf.cast(tf.shape(flat)[1], "float32"), "int32")
    threshold = tf.gather(tf.sort(flat, axis=1), tf.minimum(place, tf.shape(flat)[1] - 1), axis=1)
    return tf.cast(values >= threshold[:, None, None, None], "float32")


def _finite(values):
    return tf.reduce_all(tf.math.is_finite(values), tuple(range(1, values.shape.rank)))
