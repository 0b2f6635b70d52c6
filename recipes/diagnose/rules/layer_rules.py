"""What the statistics of the layers, on one batch, show before training."""

import math
from dataclasses import dataclass

from recipes.diagnose.finding import Finding
from recipes.diagnose.rules.words import times

_RECURRENT = ("SimpleRNN", "LSTM", "GRU", "RNN", "Bidirectional")


@dataclass(frozen=True)
class LayerStatistics:
    """Statistics of one layer's output on one batch.

    Attributes:
        name: Name of the layer.
        layer_class: Name of its class.
        kind: Its activation, "" for a linear output.
        mean: Mean over all numbers.
        std: Standard deviation over all numbers.
        sample_std: Root mean square of what differs between examples; 0 when every example gives the same output.
        zero_fraction: Share of outputs that are zero, in [0, 1].
        saturated_fraction: Share of outputs in the flat parts of the activation, in [0, 1]; NaN for kinds that do not
            saturate.
        dead_fraction: Share of units that are zero for every example and position, in [0, 1]; NaN except for
            rectifiers.
        gradient_rms: Root mean square of d loss / d output.
        input_rms: Root mean square of the layer's input.
        input_std: Standard deviation of the layer's input.
        finite: False when some number of the output is NaN or infinite.
        has_kernel: Whether the layer has a kernel.
        weights: "kernel" where the layer multiplies its input, "table" where it looks up rows, "" for neither.
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
    weights: str = ""


def judge(layers: list[LayerStatistics]) -> list[Finding]:
    """Findings in the statistics of layers before training, as of epoch 0.

    Args:
        layers: The `LayerStatistics` in forward order.

    Returns:
        A list of `Finding`, not arranged.
    """
    findings = []

    def add(code, severity, layer, evidence, remedy):
        findings.append(Finding(code, severity, layer, 0, evidence, remedy))

    broken = next((layer for layer in layers if not layer.finite), None)
    if broken is not None:
        add(
            "nan_source",
            "error",
            broken.name,
            f"The output of {broken.name} ({broken.layer_class}) holds NaN or infinity on the first batch, and "
            "no layer before it does: every gradient will be NaN.",
            "Look for log, sqrt or a division there, and add a small constant; or for weights that overflow.",
        )
        return findings
    first = first_with_weights(layers)
    for number, layer in enumerate(layers):
        last = number >= len(layers) - 1
        if layer.dead_fraction > 0.9 and not last:
            add(
                "dead_at_start",
                "error" if layer.dead_fraction == 1 else "warning",
                layer.name,
                f"{layer.dead_fraction:.0%} of the units of {layer.name} are zero for every example before "
                "training: no gradient passes through them, so they stay zero.",
                "Use bias_initializer='zeros' and kernel_initializer='he_normal' there, and scale the inputs to about "
                "-1..1.",
            )
        elif layer.saturated_fraction > 0.5 and not last:
            add(
                "saturated",
                "warning",
                layer.name,
                f"{layer.saturated_fraction:.0%} of the outputs of {layer.name} ({layer.kind}) lie where its slope "
                "is under a tenth of the largest, before training, so that much less gradient passes.",
                "Start its kernel with glorot_uniform, and scale the inputs to about -1..1.",
            )
    if first is None or first.weights == "table" or not first.input_std > 0:
        first = None  # the ids that an embedding takes have no scale; its rows have
    size = _scale_of_input(layers, first)
    if not size > 0:
        return findings
    layers = _without_raw_inputs(layers, size)
    hidden = [layer for layer in layers[:-1] if layer.kind and layer.kind not in ("softmax", "sigmoid")]
    # Recurrent layers and layers without activation may enlarge their input: what they give must be large in itself,
    # too.
    linear = [layer for layer in layers[:-1] if not layer.kind and layer.weights == "kernel"]
    large = next(
        (
            layer
            for layer in layers[:-1]
            if (layer in hidden and layer.std > 100 * max(size, 1e-12))
            or (layer in linear and layer.std > 100 * max(size, layer.input_rms, 1.0))
        ),
        None,
    )
    differences = first.input_std if first is not None else size
    small = next((layer for layer in hidden if layer.sample_std < 1e-3 * differences), None)
    if large is not None:
        recurrent = "recurrent_initializer='orthogonal' with activation='tanh', which are the defaults"
        kernel = (
            "kernel_initializer='he_normal' (relu) or 'glorot_uniform' (tanh), or recipes.initialize.lsuv"
        )
        add(
            "initial_scale_too_large",
            "error",
            large.name,
            f"The outputs of {large.name} have a standard deviation of {large.std:.3g}, from inputs of root mean "
            f"square {size:.3g}, {times(large.std / size)} times as large: what comes behind "
            "saturates, or the loss explodes.",
            f"Use {recurrent if large.layer_class in _RECURRENT else kernel}.",
        )
    elif small is not None and not any(f.code == "dead_at_start" for f in findings):
        add(
            "initial_scale_too_small",
            "error",
            small.name,
            f"Differences between examples are {small.sample_std:.2g} after {small.name}, from {differences:.2g} in "
            "the inputs: hardly any signal is left.",
            "Use kernel_initializer='he_normal' (relu) or 'glorot_uniform' (tanh), or "
            "recipes.initialize.lsuv.",
        )
    return findings


def large_inputs(layers: list[LayerStatistics]) -> LayerStatistics | None:
    """The first layer with a kernel that gets large numbers which no earlier layer with weights produced.

    Args:
        layers: The `LayerStatistics` in forward order.

    Returns:
        That layer, or None.
    """
    made = 0.0
    for layer in layers:
        if layer.weights == "kernel" and 10 < layer.input_rms < math.inf and made < 0.3 * layer.input_rms:
            return layer
        if layer.weights or layer.has_kernel:
            made = max(made, math.hypot(layer.mean, layer.std))
    return None


def _without_raw_inputs(layers, size):
    """The layers before the first one that gets raw inputs beside computed features, and the last layer.

    The outputs of that one are large because of its inputs, not because of its weights.
    """
    raw = large_inputs(layers)
    if raw is None or raw.input_rms < 10 * size:
        return layers
    return [*layers[: layers.index(raw)], layers[-1]]


def first_with_weights(layers: list[LayerStatistics]) -> LayerStatistics | None:
    """The first layer that multiplies or looks up its input: dense, convolution, recurrent, embedding; or None.

    Args:
        layers: The `LayerStatistics` in forward order.
    """
    return next((layer for layer in layers if layer.weights or layer.has_kernel), None)


def _scale_of_input(layers, first):
    """Scale of what the first kernel gets: of the inputs themselves, or of the rows of an embedding."""
    if first is not None:
        return first.input_rms
    table = next((layer for layer in layers if layer.weights == "table"), None)
    return float("nan") if table is None else table.std
