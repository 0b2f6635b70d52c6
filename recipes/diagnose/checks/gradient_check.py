"""gradient_check: compare backpropagation with finite differences of the loss, for every trainable variable."""

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from recipes.common.models import loss_weights_of
from recipes.common.traversal import layers_of, own_trainable_variables
from recipes.common.validation import check_seed, is_whole
from recipes.diagnose.checks.differences import Differences, dense, directions, verdict_bounds
from recipes.diagnose.checks.double_precision import clone_to_float64, double_precision, losses_to_float64
from recipes.diagnose.checks.layer_gradients import wrong_layers
from recipes.initialize.forward import check_built, layer_path


@dataclass(frozen=True)
class VariableCheck:
    """The derivative with the largest error among those checked for one variable.

    Attributes:
        variable: Path of the variable, such as `conv1/kernel`.
        layer: Path of its layer.
        error: `|analytic - numeric| / max(|analytic|, |numeric|)`, less what rounding explains; >= 0.
        analytic: The derivative by backpropagation.
        numeric: The derivative by central differences.
        kinks: Number of derivatives left out because the one-sided derivatives differ, as for a ReLU at 0.
    """

    variable: str
    layer: str
    error: float
    analytic: float
    numeric: float
    kinks: int


@dataclass(frozen=True)
class GradientReport:
    """What `gradient_check` found; `print` it for a table.

    Attributes:
        checks: One `VariableCheck` per trainable variable, in the model's order.
        wrong_layers: Paths of the layers whose own gradient is wrong, with respect to their inputs or their weights.
        dtype: "float64", or "float32" when the model could not be copied to float64. In float32, small errors cannot
            be seen, and the bounds are wider (see `verdict`).
        examples: Number of examples over which the loss was computed.
    """

    checks: tuple
    wrong_layers: tuple
    dtype: str
    examples: int

    @property
    def worst(self) -> float:
        """The largest relative error of all variables."""
        return max(check.error for check in self.checks)

    @property
    def verdict(self) -> str:
        """The verdict on the worst error: "fine", "suspicious" (above 1e-4) or "wrong" (above 1e-2).

        A suspicious gradient has a small mistake, or a kink that was not recognized. In float32 the bounds are 1e-2 and
        0.2.
        """
        suspicious, wrong = verdict_bounds(self.dtype)
        return "wrong" if self.worst > wrong else "suspicious" if self.worst > suspicious else "fine"

    def __str__(self) -> str:
        lines = [
            f"Gradients of {len(self.checks)} variables checked in {self.dtype} on {self.examples} examples: "
            f"{self.verdict} (worst relative error {self.worst:.1e})."
        ]
        if self.dtype != "float64":
            lines.append("The model could not be copied to float64, so small errors cannot be seen.")
        lines += [
            f"  {check.variable}: error {check.error:.1e}, backpropagation {check.analytic:+.6e}, "
            f"differences {check.numeric:+.6e}"
            for check in sorted(self.checks, key=lambda check: -check.error)
            if check.error > verdict_bounds(self.dtype)[0]
        ]
        lines += [f"The gradient of layer {layer!r} is wrong." for layer in self.wrong_layers]
        return "\n".join(lines)


