"""The loss around trained weights, along random directions."""

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from recipes.common.traversal import walk
from recipes.common.types import FloatArray, Images, Labels, Verbose
from recipes.explain.engine import tracing
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.options import Compile, check


@dataclasses.dataclass(frozen=True)
class Landscape:
    """The loss on a line or a grid around the trained weights.

    Args:
        offsets: float32 `(points,)`: distance along each direction; 1 moves every filter by its own length.
        loss: float32 `(points,)`, or `(points, points)` with the first direction down and the second across.
        accuracy: The accuracy in the same shape, in [0, 1], or None if labels are not classes.
    """

    offsets: FloatArray
    loss: FloatArray
    accuracy: FloatArray | Any


def loss_landscape(
    model: keras.Model,
    x: "Images | tf.data.Dataset",
    y: "Labels | None" = None,
    *,
    dimensions: Literal[1, 2] = 1,
    points: int = 21,
    span: float = 1.0,
    batch_norm: Literal["fixed", "batch"] = "fixed",
    seed: int = 0,
    batch_size: int = 256,
    compile: Compile = "auto",
    verbose: Verbose = "auto",
) -> Landscape:
    """Measure the compiled loss along one or two random, filter-normalized directions around the trained weights.

    Each filter of a direction has the length of the model's filter.
    Source: Li et al. 2018, "Visualizing the Loss Landscape of Neural Nets", section 4, https://arxiv.org/abs/1712.09913.
    Biases and the parameters of normalizations are not moved, as in the paper's plots. The weights are replaced only
    inside the computation, so the model itself is never changed.

    Args:
        model: A compiled and built `keras.Model` with one input and one output.
        x: Inputs `(n, ...)`, or a `tf.data.Dataset` of batches `(x, y)`.
        y: Labels `(n, ...)`, as the compiled loss takes them.
        dimensions: 1 or 2.
        points: Number of points along each direction, odd and >= 3, so that the trained weights are among them.
        span: Offsets go from -span to span, > 0.
        batch_norm: "fixed" keeps the moving statistics, as in the paper. "batch" normalizes by the statistics of each
            batch, because moved weights change the statistics.
        seed: Integer that fixes the directions.
        batch_size: Number of examples at once, for arrays.
        compile, verbose: As in `AttributionOptions`.

    Returns:
        A `Landscape`; the loss at its center is that of `model.evaluate`.

    Raises:
        ValueError: when the model is not built and compiled, or an argument is outside its range.
    """
    for name, value in (("compile", compile), ("verbose", verbose)):
        check("loss_landscape", name, value)
    _check(model, dimensions, points, span, batch_norm)
    directions = [filter_normalized_direction(model, [seed, number]) for number in range(dimensions)]
    moving = [place for place, values in enumerate(directions[0]) if values.any()]
    flat = [tf.constant(direction[place]) for direction in directions for place in moving]
    offsets = offsets_of(points, span)
    grid = np.stack(np.meshgrid(*[offsets] * dimensions, indexing="ij"), -1).reshape(-1, dimensions)
    totals, right, count, classes = np.zeros(len(grid)), np.zeros(len(grid)), 0, True
    shown = len(grid) > 100 if verbose == "auto" else verbose
    bar = keras.utils.Progbar(None, unit_name="batch") if shown else None
    for inputs, labels in _batches(x, y, batch_size):
        size = len(inputs)
        tensors = [tf.convert_to_tensor(inputs), tf.convert_to_tensor(labels)]
        shapes = [(dimensions,), *[(None, *one.shape[1:]) for one in tensors], *[one.shape for one in flat]]
        for place, offset in enumerate(grid):
            loss, hits = tracing.evaluate(
                model,
                _loss_at,
                [offset, *tensors, *flat],
                compile=compile,
                shapes=shapes,
                moving=tuple(moving),
                batch_norm=batch_norm,
            )
            totals[place] += float(loss) * size
            right[place] += float(hits)
        classes = classes and float(hits) >= 0
        count += size
        if bar:
            bar.add(1)
    shape = (points,) * dimensions
    accuracy = (right / count).astype("float32").reshape(shape) if classes else None
    return Landscape(offsets, (totals / count).astype("float32").reshape(shape), accuracy)


