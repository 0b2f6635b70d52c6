"""Units and directions as targets: how they are parsed, and their score from a layer's activations."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from recipes.common.validation import as_numbers, as_row, is_whole
from recipes.explain.engine import layer_lookup, tracing
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.objectives import Direction, Unit


def parse_unit(unit: Unit | Direction, model: keras.Model, method: str) -> tuple[dict[str, Any], list[int]]:
    """`(fields of a Spec, numbers)`: the part on which a trace depends, and the channel (-1: none) and position.

    Raises:
        ValueError: when there is no such layer, numbers are below 0, or the vector of a direction is zero.
    """
    call = layer_lookup.find(model, unit.layer, call_index=unit.call_index, method=method)
    given = () if unit.position is None else unit.position
    position = (given,) if is_whole(given) else as_row(given)
    channel = getattr(unit, "channel", None)
    chosen = [number for number in (channel, *(position or ())) if number is not None]
    if position is None or not all(is_whole(number) and 0 <= number < 2**31 for number in chosen):
        raise UsageError(
            f"{method} expects the channel and the position of a Unit to be whole numbers from 0. Received "
            f"channel={channel!r}, position={unit.position!r}. Leave out channel or position to average over it."
        )
    numbers = [-1 if channel is None else int(channel), *map(int, position)]
    channels_first = layer_lookup.data_format(model, call.operation) == "channels_first"
    fields = {
        "call": call,
        "channels_first": channels_first,
        "channel": channel is not None,
        "position": unit.position is not None,
    }
    return (fields | _direction(unit, method) if isinstance(unit, Direction) else fields), numbers


def _direction(target, method):
    """The vector and the power of a `Direction`, checked."""
    vector = as_numbers(method, "the vector of a Direction", target.vector, "float32")
    if vector.ndim != 1 or not np.isfinite(vector).all() or not vector.any() or not target.cosine_power >= 0:
        raise UsageError(
            f"{method} expects a Direction of one finite number per channel, not all 0, and cosine_power >= 0. "
            f"Received a vector of shape {vector.shape} and cosine_power={target.cosine_power!r}. Average activations "
            "(n, height, width, channels) over their first three axes."
        )
    return {"vector": tuple(map(float, vector)), "power": float(target.cosine_power)}


def unit_score(model: keras.Model, activation: tf.Tensor, numbers: tf.Tensor, spec: Any) -> tf.Tensor:
    """The score `(n,)` of a unit from activations `(n, *spatial, channels)`: the mean over what was not chosen."""
    activation = tf.cast(activation, "float32")
    if spec.channels_first and activation.shape.rank > 2:
        activation = tf.transpose(activation, [0, *range(2, activation.shape.rank), 1])
    spatial = activation.shape[1:-1]
    # `check` raises for numbers out of range by these sizes; until then the numbers are clipped.
    tracing.record_of(model).units[spec.call] = (activation.shape[-1], *spatial)
    if spec.position:
        if numbers.shape[-1] - 1 != spatial.rank:
            raise UsageError(
                f"explain expects a Unit position of {spatial.rank} numbers for layer '{spec.call.path}', whose map "
                f"is {tuple(spatial)}. Received {numbers.shape[-1] - 1}. Leave position out to average over all."
            )
        for axis in range(spatial.rank):
            activation = pick(activation, numbers[:, axis + 1])
    if spec.vector is not None:
        return _along(activation, spec)
    if not spec.position:
        activation = tf.reduce_mean(activation, tuple(range(1, activation.shape.rank - 1)))
    return pick(activation, numbers[:, 0]) if spec.channel else tf.reduce_mean(activation, -1)


def _along(activation, spec):
    """The score of activations `(n, ..., channels)` along a direction, averaged over positions (see `Direction`)."""
    if activation.shape[-1] != len(spec.vector):
        raise UsageError(
            f"explain expects a Direction of {activation.shape[-1]} numbers, as many as layer '{spec.call.path}' has "
            f"channels. Received {len(spec.vector)}. Take the vector from activations of that layer."
        )
    vector = tf.constant(spec.vector)
    along = tf.reduce_sum(activation * vector, -1)
    if spec.power:
        lengths = tf.norm(vector) * tf.sqrt(tf.reduce_sum(tf.square(activation), -1) + 1e-12)
        along *= tf.maximum(along / lengths, 0.1) ** spec.power
    return tf.reduce_mean(along, tuple(range(1, along.shape.rank))) if along.shape.rank > 1 else along


def pick(values: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
    """`values[i, numbers[i]]` for each image i."""
    return tf.gather(values, tf.clip_by_value(numbers, 0, tf.shape(values)[1] - 1), axis=1, batch_dims=1)
