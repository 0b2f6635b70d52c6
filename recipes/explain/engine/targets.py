"""The targets of maps: a class, one of several outputs, a neuron, or any function of the outputs.

Every target becomes one differentiable score per image. Class scores are taken before the softmax or sigmoid,
where gradients do not vanish (the gradient through a saturated softmax is 1e-7 of the gradient at its logit).
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from recipes.common.validation import is_one_of
from recipes.explain.engine import layer_lookup, tracing
from recipes.explain.engine.class_targets import class_numbers, without_tf_keras_vis
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.logits import ending_of
from recipes.explain.engine.objectives import Class, Direction, Sum
from recipes.explain.engine.objectives import Unit as Unit
from recipes.explain.engine.unit_targets import parse_unit, pick, unit_score


@dataclasses.dataclass(frozen=True)
class Spec:
    """The part of a target on which a trace depends. Numbers that may change from call to call are passed as tensors.

    Args:
        kind: `"class"`, `"unit"`, `"sum"`, or `"function"`.
        output: Name or position of the model's output; None if it has only one.
        score: `"logits"` or `"probability"`.
        call: The unit's `LayerCall`.
        channels_first: Whether the unit's layer has channels first.
        channel: Whether one channel was chosen.
        position: Whether one position was chosen.
        vector: A direction in the space of the unit's channels, or None.
        power: Power of the cosine with this direction.
        terms: For a sum, `(weight, Spec, columns of the index)` of each term.
        combine: For a class, a function `combine(values (n, classes), class (n,)) -> scores (n,)` that replaces the
            class's own value; hashable, because it is part of the key of a trace.
    """

    kind: str
    output: object = None
    score: str = "logits"
    call: layer_lookup.LayerCall | None = None
    channels_first: bool = False
    channel: bool = False
    position: bool = False
    vector: tuple[float, ...] | None = None
    power: float = 0.0
    terms: tuple[tuple[float, "Spec", int], ...] = ()
    combine: Callable[[Any, Any], Any] | None = None


@dataclasses.dataclass(frozen=True)
class Target:
    """A parsed target.

    Args:
        spec: The `Spec`, on which traces depend.
        index: int32 `(n, k)`, one row per image: the class (-1 is the predicted class), or a unit's channel and
            position; for a sum, the rows of its terms side by side.
        function: The user's callable, or None.
    """

    spec: Spec
    index: np.ndarray
    function: object = None


@dataclasses.dataclass(frozen=True)
class Head:
    """The kind of an output (see `logits.Ending`), its number of values, and whether one value means two classes."""

    kind: str
    width: int | None
    binary: bool = False


def parse(
    target: Any, model: keras.Model, count: int, *, score: str = "logits", method: str = "explain"
) -> Any:
    """Turn the user's argument `target=` into a `Target` for `count` images.

    Raises:
        ValueError: when the length is wrong, rows are not one-hot, or the score is unknown.
        TypeError: when the target is of an unknown kind.
    """
    if not is_one_of(score, ("logits", "probability")):
        raise UsageError(
            f"{method} expects score to be 'logits' or 'probability'. Received score={score!r}. "
            "'logits' explains the value before the softmax, 'probability' the model's output as it is."
        )
    output = None
    if isinstance(target, dict):
        if len(target) != 1:
            raise UsageError(
                f"{method} expects a target for one output. Received targets for {sorted(map(str, target))}. "
                "Call it once per output, or pass one callable of all outputs."
            )
        (output, target), *_ = target.items()
    if isinstance(target, (Unit, Direction)):
        return _of_unit(target, model, count, method)
    if isinstance(target, (Sum, Class)):
        return _parse_sum(1.0 * target, model, count, score, method)
    target = without_tf_keras_vis(target)
    if callable(target) and not isinstance(target, type):
        return Target(Spec("function", output, score), np.zeros((count, 0), "int32"), target)
    return Target(Spec("class", output, score), class_numbers(target, count, method)[:, None])


def scores(model: keras.Model, inputs: Any, spec: Any, arguments: Sequence[Any], seen: Any = None) -> Any:
    """The differentiable score of each image; call it under a tape, inside a trace or eagerly.

    Layers above a unit are not computed. To reach layers below the score, run this inside `tracing.recording` or
    `tracing.tapped`.

    Args:
        model: A built `keras.Model`.
        inputs: The structure of tensors that the model takes, batch first.
        spec: A `Spec`.
        arguments: List of tensors, one row per image: `[index]` for a class or unit. For a function, one cotangent per
            output; the score is then the sum of outputs times cotangents, which has the gradient of the function.
        seen: A list to which the model's outputs are added, flat; or None.

    Returns:
        `(scores, resolved)`: `(n,)` float32, and the index with predicted classes filled in.
    """
    if spec.kind == "unit":
        _, (activation,) = tracing.capture(model, inputs, [spec.call], stop=True)
        return unit_score(model, activation, arguments[0], spec), arguments[0]
    if spec.kind == "sum":
        return _sum_of_scores(model, inputs, spec, arguments[0], seen), arguments[0]
    outputs = tracing.forward(model, inputs)
    if seen is not None:
        seen += keras.tree.flatten(outputs)
    if spec.kind == "function":
        values = flat_outputs(model, outputs, spec)
        total = sum(
            tf.reduce_sum(value * weights, tuple(range(1, value.shape.rank)))
            for value, weights in zip(values, arguments, strict=True)
        )
        return total, tf.zeros((tf.shape(values[0])[0], 0), "int32")
    score, resolved = class_score(model, outputs, spec, arguments[0][:, 0])
    return score, resolved[:, None]


def class_score(model: keras.Model, outputs: Any, spec: Any, index: Any) -> Any:
    """`(score (n,), class (n,))` for class numbers; -1 is the predicted class, `follow(row)` the one of another row."""
    output = _select(model, outputs, spec.output)
    if output.shape.rank not in (1, 2):
        raise UsageError(
            f"explain expects a class target for an output of shape (batch, classes). The output has shape "
            f"{tuple(output.shape)}. Pass explain.mask_score(mask, class) for a region of a segmentation, "
            "explain.box_score(box, class) for a detection, or a callable that makes one score per image of it, such "
            "as target=lambda outputs: keras.ops.mean(outputs[..., 1], axis=(1, 2))."
        )
    values, other, head = _values(model, output, spec)
    if head.binary:
        # One sigmoid means two classes; the logit of the other class has the opposite sign.
        index = _resolve(index, tf.cast(values[:, 0] > other[:, 0], "int32"))
        values = tf.concat([other, values], 1)
    else:
        index = _resolve(index, tf.argmax(values, axis=1, output_type="int32"))
    # `check` refuses numbers out of range
    return (spec.combine or pick)(values, index), index


def follow(rows: Any) -> Any:
    """The code for "the class predicted for that row of the batch" in an index: int32 `(n, 1)` from row numbers."""
    return (-2 - np.asarray(rows, "int32"))[:, None]


def _resolve(index, predicted):
    """Class numbers, with the codes -1 (own row) and `follow` (another row) replaced by predicted classes."""
    row = tf.where(index < -1, -2 - index, tf.range(tf.shape(index)[0]))
    return tf.where(index < 0, tf.gather(predicted, row), index)


def flat_outputs(model: keras.Model, outputs: Any, spec: Any) -> Any:
    """The outputs that a function target gets, as a flat list: one if `spec.output` is given; logits if found."""
    flat = keras.tree.flatten(outputs) if spec.output is None else [_select(model, outputs, spec.output)]
    if spec.score == "probability":
        return [tf.cast(value, "float32") for value in flat]
    endings = [ending_of(value) for value in flat]
    for number, ending in enumerate(endings):
        # A function chooses its own score, so a warning is only needed if a softmax or sigmoid could not be undone.
        if ending.squashed:
            _say_what_is_explained(
                model, ending, number if spec.output is None and len(flat) > 1 else spec.output
            )
    return [tf.cast(ending.logits, "float32") for ending in endings]


def check(model: keras.Model, target: Any, method: str = "explain") -> None:
    """Raise for class or unit numbers that the model does not have. It must have run once, so that sizes are known."""
    record = tracing.record_of(model)
    if target.spec.kind == "sum":
        for _, spec, columns in _columns(target.spec):
            check(model, Target(spec, target.index[:, columns]), method)
        return
    if target.spec.kind == "unit":
        sizes = record.units.get(target.spec.call, ())
        for name, number, size in zip(("channel", *(["position"] * 9)), target.index[0], sizes, strict=False):
            if size is not None and not -1 <= number < size:
                raise UsageError(
                    f"{method} expects a Unit {name} in 0 ... {size - 1} for layer '{target.spec.call.path}'. "
                    f"Received {number}. Count from 0."
                )
    head = record.heads.get(target.spec.output)
    if target.spec.kind != "class" or head is None:
        return
    binary, classes = head.binary, 2 if head.binary else head.width
    if target.index.max(initial=-1) >= classes:
        raise UsageError(
            f"{method} expects a class in 0 ... {classes - 1}, because the model's output has "
            f"{'one sigmoid for two classes' if binary else f'{head.width} values'}. Received target "
            f"{target.index.max()}. Count classes from 0, or leave target out for the predicted class."
        )


def logits_of(output: Any) -> Any:
    """The values before the softmax or sigmoid of `output`, and the kind of the output (see `logits.ending_of`)."""
    ending = ending_of(output)
    return ending.logits, ending.kind


def cotangents(target: Any, outputs: Any) -> Any:
    """The user's function of the outputs and its gradient: `(scores (n,), [one tensor per output])`."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(outputs)
        value = call_function(target, outputs)
    gradients = tape.gradient(value, outputs, unconnected_gradients="zero")
    return value, gradients


