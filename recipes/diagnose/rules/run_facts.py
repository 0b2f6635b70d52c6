"""The facts about a model and its data that the rules judge, as plain values."""

import math

import keras
import numpy as np

from recipes.common.optimizers import innermost, is_scheduled
from recipes.common.traversal import named_operations, producer_of
from recipes.diagnose.checks.activation_statistics import measure
from recipes.diagnose.checks.model_copy import usual_rate
from recipes.diagnose.checks.output_task import task_of
from recipes.diagnose.checks.sample import MOST_BYTES, read_sample

_NEIGHBORS = 1000


def describe(model, train=None, validation=None, *, seconds=2.0):
    """Collect what the rules need to know, in values that JSON can hold.

    Args:
        model: A compiled, built `keras.Model`. Left as it was.
        train: Training data, a `tf.data.Dataset`, arrays or a `recipes.diagnose.sample.Sample`; None leaves it out.
        validation: The same for validation data.
        seconds: Time for reading each of them.

    Returns:
        dict with "task", "optimizer", "layers" and "output_layers"; with `train` also "data" and "statistics" (of one
        batch, as `activation_statistics` measures them).
    """
    task = task_of(model)
    facts = {
        "task": vars(task),
        "optimizer": describe_optimizer(model.optimizer),
        "layers": describe_layers(model),
        "output_layers": _output_chain(model),
    }
    if train is None:
        return facts
    options = {"batch_size": 64, "batches": 64, "seconds": seconds, "most_bytes": MOST_BYTES}
    sample = read_sample(train, model, **options)
    facts["data"] = {"train": describe_data(sample, task)}
    if facts["data"]["train"]["label_counts_match"]:
        facts["statistics"] = [vars(layer) for layer in measure(model, sample.batches[0])[0]]
    if validation is not None:
        held_out = read_sample(validation, model, name="validation", **options)
        facts["data"] |= {"validation": describe_data(held_out, task), "overlap": overlap(sample, held_out)}
    return facts


def describe_layers(model):
    """Facts about every layer with weights or a rate of its own, in forward order as far as it is known."""
    return [_describe_layer(name, layer) for name, layer in named_operations(model) if _counts(layer)]


def describe_optimizer(optimizer):
    """Name, rate, clipping and decay of an optimizer."""
    inner = innermost(optimizer)
    return {
        "name": type(inner).__name__,
        "rate": usual_rate(optimizer),
        "scheduled": is_scheduled(optimizer),
        "weight_decay": float(inner.weight_decay or 0),
        **{name: getattr(inner, name) for name in ("clipnorm", "global_clipnorm", "clipvalue")},
    }


def describe_data(sample, task):
    """Facts about one `Sample`."""
    kept = [keras.tree.flatten(batch[0])[0] for batch in sample.batches]
    labels, hashes = sample.labels_read, sample.hashes_read
    numbers = kept if np.issubdtype(kept[0].dtype, np.number) or kept[0].dtype == bool else None
    facts = {
        "examples": len(hashes),
        "whole": sample.whole,
        "ordered": sample.ordered,
        "batch": sample.batch,
        "labels_shape": list(labels.shape[1:]),
        "labels_dtype": str(labels.dtype),
        "label_counts_match": all(
            len(keras.tree.flatten(y)[0]) == len(keras.tree.flatten(x)[0]) for x, y, _ in sample.batches
        ),
    }
    if numbers is not None:
        facts |= {**_number_facts(numbers), "different_examples": len(np.unique(hashes))}
    labels = labels.reshape(len(labels), -1) if labels.ndim > 1 else labels
    numeric = np.issubdtype(labels.dtype, np.number) or labels.dtype == bool
    facts["labels_finite"] = bool(np.isfinite(labels).all()) if numeric else True
    if task.classification and numeric and facts["label_counts_match"]:
        facts |= _class_facts(labels, numbers, task)
    elif numeric and facts["labels_finite"]:
        targets = labels.astype("float64")
        facts |= {
            "target_mean": float(targets.mean()),
            "target_std": float(targets.std(axis=0).mean()),
            "target_min": float(targets.min()),
            "target_max": float(targets.max()),
        }
    return facts


