"""Look once at every layer, forwards and backwards, before training."""

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from recipes.common.patching import wrapped
from recipes.common.traversal import variable_owners
from recipes.diagnose.checks.model_copy import built, untouched
from recipes.diagnose.checks.output_task import task_of
from recipes.diagnose.checks.sample import read_sample
from recipes.diagnose.checks.verdict import Check
from recipes.diagnose.finding import Finding
from recipes.probe.layout import watched_layers

_FLAT = {"tanh": lambda y: np.abs(y) > 0.95, "sigmoid": lambda y: np.abs(2 * y - 1) > 0.95}


@dataclass(frozen=True)
class LayerStatistics:
    """One layer's output on one batch. `kind` is its activation, "" for a linear output.

    `std` is over all numbers, `sample_std` the root mean square of what differs between examples: 0 when every
    example gives the same. `zero_fraction`, `saturated_fraction` (NaN for kinds that do not saturate) and
    `dead_fraction` (units that are zero for every example and position, for rectifiers, else NaN) are in [0, 1].
    `gradient_rms` is the root mean square of d loss / d output, `input_rms` and `input_std` are of what the
    layer was given. `finite` is False when some number of the output is NaN or infinite.
    """

    name: str
    layer_class: str
    kind: str
    mean: float
    std: float
    sample_std: float
    zero_fraction: float
    saturated_fraction: float
    dead_fraction: float
    gradient_rms: float
    input_rms: float
    input_std: float
    finite: bool
    has_kernel: bool


@dataclass(frozen=True, kw_only=True)
class ActivationStatistics(Check):
    """Outcome of `activation_statistics`.

    Attributes:
        layers: list of `LayerStatistics` in forward order.
        gradients: dict from the name of a trainable variable ("layer/kernel") to the norm of its gradient, NaN where
            the loss does not depend on it.
    """

    layers: list
    gradients: dict

    def plot(self):
        """Draw activations and gradients by depth, as a `matplotlib.figure.Figure`."""
        from recipes import plot

        return plot.layer_statistics(self)


def activation_statistics(model, data, *, batch_size=64):
    """Measure each layer's output, and the gradient that reaches it, on one batch.

    Mean, spread, zeros, saturation and dead units by depth show a bad initial scale before it costs an epoch: Glorot
    & Bengio 2010, section 4.2 and figures 6 and 7, https://proceedings.mlr.press/v9/glorot10a.html.
    Runs once, eagerly, in training mode; nothing is traced.

    Args:
        model: A compiled `keras.Model`. Left as it was, bit for bit.
        data: `tf.data.Dataset` or arrays, as in `initial_loss`; one batch is used.
        batch_size: Examples of that batch.

    Returns:
        An `ActivationStatistics`. Findings: "nan_source", "dead_at_start", "saturated", "initial_scale_too_large"
        (outputs over 100 times their input), "initial_scale_too_small" (differences between examples under
        a thousandth of the input's).
    """
    task_of(model)
    sample = read_sample(data, model, batch_size=batch_size, batches=1)
    built(model, sample)
    layers, gradients = measure(model, sample.batches[0])
    findings = judge(layers)
    hidden = [layer for layer in layers if layer.kind and layer.kind != "softmax"]
    spread = [layer.std for layer in hidden] or [layer.std for layer in layers]
    result = f"{len(layers)} layers, activations' standard deviation {min(spread):.2g} to {max(spread):.2g}"
    return ActivationStatistics(
        name="activation_statistics", result=result, findings=findings, layers=layers, gradients=gradients
    )


def measure(model, batch):
    """`(layers, gradients)` of one batch, as in `ActivationStatistics`."""
    inputs, labels, weights = batch
    inputs = keras.tree.map_structure(tf.convert_to_tensor, inputs)
    watched, seen = watched_layers(model), []
    owners = variable_owners(model)
    names = {
        id(v): f"{owners[id(v)][0]}/{v.name}" if id(v) in owners else v.path
        for v in model.trainable_variables
    }
    with untouched(model), wrapped([(w.operation, "call", _recording(w, seen)) for w in watched]):
        with tf.GradientTape() as tape:
            outputs = model(inputs, training=True)
            loss = model.compute_loss(
                x=inputs, y=labels, y_pred=outputs, sample_weight=weights, training=True
            )
        tensors = [entry[2] for entry in seen]
        found = tape.gradient(loss, [*tensors, *(v.value for v in model.trainable_variables)])
    layers = [
        _statistics(entry, gradient) for entry, gradient in zip(seen, found[: len(tensors)], strict=True)
    ]
    variables = zip(model.trainable_variables, found[len(tensors) :], strict=True)
    gradients = {names[id(variable)]: _norm(gradient) for variable, gradient in variables}
    return layers, gradients


