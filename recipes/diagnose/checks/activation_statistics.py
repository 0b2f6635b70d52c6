"""Statistics of every layer's outputs and gradients on one batch, before training."""

import math
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from recipes.common.backends import require_probe
from recipes.common.traversal import layers_of, variable_owners
from recipes.diagnose.checks.model_copy import untouched
from recipes.diagnose.checks.output_task import task_of
from recipes.diagnose.checks.sample import built, read_sample
from recipes.diagnose.checks.seen_layers import SeenLayers
from recipes.diagnose.checks.verdict import Check
from recipes.diagnose.rules.layer_rules import LayerStatistics, judge
from recipes.probe.layout import watched_layers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FEWEST_EXAMPLES, _MOST_NUMBERS = 16, 1 << 22  # limits of the batch that is sent through the layers
_MOST_OF_A_LAYER = 1 << 21  # numbers from which the statistics of a layer are computed
# Layers whose weights are statistics or scales of the data, no kernels.
_STATISTICS = (
    keras.layers.Normalization,
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
)
_FLAT = {"tanh": lambda y: np.abs(y) > 0.95, "sigmoid": lambda y: np.abs(2 * y - 1) > 0.95}


@dataclass(frozen=True, kw_only=True)
class ActivationStatistics(Check):
    """Outcome of `activation_statistics`.

    Attributes:
        layers: Statistics of each layer, in forward order.
        gradients: Name of a trainable variable ("layer/kernel") -> Euclidean norm of its gradient, NaN where the loss
            does not depend on the variable.
    """

    layers: list[LayerStatistics]
    gradients: dict[str, float]

    def plot(self) -> "Figure":
        """Draw activations and gradients by depth, as a `matplotlib.figure.Figure`."""
        from recipes import plot  # noqa: PLC0415 - brings matplotlib

        return plot.layer_statistics(self)


def activation_statistics(model: keras.Model, data: Any, *, batch_size: int = 64) -> ActivationStatistics:
    """Measure each layer's output, and the gradient that reaches it, on one batch.

    Mean, standard deviation, zeros, saturation and dead units by depth show a bad initial scale before it costs an
    epoch of training. See Glorot & Bengio 2010, section 4.2 and figures 6 and 7,
    https://proceedings.mlr.press/v9/glorot10a.html. The model runs once, eagerly, in training mode; nothing is traced.

    Args:
        model: A compiled `keras.Model`. It is not changed: its variables are restored bit for bit.
        data: `tf.data.Dataset` or arrays, as in `initial_loss`; one batch is used.
        batch_size: Number of examples in that batch.

    Returns:
        An `ActivationStatistics`. Its findings can be "nan_source", "dead_at_start", "saturated",
        "initial_scale_too_large" (outputs over 100 times their input) and "initial_scale_too_small" (differences
        between examples under a thousandth of those of the input).

    Raises:
        ValueError: when the model is not compiled or the data is empty.
        RuntimeError: on a Keras backend other than TensorFlow and JAX.
    """
    task_of(model)
    sample = read_sample(data, model, batch_size=batch_size, batches=1)
    built(model, sample)
    return statistics_of(observe(model, sample.batches[0]))


def statistics_of(seen: "Observation") -> ActivationStatistics:
    """Judge one `Observation`, and return its statistics with findings."""
    layers = seen.layers
    hidden = [layer for layer in layers if layer.kind and layer.kind != "softmax"]
    spread = [layer.std for layer in hidden] or [layer.std for layer in layers]
    result = f"{len(layers)} layers, activations' standard deviation {min(spread, default=0):.2g} to "
    result += f"{max(spread, default=0):.2g}"
    if seen.silent:
        result += f"; gradients not looked at: {seen.silent}"
    return ActivationStatistics(
        name="activation_statistics",
        result=result,
        findings=judge(layers),
        layers=layers,
        gradients=seen.gradients,
    )


@dataclass(frozen=True)
class Observation:
    """What was measured in one forward and backward pass of a batch.

    Attributes:
        layers: Statistics of each layer, in forward order.
        gradients: Name of a trainable variable -> Euclidean norm of its gradient, NaN where there is none.
        outputs: Outputs of the model, a structure of numpy arrays.
        silent: Why there are no gradients, as half a sentence; "" where there are gradients.
        compiling: Seconds spent on compiling.
        loss: Loss of the batch, or None where it could not be computed.
        broken: Names of the variables whose gradient holds NaN or infinity.
        strangers: Values of variables that were used but do not belong to the model, as arrays.
    """

    layers: list[LayerStatistics]
    gradients: dict[str, float]
    outputs: Any
    silent: str
    compiling: float = 0.0
    loss: float | None = None
    broken: tuple[str, ...] = ()
    strangers: tuple[Any, ...] = ()


def measure(model: keras.Model, batch: tuple) -> tuple[list[LayerStatistics], dict[str, float]]:
    """`(layers, gradients)` of one batch, as in `ActivationStatistics`.

    Args:
        model: A built `keras.Model`; it is not changed.
        batch: `(inputs, labels, weights)`, where weights may be None.
    """
    seen = observe(model, batch)
    return seen.layers, seen.gradients