def overlap(train, validation):
    """How many of the validation examples are, byte for byte, among the training examples."""
    seen, hashes = set(train.hashes_read.tolist()), validation.hashes_read.tolist()
    return {"examples": len(hashes), "same": sum(value in seen for value in hashes), "whole": train.whole}


def _number_facts(batches):
    """Facts about input numbers, batch by batch: all of them as float32 may be four times as large as they are."""
    total = squares = 0.0
    not_finite = constant = 0
    low, high = np.inf, -np.inf
    for inputs in batches:
        rows = _as_rows(inputs)
        finite = np.isfinite(rows)
        good = np.where(finite, rows, 0)
        not_finite += int((~finite.all(axis=1)).sum())
        constant += int((np.ptp(good, axis=1) == 0).sum()) if rows.shape[1] > 1 else 0
        low, high = min(low, float(good.min())), max(high, float(good.max()))
        total += good.sum(dtype="float64")
        squares += np.square(good, dtype="float64").sum()
    count = sum(inputs.size for inputs in batches)
    mean = total / count
    return {
        "finite": not_finite == 0,
        "not_finite_examples": not_finite,
        "mean": float(mean),
        "std": float(np.sqrt(max(squares / count - mean**2, 0))),
        "min": low,
        "max": high,
        "constant_examples": constant,
    }


def _class_facts(labels, numbers, task):
    numbered = _class_numbers(labels, task)
    if numbered is None:
        return {}
    values, counts = np.unique(numbered, return_counts=True)
    shares = counts / counts.sum()
    facts = {
        "label_min": int(values.min()),
        "label_max": int(values.max()),
        "class_counts": {str(int(value)): int(count) for value, count in zip(values, counts, strict=True)},
        # Of neighbors in the order of the data: how often both have one label, and how often by chance.
        "same_next": float(np.mean(numbered[1:] == numbered[:-1])) if len(numbered) > 1 else 0.0,
        "same_by_chance": float(np.sum(np.square(shares))),
    }
    if numbers is not None and len(values) > 1:
        some = _first_rows(numbers, _NEIGHBORS)
        facts |= _neighbor_agreement(some, numbered[: len(some)])
    return facts