def judge(layers):
    """Findings in a list of `LayerStatistics`."""
    findings = []

    def add(code, severity, layer, evidence, remedy):
        findings.append(Finding(code, severity, layer, 0, evidence, remedy))

    broken = next((layer for layer in layers if not layer.finite), None)
    if broken is not None:
        add(
            "nan_source",
            "error",
            broken.name,
            f"The output of {broken.name} ({broken.layer_class}) holds NaN or infinity on the first batch; "
            "no layer before it does.",
            "Look for log, sqrt or a division there, and add a small constant; or for weights that overflow.",
        )
        return findings
    first = next((layer for layer in layers if layer.has_kernel and np.isfinite(layer.input_std)), None)
    for number, layer in enumerate(layers):
        last = number >= len(layers) - 1
        if layer.dead_fraction > 0.9 and not last:
            add(
                "dead_at_start",
                "error" if layer.dead_fraction == 1 else "warning",
                layer.name,
                f"{layer.dead_fraction:.0%} of the units of {layer.name} are zero for every example before "
                "training.",
                "Start its biases at 0 and its kernel with he_normal, and scale the inputs to about -1..1.",
            )
        elif layer.saturated_fraction > 0.5 and not last:
            add(
                "saturated",
                "warning",
                layer.name,
                f"{layer.saturated_fraction:.0%} of the outputs of {layer.name} ({layer.kind}) lie where "
                "its slope is "
                "under a tenth of the largest, before training.",
                "Start its kernel with glorot_uniform, and scale the inputs to about -1..1.",
            )
    if first is None or not first.input_std > 0:
        return findings
    hidden = [layer for layer in layers[:-1] if layer.kind and layer.kind not in ("softmax", "sigmoid")]
    large = next((layer for layer in hidden if layer.std > 100 * max(first.input_rms, 1e-12)), None)
    small = next((layer for layer in hidden if layer.sample_std < 1e-3 * first.input_std), None)
    if large is not None:
        add(
            "initial_scale_too_large",
            "error",
            large.name,
            f"The outputs of {large.name} have a standard deviation of {large.std:.3g}, from inputs of size "
            f"{first.input_rms:.3g}.",
            "Use kernel_initializer='he_normal' (relu) or 'glorot_uniform' (tanh), or "
            "recipes.initialize.lsuv.",
        )
    elif small is not None and not any(f.code == "dead_at_start" for f in findings):
        add(
            "initial_scale_too_small",
            "error",
            small.name,
            f"Differences between examples are {small.sample_std:.2g} after {small.name}, from "
            f"{first.input_std:.2g} "
            "in the inputs: hardly any signal is left.",
            "Use kernel_initializer='he_normal' (relu) or 'glorot_uniform' (tanh), or "
            "recipes.initialize.lsuv.",
        )
    return findings


def _recording(watched, seen):
    def wrap(original):
        def call(*args, **kwargs):
            output = original(*args, **kwargs)
            tensors = [t for t in keras.tree.flatten(output) if _is_float(t)]
            given = next((t for t in keras.tree.flatten((args, kwargs)) if _is_float(t)), None)
            if len(tensors) == 1 and len(seen) < 2000:
                seen.append((watched, given, tensors[0]))
            return output

        return call

    return wrap


def _is_float(tensor):
    return tf.is_tensor(tensor) and tensor.dtype.is_floating and hasattr(tensor, "numpy")


def _statistics(entry, gradient):
    watched, given, output = entry
    y = np.asarray(tf.cast(output, tf.float32))
    finite = bool(np.isfinite(y).all())
    y = y.reshape(len(y), -1) if y.ndim > 1 else y[:, None]
    x = None if given is None else np.asarray(tf.cast(given, tf.float32))
    with np.errstate(all="ignore"):
        flat = _FLAT.get(watched.kind)
        return LayerStatistics(
            name=watched.name,
            layer_class=type(watched.operation).__name__,
            kind=watched.kind,
            mean=float(y.mean()),
            std=float(y.std()),
            # Exactly 0 where all examples give the same, which rounding in the variance would hide.
            sample_std=0.0 if (y == y[:1]).all() else float(np.sqrt(y.var(axis=0).mean())),
            zero_fraction=float((y == 0).mean()),
            saturated_fraction=float(flat(y).mean()) if flat else float("nan"),
            dead_fraction=_dead(watched, output) if watched.kind == "relu" else float("nan"),
            gradient_rms=_norm(gradient) / max(np.sqrt(y.size), 1) if gradient is not None else float("nan"),
            input_rms=float(np.sqrt(np.mean(np.square(x)))) if x is not None else float("nan"),
            input_std=float(x.std()) if x is not None else float("nan"),
            finite=finite,
            has_kernel=getattr(watched.operation, "kernel", None) is not None,
        )


def _dead(watched, output):
    y = np.asarray(tf.cast(output, tf.float32))
    axis = watched.unit_axis(y.ndim)
    others = tuple(other for other in range(y.ndim) if other != axis)
    return float(np.mean(np.all(y <= 0, axis=others)))


def _norm(gradient):
    if gradient is None:
        return float("nan")
    if isinstance(gradient, tf.IndexedSlices):
        gradient = gradient.values
    return float(np.linalg.norm(np.asarray(tf.cast(gradient, tf.float32), "float64")))
