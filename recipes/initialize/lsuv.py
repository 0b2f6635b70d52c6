"""Layer-sequential unit-variance initialization."""

import contextlib
import math
import warnings
from dataclasses import dataclass

import keras

from recipes.common.patching import wrapped
from recipes.common.traversal import layers_of, own_trainable_variables
from recipes.common.types import Inputs
from recipes.common.validation import check_seed, is_number, is_whole
from recipes.initialize.forward import (
    check_batch,
    check_built,
    forward_as_in_training,
    layer_path,
)


@dataclass(frozen=True)
class LSUVLayer:
    """What `lsuv` did to one layer.

    Attributes:
        layer: The layer's path in the model.
        variance_before: Variance of the layer's output, before its activation, with the weights it had.
        variance_after: The same variance at the end. Both are NaN for a layer that was not measured.
        steps: How many times the kernel was scaled.
        note: Why the layer did not reach unit variance or was skipped; empty for all others.
    """

    layer: str
    variance_before: float
    variance_after: float
    steps: int
    note: str = ""


def lsuv(
    model: keras.Model,
    batch: Inputs,
    *,
    tolerance: float = 0.01,
    max_steps: int = 10,
    orthonormal: bool = True,
    seed: int = 0,
) -> list[LSUVLayer]:
    """Scale the weights of every layer, first to last, until the layer's outputs on a batch have unit variance.

    Each kernel starts orthonormal and is divided by the standard deviation of the layer's output, taken before the
    activation, until the variance is within `tolerance` of 1.
    Source: Mishkin & Matas 2015, algorithm 1, https://arxiv.org/abs/1511.06422. The paper starts a new forward pass
    for each scaling. Here one pass goes through the network and scales each layer as the batch reaches it; the result
    is the same. Batch normalization works in training mode; biases are not changed.

    Args:
        model: A built `keras.Model` of any kind. Its weights are changed in place.
        batch: Inputs as the model takes them, without labels: `(examples, ...)`, at least two examples; hundreds
            give a better estimate. Real training data, as the model will see it.
        tolerance: Scaling stops when |variance - 1| is below this, > 0.
        max_steps: Largest number of scalings per layer, >= 1.
        orthonormal: Whether to draw new orthonormal kernels for Dense and convolution layers. False only scales the
            present weights.
        seed: Integer that fixes the orthonormal draws.

    Returns:
        A list of `LSUVLayer`, one per layer with a kernel, in the order in which the batch reached them. Frozen
        layers, recurrent layers, and layers whose output is constant or not finite keep their weights. A layer used
        several times is scaled at its first use only. A layer with a large bias may not reach unit variance. The
        note of each such layer tells the reason.

    Warns:
        UserWarning: when a layer other than a frozen one was skipped or did not reach unit variance.

    Raises:
        ValueError: when the model is not built, when the batch holds fewer than two examples or numbers that are not
            finite, or when an argument is out of range. On any error all weights are restored.
    """
    check_seed("lsuv", seed)
    check_built("lsuv", model)
    check_batch("lsuv", batch)
    if not is_number(tolerance) or not is_whole(max_steps) or tolerance <= 0 or max_steps < 1:
        raise ValueError(
            f"lsuv expects tolerance > 0 and max_steps >= 1. Received tolerance={tolerance}, max_steps={max_steps}. "
            "Leave them out: the defaults suit nearly all networks."
        )
    before = model.get_weights()
    scaler = _Scaler(tolerance, max_steps, orthonormal, seed)
    layers = layers_of(model)
    cells = {id(part) for layer in layers if isinstance(layer, keras.layers.RNN) for part in layers_of(layer)}
    try:
        scaled = [(layer, scaler.wrapper(layer)) for layer in layers if id(layer) not in cells]
        forward_as_in_training(model, batch, scaled)
    except BaseException:
        model.set_weights(before)
        raise
    skipped = [
        f"{scaling.layer} ({scaling.note})" for scaling in scaler.scalings if scaling.note in WORTH_A_WARNING
    ]
    if skipped:
        warnings.warn(
            f"lsuv could not bring every layer to unit variance: {', '.join(skipped)}. Initialize these layers in "
            "another way, or train with them as they are.",
            stacklevel=2,
        )
    return scaler.scalings