def _first_rows(batches, count):
    """The first examples of all batches as float32 rows, a copy: so many, or what is no larger than a sample may be."""
    count, some = min(count, max(20, MOST_BYTES // (4 * max(1, batches[0][0].size)))), []
    for inputs in batches:
        some.append(_as_rows(inputs[: count - sum(map(len, some))]))
    return np.concatenate(some)


def _as_rows(inputs):
    return inputs.reshape(len(inputs), math.prod(inputs.shape[1:])).astype("float32", copy=False)


def _class_numbers(labels, task):
    if labels.ndim == 1 or labels.shape[1] == 1:
        flat = labels.reshape(-1)
        whole = np.issubdtype(flat.dtype, np.integer) or flat.dtype == bool or np.all(flat == np.round(flat))
        return flat.astype("int64") if whole else None
    return labels.argmax(-1) if task.kind == "categorical" else None


def _neighbor_agreement(numbers, labels):
    """How often the nearest other example has the same label, against how often a random one has.

    Works in `numbers`, float32 rows, and leaves them changed: they may be large.
    """
    good = np.isfinite(numbers).all(axis=1)
    if not good.all():
        numbers, labels = numbers[good], labels[good]
    if len(numbers) < 20:
        return {}
    numbers -= numbers.mean(axis=0)
    scale = np.sqrt(np.einsum("ij,ij->j", numbers, numbers) / len(numbers))
    numbers /= np.where(scale > 1e-6 * max(scale.max(), 1e-30), scale, 1)
    squares = np.einsum("ij,ij->i", numbers, numbers)
    distances = squares[:, None] + squares[None] - 2 * (numbers @ numbers.T)
    np.fill_diagonal(distances, np.inf)
    agreement = np.mean(labels[distances.argmin(axis=1)] == labels)
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    chance = float(np.sum(np.square(shares)))
    error = np.sqrt(max(chance * (1 - chance), 1e-12) / len(labels))
    return {
        "neighbor_agreement": float(agreement),
        "neighbor_chance": chance,
        "neighbor_error": float(error),
    }


def idle_averages(model):
    """Names of normalization layers whose averages are still exactly their starting values, 0 and 1."""
    names = []
    for name, layer in named_operations(model):
        if hasattr(layer, "moving_mean") and hasattr(layer, "moving_variance"):
            mean = keras.ops.convert_to_numpy(layer.moving_mean)
            if not mean.any() and (keras.ops.convert_to_numpy(layer.moving_variance) == 1).all():
                names.append(name)
    return names


def _counts(layer):
    own = getattr(layer, "_trainable_variables", None) or getattr(layer, "_non_trainable_variables", None)
    return bool(own) or isinstance(getattr(layer, "rate", None), (int, float))


def _describe_layer(name, layer):
    variables = getattr(layer, "_trainable_variables", ())
    penalties = [v.regularizer(v) for v in variables if getattr(v, "regularizer", None) is not None]
    facts = {
        "name": name,
        "layer_class": type(layer).__name__,
        "trainable": bool(getattr(layer, "trainable", True)),
        "rate": float(layer.rate) if isinstance(getattr(layer, "rate", None), (int, float)) else None,
        "momentum": None,
        "penalty": float(sum(float(penalty) for penalty in penalties)),
        "kernel": None,
    }
    if hasattr(layer, "moving_mean") and hasattr(layer, "momentum"):
        facts["momentum"] = float(layer.momentum)
    kernel = getattr(layer, "kernel", None)
    if kernel is None or len(kernel.shape) < 2:
        return facts
    values = np.asarray(keras.ops.convert_to_numpy(kernel), "float32")
    flat = values.reshape(-1, values.shape[-1])
    facts["kernel"] = {
        "zero": bool(not values.any()),
        "symmetric": bool(flat.shape[1] > 1 and np.all(flat == flat[:, :1])),
        "std": float(values.std()),
        "fan_in": int(flat.shape[0]),
        "units": int(flat.shape[1]),
        "size": int(values.size),
        "fresh": _fresh(layer, values),
    }
    return facts


def _fresh(layer, values):
    """Whether the kernel is still what its own initializer gave it, bit for bit.

    Keras' initializers draw their seed when they are made, so the same one gives the same numbers again.
    """
    initializer = getattr(layer, "kernel_initializer", None)
    if initializer is None or getattr(layer, "_kernel", layer.kernel) is not layer.kernel:
        return False
    try:
        again = initializer(values.shape, dtype=layer.variable_dtype)
    except (TypeError, ValueError, NotImplementedError):
        return False
    return bool(np.array_equal(np.asarray(keras.ops.convert_to_numpy(again), "float32"), values))


def _output_chain(model):
    """Classes and activations of the operations that end the graph, last first."""
    outputs = getattr(model, "outputs", None)
    if not outputs or len(outputs) != 1:
        return []
    chain, tensor = [], outputs[0]
    for _ in range(8):
        operation = producer_of(tensor)
        if operation is None:
            break
        while isinstance(operation, keras.Model) and getattr(operation, "outputs", None):
            operation = producer_of(operation.outputs[0])
        activation = getattr(operation, "activation", None)
        if isinstance(operation, keras.layers.Softmax):
            name = "softmax"
        elif isinstance(operation, keras.layers.ReLU):
            name = "relu"
        elif callable(activation):
            name = getattr(activation, "__name__", "custom")
        else:
            kind = type(operation).__name__.lower()
            name = kind if kind in ("softmax", "relu", "sigmoid", "tanh") else "linear"
        chain.append({"name": operation.name, "layer_class": type(operation).__name__, "activation": name})
        inputs = operation.input if hasattr(operation, "input") else None
        if inputs is None or isinstance(inputs, (list, tuple, dict)):
            break
        tensor = inputs
    return chain