def observe(model: keras.Model, batch: tuple) -> Observation:
    """Run one forward and backward pass of a batch, and measure every layer.

    Where the loss cannot be computed (the model has none, or the labels do not fit it), only the gradients are missing.

    Args:
        model: A built `keras.Model`; it is not changed.
        batch: `(inputs, labels, weights)`, where weights may be None.
    """
    inputs, labels, weights = batch
    require_probe("A look at all layers before training")
    differentiate = import_module(f"recipes.diagnose.checks.on_{keras.backend.backend()}")
    inputs = keras.tree.map_structure(keras.ops.convert_to_tensor, inputs)
    seen = SeenLayers(watched_layers(model))
    owners = variable_owners(model)
    names = {
        id(v): f"{owners[id(v)][0]}/{v.name}" if id(v) in owners else v.path
        for v in model.trainable_variables
    }
    task, silent = task_of(model), ""
    if task.own_step and task.kind == "unknown":
        silent = "the training step is your own"
    with untouched(model):
        batch = (inputs, labels, weights)
        outputs, at_layers, at_variables, silent = differentiate.send_through(model, batch, seen, silent)
    layers = [_statistics(entry, gradient) for entry, gradient in zip(seen.entries, at_layers, strict=True)]
    variables = list(zip(model.trainable_variables, at_variables, strict=True))
    gradients = {names[id(variable)]: _norm(gradient) for variable, gradient in variables}
    broken = [names[id(v)] for v, gradient in variables if gradient is not None]
    broken = tuple(name for name in broken if not math.isfinite(gradients[name]))
    outputs = keras.tree.map_structure(lambda output: np.asarray(keras.ops.convert_to_numpy(output)), outputs)
    strangers = tuple(np.asarray(variable) for variable in seen.strangers)
    return Observation(layers, gradients, outputs, silent, seen.compiling, seen.loss, broken, strangers)


def few_examples(model: keras.Model, batch: tuple, *, numbers: int = _MOST_NUMBERS) -> tuple:
    """The first examples of a batch: so many that all layers together give about `numbers` values, but 16 at least.

    Args:
        model: The model, whose layers' output shapes are counted where they are known.
        batch: `(inputs, labels, weights)` of arrays, each None or a structure of arrays of one length.
        numbers: Largest number of output values of all layers together, about four million by default.
    """
    of_each = sum(_numbers_an_example(layer) for layer in layers_of(model))
    return first_rows(batch, max(_FEWEST_EXAMPLES, numbers // max(of_each, 1)))


def first_rows(batch: tuple, rows: int) -> tuple:
    """The first `rows` examples of a batch `(inputs, labels, weights)`, each None or a structure of arrays."""
    return tuple(
        None if part is None else keras.tree.map_structure(lambda array: array[:rows], part) for part in batch
    )


def _numbers_an_example(layer):
    try:
        outputs = keras.tree.flatten(layer.output)
    except (AttributeError, ValueError):  # never called on a symbolic input
        return 0
    return sum(math.prod(side or 64 for side in output.shape[1:]) for output in outputs)


def _statistics(entry, gradient):
    watched, given, output = entry
    y = _array(output)
    finite = bool(np.isfinite(y).all())
    y = _some(y)
    x = None if given is None else _some(_array(given))
    with np.errstate(all="ignore"):
        flat = _FLAT.get(watched.kind)
        return LayerStatistics(
            name=watched.name,
            layer_class=type(watched.operation).__name__,
            kind=watched.kind,
            mean=float(y.mean()),
            std=float(y.std()),
            # Exactly 0 where all examples give the same output; rounding in the variance would hide that.
            sample_std=0.0 if (y == y[:1]).all() else float(np.sqrt(y.var(axis=0).mean())),
            zero_fraction=float((y == 0).mean()),
            saturated_fraction=float(flat(y).mean()) if flat else float("nan"),
            dead_fraction=_dead(watched, output) if watched.kind == "relu" else float("nan"),
            gradient_rms=_root_mean_square(gradient) if gradient is not None else float("nan"),
            input_rms=float(np.sqrt(np.mean(np.square(x)))) if x is not None else float("nan"),
            input_std=float(x.std()) if x is not None else float("nan"),
            finite=finite,
            has_kernel=getattr(watched.operation, "kernel", None) is not None,
            weights=weights_of(watched.operation),
        )


def _some(values):
    """Values `(examples, numbers)` of an output; of a large one, an evenly spaced selection over all channels."""
    channels = values.shape[-1] if values.ndim > 1 else 1
    flat = values.reshape(len(values), -1) if values.ndim > 1 else values[:, None]
    step = max(1, -(-flat.size // _MOST_OF_A_LAYER))
    while math.gcd(step, channels) > 1:
        step += 1
    return flat if step == 1 else np.ascontiguousarray(flat[:, ::step])


def _root_mean_square(gradient):
    some = _some(_array(gradient))
    return _norm(some) / max(np.sqrt(some.size), 1)


def weights_of(operation: Any) -> str:
    """The kind of weights of a layer: "kernel" (multiplies the input), "table" (as of an embedding) or "" (none)."""
    if isinstance(operation, keras.layers.Embedding) or getattr(operation, "embeddings", None) is not None:
        return "table"
    if isinstance(operation, _STATISTICS):
        return ""
    variables = getattr(operation, "variables", ())
    return "kernel" if any(len(v.shape) > 1 and "seed" not in v.name for v in variables) else ""


def _dead(watched, output):
    y = _array(output)
    axis = watched.unit_axis(y.ndim)
    others = tuple(other for other in range(y.ndim) if other != axis)
    return float(np.mean(np.all(y <= 0, axis=others)))


def _norm(gradient):
    return float("nan") if gradient is None else float(np.linalg.norm(_array(gradient).astype("float64")))


def _array(tensor):
    return keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))