def gradient_check(
    model: keras.Model,
    batch: Any,
    *,
    loss: Any = None,
    samples: int = 2,
    examples: int = 8,
    seed: int = 0,
) -> GradientReport:
    """Compare the gradients that training would use with central differences of the loss.

    For every trainable variable, derivatives along one random direction and along `samples` single entries are
    compared: the entry with the largest gradient, and random ones. The model is copied to float64, where differences
    are precise enough. Dropout and other random layers draw the same numbers each time, and batch normalization uses
    the statistics of the batch, as in training. The weights of the copy are first moved at random by about 0.001: with
    a bias of 0, a black image would put many ReLUs exactly at their kink.

    Where the two derivatives disagree, smaller and larger steps tell whether a kink or rounding is the reason. When a
    gradient is wrong, every layer is checked by itself, on the inputs that it has in the model, and the layers with a
    wrong gradient are named.

    Source: Bengio 2012, section 4.2, https://arxiv.org/abs/1206.5533, and Karpathy, CS231n notes, "Gradient checks",
    https://cs231n.github.io/neural-networks-3/#gradcheck. The bounds of `GradientReport.verdict` are from the notes:
    above 1e-2 a gradient is wrong, below 1e-4 it is fine for losses with kinks.

    Args:
        model: A built `keras.Model`, compiled or not. It is not changed.
        batch: One batch `(inputs, labels)` or `(inputs, labels, sample_weight)`, as `fit` takes them.
        loss: A Keras loss or its name; None for the one that the model was compiled with. Regularization penalties of
            the layers are added.
        samples: Single entries checked per variable, 0 to a million. The loss is computed about `2 * (samples + 1)`
            times for each variable.
        examples: Number of examples of the batch that are used, >= 1, from its start: with few examples, few kinks
            are met.
        seed: Integer that fixes the random directions and entries.

    Returns:
        A `GradientReport`.

    Raises:
        ValueError: for `samples` or `examples` out of range, a batch without labels, or a loss that is not finite. Also
            for a model that is not built, has no loss or nothing to train, or computes another loss every time (with
            random numbers that no `keras.random.SeedGenerator` draws).

    Example:
        >>> print(gradient_check(model, (images[:8], labels[:8])))
    """
    check_seed("gradient_check", seed)
    if not is_whole(samples) or not 0 <= samples <= 10**6 or not is_whole(examples) or examples < 1:
        raise ValueError(
            "gradient_check expects samples from 0 to a million and examples >= 1, whole numbers. Received "
            f"samples={samples!r} and examples={examples!r}. Leave them out for the defaults."
        )
    check_built("gradient_check", model)
    inputs, labels, weights = _first(batch, examples)
    if loss is None and not model.compiled:
        raise ValueError(
            f"gradient_check expects a compiled model or loss=. Received {model.name!r}, which is not "
            'compiled, and no loss. Give loss="sparse_categorical_crossentropy", for example.'
        )
    if not model.trainable_variables:
        raise ValueError(
            f"gradient_check expects a model with something to train. Received {model.name!r}, all of whose "
            f"{len(model.weights)} variables are frozen. Set trainable=True on a layer."
        )
    count = len(keras.tree.flatten(inputs)[0])
    with double_precision():
        clone = _compiled_clone(model, inputs, loss)
        if clone is not None:
            inputs, weights = _wide(inputs), _wide(weights)
            random = np.random.default_rng(seed)
            for variable in clone.trainable_variables:
                variable.assign(variable + random.normal(size=variable.shape) * 1e-3)
            checks, wrong = _check(
                clone, model, clone.compute_loss, (inputs, labels, weights), samples, random
            )
            return GradientReport(checks, wrong, "float64", count)
    before = [(variable, keras.ops.convert_to_numpy(variable)) for variable in model.variables]
    try:
        compute = model.compute_loss if loss is None else _loss_by_hand(model, loss)
        random = np.random.default_rng(seed)
        checks, wrong = _check(model, model, compute, (inputs, labels, weights), samples, random)
        return GradientReport(checks, wrong, "float32", count)
    finally:
        for variable, value in before:
            variable.assign(value)


def _first(batch, examples):
    if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
        raise ValueError(
            f"gradient_check expects batch=(inputs, labels) or (inputs, labels, sample_weight). "
            f"Received {type(batch).__name__}{f' of {len(batch)}' if hasattr(batch, '__len__') else ''}. "
            "Give one batch with its labels, such as next(iter(dataset))."
        )
    leaves = keras.tree.flatten(list(batch[:2]))
    empty = any(not keras.tree.flatten(part) for part in batch[:2])
    if empty or not all(len(getattr(array, "shape", ())) and _is_real(array) for array in leaves):
        received = [f"{type(array).__name__} of {getattr(array, 'dtype', 'no dtype')}" for array in leaves]
        raise ValueError(
            "gradient_check expects inputs and labels as arrays or tensors of numbers. Received "
            f"{', '.join(received)}. Give one batch, such as next(iter(dataset))."
        )
    parts = [
        keras.tree.map_structure(lambda array: array[:examples], part) for part in batch if part is not None
    ]
    return (*parts, None)[:3]