def call_function(target: Any, outputs: Any) -> Any:
    """The result of the user's function of the outputs, float32 `(n,)`; raises if it is not one number per image."""
    value = target.function(outputs[0] if len(outputs) == 1 else outputs)
    if isinstance(value, (list, tuple)):
        value = tf.stack([tf.reduce_mean(tf.cast(one, "float32")) for one in value])
    value = tf.cast(tf.convert_to_tensor(value), "float32")
    if value.shape != (outputs[0].shape[0],):
        raise UsageError(
            f"explain expects a target function to return one score per image, shape ({outputs[0].shape[0]},). "
            f"It returned shape {tuple(value.shape)}. Average over the other axes or choose from them, such as in "
            "lambda outputs: outputs[:, 3]."
        )
    return value


def _values(model, output, spec):
    """`(values (n, classes), other, Head)`: the scores of the classes, and for a single sigmoid that of class 0."""
    ending = ending_of(output)
    column = output[:, None] if output.shape.rank == 1 else output
    head = Head(ending.kind, column.shape[-1], ending.two and column.shape[-1] == 1)
    tracing.record_of(model).heads[spec.output] = head
    if spec.score == "probability":
        values = tf.cast(column, "float32")
        return values, 1 - values, head
    _say_what_is_explained(model, ending, spec.output)
    found = [ending.logits, ending.other if head.binary else ending.logits]
    values, other = (tf.reshape(tf.cast(one, "float32"), tf.shape(column)) for one in found)
    values.set_shape(column.shape)
    return values, other, head