SMALLEST = 1e-30  # an output with a variance below this is constant up to rounding

FROZEN = "not trainable"
RECURRENT = "recurrent: one output is made by several kernels in a loop"
CONSTANT = "its output does not vary over the batch"
NOT_FINITE = "its output is not finite"
SHARED = "used more than once: scaled where it was met first"
NOT_REACHED = "its bias varies too much: max_steps was too small"
WORTH_A_WARNING = (RECURRENT, CONSTANT, NOT_FINITE, SHARED, NOT_REACHED)

MATRIX_LIKE = (
    keras.layers.Dense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv2DTranspose,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
)


class _Scaler:
    """Scales each layer as the batch reaches it, and records what was done."""

    def __init__(self, tolerance, max_steps, orthonormal, seed):
        self.tolerance = tolerance
        self.max_steps = max_steps
        self.orthonormal = orthonormal
        self.seeds = keras.random.SeedGenerator(seed)
        self.scalings = []
        self.met = {}

    def wrapper(self, layer):
        def wrapped(call, *args, **kwargs):
            if isinstance(layer, keras.layers.RNN):
                self._leave(layer, RECURRENT)
                return call(*args, **kwargs)
            kernels = _kernels(layer)
            if not kernels:
                return call(*args, **kwargs)
            if not layer.trainable:
                self._leave(layer, FROZEN)
                return call(*args, **kwargs)
            if id(layer) in self.met:
                self._leave(layer, SHARED)
                return call(*args, **kwargs)
            return self._scale(layer, kernels, lambda: call(*args, **kwargs))

        return wrapped

    def _leave(self, layer, note):
        place = self.met.get(id(layer))
        if place is None:
            self.met[id(layer)] = len(self.scalings)
            self.scalings.append(LSUVLayer(layer_path(layer), math.nan, math.nan, 0, note))
        elif note == SHARED:
            first = self.scalings[place]
            self.scalings[place] = LSUVLayer(
                first.layer, first.variance_before, first.variance_after, first.steps, note
            )

    def _scale(self, layer, kernels, call):
        before = [keras.ops.convert_to_numpy(kernel) for kernel in kernels]
        with _linear(layer):
            variance = variance_before = _variance(call())
            if self.orthonormal and isinstance(layer, MATRIX_LIKE):
                for kernel in kernels:
                    kernel.assign(keras.initializers.Orthogonal(seed=self.seeds)(kernel.shape, "float32"))
                variance = _variance(call())
            steps = 0
            while (
                abs(variance - 1) >= self.tolerance
                and steps < self.max_steps
                and SMALLEST < variance < math.inf
            ):
                kernels[-1].assign(kernels[-1] / math.sqrt(variance))
                variance = _variance(call())
                steps += 1
        note = NOT_REACHED if abs(variance - 1) >= self.tolerance else ""
        if not SMALLEST < variance < math.inf:
            for kernel, value in zip(kernels, before, strict=True):
                kernel.assign(value)
            note = CONSTANT if variance <= SMALLEST else NOT_FINITE
            variance, steps = variance_before, 0
        self.met[id(layer)] = len(self.scalings)
        self.scalings.append(LSUVLayer(layer_path(layer), variance_before, variance, steps, note))
        return call()


def _kernels(layer):
    """The layer's own kernels; the last one is scaled (for a separable convolution, the pointwise kernel)."""
    return [
        variable
        for variable in own_trainable_variables(layer)
        if variable.name in ("kernel", "depthwise_kernel", "pointwise_kernel")
    ]


def _linear(layer):
    """Replace the layer's activation by the identity within the block, so that its output is the affine part."""
    if vars(layer).get("activation") is None:
        return contextlib.nullcontext()
    return wrapped([(layer, "activation", lambda activation: keras.activations.linear)])


def _variance(outputs):
    return float(keras.ops.convert_to_numpy(keras.ops.cast(outputs, "float32")).var(dtype="float64"))