def _is_real(array):
    return keras.ops.is_tensor(array) or np.asarray(array).dtype.kind in "buif"


def _wide(arrays):
    """Arrays of floats as float64; arrays of integers, and None, unchanged."""
    if arrays is None:
        return None
    return keras.tree.map_structure(
        lambda array: np.asarray(array, "float64") if np.asarray(array).dtype.kind == "f" else array, arrays
    )


def _compiled_clone(model, inputs, loss):
    try:
        clone = clone_to_float64(model, inputs)
    # A model that cannot be copied may raise anything; it is then checked in float32, and the report says so.
    except Exception:
        return None
    clone.compile(
        loss=losses_to_float64(model.loss if loss is None else loss),
        loss_weights=loss_weights_of(model) if loss is None else None,
        jit_compile=False,
    )
    return clone


def _loss_by_hand(model, loss):
    function = keras.losses.get(loss)

    def compute(x, y, y_pred, sample_weight=None, training=True):
        value = (
            tf.reduce_mean(function(y, y_pred))
            if sample_weight is None
            else function(y, y_pred, sample_weight)
        )
        return tf.add_n([value, *(tf.cast(penalty, value.dtype) for penalty in model.losses)])

    return compute


def _check(model, given, compute_loss, batch, samples, random):
    """Check `model`, which is `given` or a copy of it; the paths in the result are those of `given`."""
    dtype = "float32" if model is given else "float64"
    inputs, labels, weights = batch
    trained = {id(variable) for variable in model.trainable_variables}
    # Seeds, moving averages and the like are restored before each pass, so that all passes are the same.
    states = [(v, keras.ops.convert_to_numpy(v)) for v in model.variables if id(v) not in trained]

    def loss_of():
        for variable, value in states:
            variable.assign(value)
        outputs = model(inputs, training=True)
        loss = compute_loss(x=inputs, y=labels, y_pred=outputs, sample_weight=weights, training=True)
        return tf.cast(loss, "float64")

    variables = model.trainable_variables
    with tf.GradientTape() as tape:
        tape.watch([variable.value for variable in variables])
        loss = loss_of()
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    compiled = tf.function(loss_of)
    _check_repeats(model, float(loss), [float(compiled()), float(compiled())], dtype)
    paths = {
        id(layer): layer_path(named) for layer, named in zip(layers_of(model), layers_of(given), strict=True)
    }
    owners = {id(v): paths[id(layer)] for layer in layers_of(model) for v in own_trainable_variables(layer)}
    differences = Differences(dtype, abs(float(loss)))
    checks = []
    for variable, gradient, named in zip(variables, gradients, given.trainable_variables, strict=True):
        start = keras.ops.convert_to_numpy(variable)
        gradient = dense(gradient, start.shape)
        results = [
            differences.compare(
                _along(variable, start, direction, compiled), float((gradient * direction).sum())
            )
            for direction in directions(gradient, samples, random)
        ]
        variable.assign(start)
        worst = max(results, key=lambda result: result.error)
        kinks = sum(result.kink for result in results)
        owner = owners.get(id(variable), "")
        checks.append(VariableCheck(named.path, owner, worst.error, worst.analytic, worst.numeric, kinks))
    wrong = ()
    if max(check.error for check in checks) > verdict_bounds(dtype)[0]:
        wrong = tuple(paths[id(layer)] for layer in wrong_layers(model, inputs, random, dtype))
    return tuple(checks), wrong


def _check_repeats(model, eager, compiled, dtype):
    if not all(map(math.isfinite, (eager, *compiled))):
        raise ValueError(
            f"gradient_check expects a finite loss. Received {eager} from {model.name!r}. "
            "Look for NaN in the batch or the weights first."
        )
    tolerance = (1e-9 if dtype == "float64" else 1e-4) * max(1.0, abs(eager))
    if max(abs(value - eager) for value in compiled) > tolerance:
        raise ValueError(
            f"gradient_check expects the same loss from the same weights. Received {eager} and then "
            f"{compiled} from {model.name!r}. Draw random numbers in layers with a keras.random.SeedGenerator."
        )


def _along(variable, start, direction, loss_of):
    def value(step):
        variable.assign(start + step * direction)
        return float(loss_of())

    return value