def offsets_of(points: int, span: float) -> FloatArray:
    """Evenly from -span to span, with an exact 0 in the middle: float32 `(points,)`."""
    offsets = np.linspace(-span, span, points, dtype="float32")
    offsets[points // 2] = 0.0
    return offsets


def filter_normalized_direction(model: keras.Model, seed: Sequence[int]) -> list[FloatArray]:
    """A random direction in the space of the trainable weights: one float32 array per variable, zero for vectors.

    Each filter of the direction has the length of the model's filter.
    """
    generator, direction = np.random.default_rng(seed), []
    depthwise = set()
    for node in walk(model):
        if "Depthwise" in type(node.operation).__name__ or "Separable" in type(node.operation).__name__:
            depthwise.add(
                id(getattr(node.operation, "depthwise_kernel", getattr(node.operation, "kernel", None)))
            )
    for variable in model.trainable_variables:
        weights = np.asarray(variable, "float32")
        if weights.ndim < 2:
            direction.append(np.zeros_like(weights))
            continue
        values = generator.normal(size=weights.shape).astype("float32")
        direction.append(filter_normalized(values, weights, 2 if id(variable) in depthwise else 1))
    return direction


def filter_normalized(direction: FloatArray, weights: FloatArray, kept: int = 1) -> FloatArray:
    """Filter normalization, Li et al. 2018, section 4: `d_ij |theta_ij| / |d_ij|`.

    Args:
        direction, weights: A kernel's random direction and its weights, each `(..., outputs)`.
        kept: Number of last axes that number the filters: 1, or 2 for a depthwise kernel.
    """
    axes = tuple(range(weights.ndim - kept))
    lengths = [np.sqrt(np.square(one).sum(axes, keepdims=True)) for one in (weights, direction)]
    return direction * lengths[0] / np.maximum(lengths[1], np.finfo("float32").tiny)


def _loss_at(model, offset, inputs, labels, *directions, moving, batch_norm):
    """`(loss, number of correct predictions, or -1)` of one batch with moved weights."""
    variables = [model.trainable_variables[place] for place in moving]
    moved = []
    for place, variable in enumerate(variables):
        value = tf.convert_to_tensor(variable)
        for number in range(offset.shape[0]):
            change = offset[number] * directions[number * len(moving) + place]
            value += tf.cast(change, value.dtype)
        moved.append((variable, value))
    with keras.StatelessScope(state_mapping=moved), _normalizing_by_batch(model, batch_norm):
        outputs = model(inputs, training=False)
        loss = model.compute_loss(inputs, labels, outputs, training=False)
    hits = tf.constant(-1.0)
    if tf.is_tensor(outputs) and outputs.shape.rank == 2 and labels.shape.rank in (1, 2):
        hits = _hits(outputs, labels)
    return tf.cast(loss, "float32"), hits


def _hits(outputs, labels):
    if outputs.shape[-1] == 1:
        right = (outputs[:, 0] > 0.5) == (tf.reshape(tf.cast(labels, "float32"), [-1]) > 0.5)
    else:
        if labels.shape.rank == 2 and labels.shape[-1] == outputs.shape[-1]:
            labels = tf.argmax(labels, -1)
        if not labels.dtype.is_integer:
            return tf.constant(-1.0)
        right = tf.argmax(outputs, -1) == tf.cast(tf.reshape(labels, [-1]), "int64")
    return tf.reduce_sum(tf.cast(right, "float32"))


@contextlib.contextmanager
def _normalizing_by_batch(model, batch_norm):
    """Let batch normalizations use the statistics of the batch within the block, if `batch_norm` is "batch"."""

    def wrap(call):
        def stand_in(*args, **kwargs):
            return call(*args, **{**kwargs, "training": True})

        return stand_in

    found = [
        node.operation
        for node in walk(model)
        if isinstance(node.operation, keras.layers.BatchNormalization) and batch_norm == "batch"
    ]
    with tracing.intercepted(dict.fromkeys(found, wrap)):
        yield


def _check(model, dimensions, points, span, batch_norm):
    if not isinstance(model, keras.Model) or not model.built or not getattr(model, "compiled", False):
        raise UsageError(
            "loss_landscape expects a built and compiled keras.Model. Received "
            f"{getattr(model, 'name', type(model))}. Call model.compile(loss=...) first."
        )
    if dimensions not in (1, 2) or points < 3 or points % 2 == 0 or not 0 < span < np.inf:
        raise UsageError(
            f"loss_landscape expects dimensions 1 or 2, an odd number of points >= 3, and span > 0. Received "
            f"{dimensions}, {points}, {span}. Write for example dimensions=1, points=21, span=1."
        )
    if batch_norm not in ("fixed", "batch"):
        raise UsageError(
            f"loss_landscape expects batch_norm to be 'fixed' or 'batch'. Received {batch_norm!r}. "
            "Leave it out for 'fixed', as in the paper."
        )


def _batches(x, y, batch_size):
    if isinstance(x, tf.data.Dataset):
        for batch in x:
            yield batch[0].numpy(), batch[1].numpy()
        return
    if y is None or len(x) != len(y) or not len(x):
        raise UsageError(
            "loss_landscape expects as many labels as inputs, or a tf.data.Dataset of batches (x, y). Received "
            f"{len(x)} inputs and {None if y is None else len(y)} labels. Give one label per input."
        )
    x, y = np.asarray(x), np.asarray(y)
    for start, stop in tracing.chunks(len(x), batch_size):
        yield x[start:stop], y[start:stop]
