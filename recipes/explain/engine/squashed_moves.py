"""Rules for operations that move squashed values: reshapes, slices, splits, concatenations."""

import dataclasses

import numpy as np
import tensorflow as tf

from recipes.explain.engine import dataflow
from recipes.explain.engine.output_graph import constant_of
from recipes.explain.engine.squashed import Squashed, ValueOf, sigmoid_of


def through_moved(made: dataflow.Made, value_of: ValueOf) -> Squashed | None:
    """An operation that moves values, repeated on the logits."""
    value = value_of(made.inputs[0])
    if value is None:
        return None
    again = _again(made)
    logits, log, other = value.logits, value.log, value.other
    if value.kind == "softmax" and logits is not None and _cuts_classes(made):
        # One of several probabilities is treated as a sigmoid of its log-odds.
        odds = again(log()) - again(_log_of_rest(logits))
        return sigmoid_of(odds)
    return dataclasses.replace(
        value,
        logits=None if logits is None else again(logits),
        log=log and (lambda: again(log())),
        other=other and (lambda: again(other())),
    )


def _cuts_classes(made):
    """Whether a slice of an output leaves a single class of several."""
    before, after = made.inputs[0].shape, made.output.shape
    if (
        made.type not in ("StridedSlice", "GatherV2", "Unpack", "Split", "Slice", "SplitV")
        or before.rank is None
    ):
        return False
    classes = before[-1]
    if classes in (None, 1) or after.rank is None or (after.rank == before.rank and after[-1] == classes):
        return False
    return after.rank < before.rank and (after.rank == 0 or after[-1] != classes) or after[-1] == 1


def _log_of_rest(logits):
    """The logarithm of one minus each probability of a softmax, exact even when this difference is almost 0."""
    log = tf.nn.log_softmax(logits)
    largest = tf.one_hot(tf.argmax(logits, -1), tf.shape(logits)[-1], True, False, dtype="bool")
    without = tf.where(largest, tf.fill(tf.shape(logits), -np.inf), logits)
    rest = tf.reduce_logsumexp(without, -1, keepdims=True) - tf.reduce_logsumexp(logits, -1, keepdims=True)
    # A probability that is not the largest is at most one half.
    safe = tf.where(largest, tf.fill(tf.shape(log), -1.0), log)
    return tf.where(largest, rest, tf.math.log(-tf.math.expm1(safe)))


def _again(made):
    """The same operation as a function of its first input."""
    rest = made.inputs[1:]
    attribute = made.attribute

    def strided_slice(x):
        names = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
        masks = {name: attribute(name) for name in names}
        return tf.raw_ops.StridedSlice(input=x, begin=rest[0], end=rest[1], strides=rest[2], **masks)

    def squeeze(x):
        return tf.squeeze(x, list(attribute("squeeze_dims") or []) or None)

    return {
        "Reshape": lambda x: tf.reshape(x, rest[0]),
        "ExpandDims": lambda x: tf.expand_dims(x, rest[0]),
        "Squeeze": squeeze,
        "Transpose": lambda x: tf.transpose(x, rest[0]),
        "StridedSlice": strided_slice,
        "Slice": lambda x: tf.slice(x, *rest),
        "GatherV2": lambda x: tf.gather(
            x, rest[0], axis=int(constant_of(rest[1])), batch_dims=attribute("batch_dims")
        ),
        "Unpack": lambda x: tf.unstack(x, made.outputs, attribute("axis"))[made.place],
        "Tile": lambda x: tf.tile(x, rest[0]),
        "BroadcastTo": lambda x: tf.broadcast_to(x, rest[0]),
    }[made.type]


def through_split(made: dataflow.Made, value_of: ValueOf) -> Squashed | None:
    """One piece of a split along an axis."""
    axis, whole = made.inputs[0], made.inputs[1]
    turned = dataclasses.replace(made, type="Unpack", inputs=(whole,))
    value = value_of(whole)
    if value is None or value.logits is None or value.kind not in ("softmax", "sigmoid"):
        return None
    axis = int(constant_of(axis))
    logits = tf.split(value.logits, made.outputs, axis)[made.place]
    if value.kind == "softmax" and _cuts_classes(turned):
        return sigmoid_of(tf.split(value.log() - _log_of_rest(value.logits), made.outputs, axis)[made.place])
    return sigmoid_of(logits) if value.kind == "sigmoid" else Squashed("softmax", logits)


def through_joined(made: dataflow.Made, value_of: ValueOf) -> Squashed | None:
    """Several outputs that are concatenated or stacked."""
    parts = made.inputs if made.type == "Pack" else made.inputs[:-1]
    values = [value_of(part) for part in parts]
    if any(value is None for value in values):
        return None
    axis = made.attribute("axis") if made.type == "Pack" else int(constant_of(made.inputs[-1]))
    join = (
        (lambda parts: tf.stack(parts, axis))
        if made.type == "Pack"
        else (lambda parts: tf.concat(parts, axis))
    )

    def every(get):
        found = [get(value) for value in values]
        return None if any(one is None for one in found) else found

    logits, logs, others = (every(get) for get in (lambda v: v.logits, lambda v: v.log, lambda v: v.other))
    kinds = {value.kind for value in values}
    beside = (
        made.type == "ConcatV2"
        and made.output.shape.rank
        and axis in (-1, made.output.shape.rank - 1)
        and len(values) > 1
    )
    if beside and kinds == {"sigmoid"} and all(part.shape[-1] == 1 for part in parts):
        kinds = {"softmax"}  # one column for each class, such as [1 - p, p]
    if beside and len(kinds) > 1 and logs and kinds <= {"softmax", "sigmoid"}:
        return Squashed("softmax", None, lambda: join([log() for log in logs]))  # a tree of classes
    if len(kinds) > 1 or (kinds == {"sigmoid"} and others is None):
        return None
    return Squashed(
        kinds.pop(),
        None if logits is None else join(logits),
        logs and (lambda: join([log() for log in logs])),
        others and (lambda: join([other() for other in others])),
    )
