"""SciPy's L-BFGS on a compiled value and gradient."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import scipy.optimize
import tensorflow as tf

from recipes.explain.engine import tracing
from recipes.explain.engine.options import Compile
from recipes.explain.synthesis.objective import value_and_gradient


def minimize(
    model: keras.Model,
    problem: Any,
    start: tf.Tensor,
    rows: Sequence[tf.Tensor],
    shared: Sequence[tf.Tensor],
    steps: int,
    seed: int,
    compile: Compile,
    report: Callable[[int], None],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maximize the problem's objective by L-BFGS, one image after the other, with the same random view in all steps.

    Source: Liu & Nocedal 1989; SciPy's L-BFGS-B with 20 corrections, with bounds if the parameterization has them.

    Args:
        model, problem, start, rows, shared, steps, seed, compile: As in `optimize`.
        report: Function that is called with the number of steps done, averaged over the images.

    Returns:
        `(parameters, scores, alive)`: float32 `(n, ...)`, float32 `(steps, n)`, and bool `(n,)`. After convergence the
        last score is repeated.
    """
    found = []
    for row in range(len(start)):

        def evaluate(vector, row=row):
            return tracing.evaluate(
                model,
                _negative,
                [
                    tf.constant([seed, 0], "int32"),
                    tf.constant(vector.reshape(1, *start.shape[1:]), "float32"),
                    *(tensor[row : row + 1] for tensor in rows),
                    *shared,
                ],
                compile=compile,
                problem=problem,
                rows=len(rows),
            )

        def reached(count, row=row):
            report((row * steps + count) // len(start))

        one = start[row].numpy().ravel()
        found.append(_minimize_one(evaluate, one, steps, problem.parameterization.bounded, reached))
    parameters, scores, alive = zip(*found, strict=True)
    parameters = np.stack(parameters).astype("float32").reshape(start.shape)
    return parameters, np.stack(scores, axis=1), np.array(alive)


def _minimize_one(evaluate, start, steps, bounded, report):
    """`(parameters, scores (steps,), alive)` of one image."""
    scores, last = [], start

    def value_and_slope(vector):
        value, gradient = evaluate(vector)
        value, gradient = float(value[0]), np.asarray(gradient, "float64").ravel()
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            raise FloatingPointError
        if not scores:
            scores.append(-value)
        return value, gradient

    def accepted(intermediate_result):  # scipy requires this argument name
        nonlocal last
        last = intermediate_result.x
        scores.append(-float(intermediate_result.fun))
        report(min(len(scores), steps))

    alive = True
    try:
        scipy.optimize.minimize(
            value_and_slope,
            start.astype("float64"),
            jac=True,
            method="L-BFGS-B",
            bounds=scipy.optimize.Bounds(-1, 1) if bounded else None,
            callback=accepted,
            options={"maxiter": steps, "maxfun": 2 * steps + 20, "maxcor": 20, "ftol": 0, "gtol": 0},
        )
    except FloatingPointError:
        alive = False
    padding = scores[-1] if alive else np.nan
    scores = np.array([*scores[:steps], *[padding] * (steps - len(scores))], "float32")
    return last, scores, alive


def _negative(model, seeds, parameters, *constants, problem, rows):
    seeds = tf.ensure_shape(seeds, [2])
    value, gradient = value_and_gradient(
        model, problem, parameters, constants[:rows], constants[rows:], seeds
    )
    return -value, -gradient
