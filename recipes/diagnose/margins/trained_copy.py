"""Margins of examples over the training of copies of a model, with some labels that are known to be wrong."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from recipes.common.class_numbers import class_numbers
from recipes.common.datasets import as_batches, comes_in_new_order, fresh_copy
from recipes.common.models import output_layers, rebuild
from recipes.common.types import Data
from recipes.diagnose.margins.example_history import ExampleHistory
from recipes.diagnose.margins.probabilities import probabilities_of

_PERCENTILE = 99  # of the margins of labels that are known to be wrong, as in the paper


def history_of_copy(model: keras.Model, data: Data, epochs: int, batch_size: int) -> ExampleHistory:
    """Train two copies of a model, and score the examples after each epoch.

    In each copy, one of classes + 1 examples is assigned to an additional class that does not exist; the two copies use
    different examples for this. These are the threshold samples of Pleiss et al. 2020, "Identifying Mislabeled Data",
    section 3.2, and the 99th percentile of their margins is the threshold, 0 at most. A copy does not score its own
    threshold samples. A model whose last layer cannot be replaced is trained once, unchanged.

    Args:
        model: Compiled, with one output `(batch, classes)`.
        data: Arrays `(x, y)` or a `tf.data.Dataset` of such examples.
        epochs: Epochs of training for each copy, >= 2.
        batch_size: Examples per training step.

    Returns:
        `ExampleHistory` with its `threshold` set.

    Raises:
        ValueError: for another model, `epochs` below 2, labels that are not one class per example, inputs with NaN or
            infinity, or a data set that shuffles anew each time.
        TypeError: for data of another kind.
    """
    outputs = getattr(model, "outputs", None)
    if not model.compiled or not outputs or len(outputs) != 1 or len(outputs[0].shape) != 2 or epochs < 2:
        raise ValueError(
            "diagnose.label_issues expects a compiled model with one row of classes for an output, and epochs >= 2. "
            f"Received {model.name!r} and epochs={epochs}. Compile it with a cross-entropy."
        )
    x, y = _arrays(data, model)
    labels, classes = class_numbers(np.asarray(y)), max(2, outputs[0].shape[-1])
    if labels is None or not len(labels) or labels.min() < 0 or labels.max() >= classes:
        some = f" such as {np.ravel(y)[:3].tolist()}" if np.size(y) else ""
        raise ValueError(
            f"diagnose.label_issues expects one class in 0..{classes - 1} an example, as numbers or one-hot rows. "
            f"Received labels of shape {np.shape(y)}{some}. Number the classes from 0, as in "
            "np.unique(labels, return_inverse=True)[1]; labels of several classes and quantities cannot be judged."
        )
    broken = np.flatnonzero(~np.isfinite(x.reshape(len(x), -1)).all(1)) if x.dtype.kind == "f" else []
    if len(broken):
        raise ValueError(
            f"diagnose.label_issues expects finite inputs. Received NaN or infinity in {len(broken)} of {len(x)} "
            f"examples, the first at {int(broken[0])}: a copy that is trained on them turns to NaN. Leave them out: "
            "keep = numpy.isfinite(x).all(axis=tuple(range(1, x.ndim)))."
        )
    history = ExampleHistory(labels, classes)
    order = np.random.default_rng(0).permutation(len(labels))
    share = len(labels) // (classes + 1)
    planted = [order[:share], order[share : 2 * share]]
    margins = []
    for given_away in planted if share else [order[:0]]:
        copy = _with_one_class_more(model, classes)
        if copy is None:
            _train_as_it_is(model, history, x, y, epochs, batch_size)
            return history
        margins.append(_train(copy, history, x, given_away, epochs, batch_size))
    wrong = np.concatenate(margins)
    history.threshold = min(0.0, float(np.percentile(wrong, _PERCENTILE))) if len(wrong) else 0.0
    return history


def _arrays(data, model):
    if comes_in_new_order(data):
        raise ValueError(
            "diagnose.label_issues expects data in the same order at every reading, as its numbers are places in it. "
            "Received a data set that shuffles anew each time. Give it before shuffle(), or type "
            "shuffle(..., reshuffle_each_iteration=False)."
        )
    if isinstance(data, (tuple, list)) and len(data) in (2, 3):
        x, y = np.asarray(data[0]), np.asarray(data[1])
        if len(x) != len(y) or not len(x):
            raise ValueError(
                "diagnose.label_issues expects as many labels as inputs, one at least. Received "
                f"{len(x)} inputs and {len(y)} labels. Check that the arrays belong together."
            )
        return x, y
    data = fresh_copy(data) if isinstance(data, tf.data.Dataset) else data
    batches = as_batches(data, model, batch_size=256, caller="diagnose.label_issues")
    if not isinstance(batches.element_spec, tuple) or len(batches.element_spec) < 2:
        raise ValueError(
            "diagnose.label_issues expects examples with labels, (x, y) or a tf.data.Dataset of (image, label). "
            "Received inputs alone. Give the labels that are to be judged."
        )
    parts = [(images, labels) for images, labels, *_ in batches.as_numpy_iterator()]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _with_one_class_more(model, classes):
    """A compiled copy whose last layer gives logits of one class more; None where that layer is no Dense layer."""
    copy = rebuild(model)
    heads = output_layers(copy)
    if len(heads) != 1 or not isinstance(heads[0], keras.layers.Dense):
        return None
    try:
        before = heads[0].input
        logits = keras.layers.Dense(classes + 1, dtype="float32", name="one_class_more")(before)
        copy = keras.Model(copy.inputs, logits)
    except (AttributeError, ValueError):  # a head inside another model, or called more than once
        return None
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    copy.compile(optimizer=_same_optimizer(model), loss=loss)
    return copy


def _same_optimizer(model: keras.Model) -> Any:
    return type(model.optimizer).from_config(model.optimizer.get_config())


def _train(copy, history, x, given_away, epochs, batch_size) -> NDArray[np.float32]:
    """Add the copy's predictions after each epoch to `history`; return the mean margins of the threshold samples."""
    labels = history.labels.copy()
    labels[given_away] = history.classes
    kept = np.setdiff1d(np.arange(len(labels)), given_away)
    sums = np.zeros(len(given_away), np.float32)
    for _ in range(epochs):
        copy.fit(x, labels, batch_size=batch_size, epochs=1, verbose=0)
        logits = np.asarray(copy.predict(x, batch_size=256, verbose=0), np.float32)
        sums += logits[given_away, -1] - logits[given_away, :-1].max(1)
        exponents = np.exp(logits[kept] - logits[kept].max(1, keepdims=True))[:, :-1]
        history.add(kept, exponents / np.maximum(exponents.sum(1, keepdims=True), 1e-12))
    return sums / epochs


def _train_as_it_is(model, history, x, y, epochs, batch_size):
    copy = rebuild(model)
    copy.compile(optimizer=_same_optimizer(model), loss=model.loss)
    for _ in range(epochs):
        copy.fit(x, y, batch_size=batch_size, epochs=1, verbose=0)
        outputs = copy.predict(x, batch_size=256, verbose=0)
        history.add(np.arange(len(x)), probabilities_of(copy, outputs))