def _say_what_is_explained(model, ending, name):
    """Warn once if the score is not the value before a softmax."""
    which = f"model '{model.name}'" + ("" if name is None else f", output {name!r},")
    if ending.kind == "unknown":
        tracing.warn_once(
            model,
            ("logits", name),
            f"explain looked for the value before the softmax of {which} and did not find it, so the score is the "
            "model's output as it is; if that is a probability, gradients may vanish. End the model in "
            "a Dense or Softmax layer, or pass score='probability' to turn this warning off.",
        )
    elif ending.kind == "mean":
        tracing.warn_once(
            model,
            ("mean", name),
            f"explain looked for the value before the softmax of {which} and found several, whose probabilities are "
            "averaged, added or multiplied. The score is the logarithm of the result. Pass score='probability' for "
            "the probability itself.",
        )


def _select(model, outputs, key):
    flat = keras.tree.flatten(outputs)
    if key is None:
        if len(flat) == 1:
            return flat[0]
    elif isinstance(key, int) and not isinstance(key, bool):
        if -len(flat) <= key < len(flat):
            return flat[key]
    elif isinstance(outputs, dict) and key in outputs:
        return outputs[key]
    else:
        names = list(getattr(model, "output_names", None) or [])
        if names.count(key) == 1:
            return flat[names.index(key)]
    names = list(outputs) if isinstance(outputs, dict) else getattr(model, "output_names", None)
    names = list(names or range(len(flat)))
    raise UsageError(
        f"explain expects a target that names one of the model's {len(flat)} outputs. Received output {key!r}. "
        f"Write target={{{names[0]!r}: class}}; the outputs are {names}."
    )


def _of_unit(unit, model, count, method):
    fields, numbers = parse_unit(unit, model, method)
    return Target(Spec("unit", **fields), np.tile(np.array(numbers, "int32"), (count, 1)))


def _parse_sum(target, model, count, score, method):
    """One row of numbers for all terms, side by side."""
    terms, rows = [], []
    for weight, term in target.terms:
        if isinstance(term, Class):
            number = term.number if term.output is None else {term.output: term.number}
            one = parse(number, model, count, score=score, method=method)
            if one.index.min(initial=0) < 0:
                raise UsageError(
                    f"{method} expects Class to have a number from 0. Received {term}. A sum has no predicted class."
                )
        else:
            one = _of_unit(term, model, count, method)
        terms.append((weight, one.spec, one.index.shape[1]))
        rows.append(one.index)
    return Target(Spec("sum", score=score, terms=tuple(terms)), np.concatenate(rows, axis=1))


def _columns(spec):
    """`(weight, Spec, slice of the index's columns)` of each term of a sum."""
    start = 0
    for weight, term, width in spec.terms:
        yield weight, term, slice(start, start + width)
        start += width


def _sum_of_scores(model, inputs, spec, index, seen):
    """The weighted sum of the terms' scores; layers above the last unit are computed only if a term is a class."""
    calls = list(dict.fromkeys(term.call for _, term, _ in spec.terms if term.call is not None))
    classes = any(term.kind == "class" for _, term, _ in spec.terms)
    outputs, activations = tracing.capture(model, inputs, calls, stop=not classes)
    if seen is not None and outputs is not None:
        seen += keras.tree.flatten(outputs)
    total = 0.0
    for weight, term, columns in _columns(spec):
        numbers = index[:, columns]
        if term.kind == "class":
            score, _ = class_score(model, outputs, term, numbers[:, 0])
        else:
            score = unit_score(model, activations[calls.index(term.call)], numbers, term)
        total += weight * score
    return total
