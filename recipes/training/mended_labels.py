"""Training data without the examples that are to be left out, and with other labels where the given ones are wrong."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from recipes.common.datasets import (
    files_in_order,
    fresh_copy,
    identity_of,
    is_batched,
    reader_of,
    remember_reader,
)
from recipes.common.types import Data
from recipes.common.validation import is_whole


def numbers_to_drop(drop: Any) -> tuple[int, ...] | None:
    """What `drop=` names, as numbers in ascending order.

    Args:
        drop: A `diagnose.LabelIssues`, which stands for its mislabelled examples; numbers of examples; or None.

    Raises:
        ValueError: for anything else.
    """
    if drop is None:
        return None
    numbers = getattr(drop, "mislabelled", drop)
    if numbers is not drop and not len(numbers):
        _warn_of_none(drop, "drop", "nothing is left out", "drop=[3, 17] takes numbers")
    row = numbers.tolist() if isinstance(numbers, np.ndarray) else numbers
    if not isinstance(row, (list, tuple, set, frozenset, range)) or not all(
        is_whole(n) and n >= 0 for n in row
    ):
        raise ValueError(
            "recipes.train expects drop as what diagnose.label_issues returned, or the numbers of examples in train. "
            f"Received {_words(drop)}. Write drop=issues, or drop=[3, 17]."
        )
    return tuple(sorted({int(n) for n in row}))


def labels_to_set(relabel: Any) -> tuple[tuple[int, int], ...] | None:
    """What `relabel=` names, as `(number, class)` in ascending order.

    Args:
        relabel: A `diagnose.LabelIssues`, which stands for its suggestions; a mapping from number to class; or None.

    Raises:
        ValueError: for anything else.
    """
    if relabel is None:
        return None
    pairs = getattr(relabel, "suggestions", relabel)
    if pairs is not relabel and not pairs:
        _warn_of_none(relabel, "relabel", "no label is changed", "relabel={3: 1} takes numbers and classes")
    if isinstance(pairs, tuple):
        pairs = dict(pairs)
    if not isinstance(pairs, Mapping) or not all(
        is_whole(n) and n >= 0 for pair in pairs.items() for n in pair
    ):
        raise ValueError(
            "recipes.train expects relabel as what diagnose.label_issues returned, or a dict from the number of an "
            f"example in train to its class. Received {_words(relabel)}. Write relabel=issues, or "
            "relabel={3: 1}."
        )
    return tuple(sorted((int(number), int(label)) for number, label in pairs.items()))


def check_files(name: str, issues: Any, train: Any) -> None:
    """Refuse label issues whose numbers mean other photos in `train`: those of another split, order or folder.

    Args:
        name: "drop" or "relabel".
        issues: What `train` was given for it; nothing is known of the photos of plain numbers.
        train: The data; nothing is known of arrays.

    Raises:
        ValueError: for another photo at a number; folder and file name count, and not the rest of the path.
    """
    known, here = getattr(issues, "files", None), files_in_order(train)
    if not known or not here:
        return
    pairs = zip(known, here, strict=False)
    other = [number for number, pair in enumerate(pairs) if len({Path(one).parts[-2:] for one in pair}) > 1]
    if other or len(known) > len(here):
        number = other[0] if other else len(here)
        there = here[number] if number < len(here) else "no example"
        raise ValueError(
            f"recipes.train expects {name} with label issues of the photos in train, in the same order. Received "
            f"issues whose example {number} is {known[number]}, while train has {there}. Load the data as for the run "
            "that was judged: with the same folder, validation and seed."
        )


def _warn_of_none(issues, name, outcome, remedy):
    count = len(issues.issues)
    none = f"none of these {count} is called mislabelled" if count else "no label in it is in doubt"
    warnings.warn(
        f"recipes.train expects {name} with examples that are called mislabelled. Received label issues where "
        f"{none}, so {outcome}. Look at the images; {remedy}.",
        stacklevel=5,
    )


def _words(given):
    """A short value as it is, a long one by its type."""
    shown = repr(given)
    return shown if len(shown) <= 60 else type(given).__name__


def mended(
    data: Data,
    model: keras.Model,
    drop: tuple[int, ...] | None,
    relabel: tuple[tuple[int, int], ...] | None,
) -> tuple[Data, NDArray[np.int64] | None]:
    """The data without the examples of `drop=` and with the labels of `relabel=`.

    Args:
        data: Arrays, or a `tf.data.Dataset`, batched or not, whose examples come in a fixed order.
        model: The model that will read it.
        drop: As from `numbers_to_drop`.
        relabel: As from `labels_to_set`.

    Returns:
        `(data, kept)`: `kept` holds the numbers, int64, that the remaining examples have in the given data; None where
            none was dropped.

    Raises:
        ValueError: for numbers that the data does not have, nothing left over, or a data set of unknown length.
    """
    if not drop and not relabel:
        return data, None
    if not isinstance(data, tf.data.Dataset):
        return _mended_arrays(data, drop, relabel)
    size = None
    if is_batched(data.element_spec, model):
        size = data.element_spec[1].shape[0]
        size = int(tf.shape(next(iter(fresh_copy(data)))[1])[0]) if size is None else size
        data = data.unbatch()
    count = int(data.cardinality())
    count = sum(1 for _ in fresh_copy(data)) if count < 0 and size is not None else count
    if count < 0:
        raise ValueError(
            "recipes.train expects train to know its length where examples are dropped or relabelled. Received a "
            "data set that does not. Apply tf.data.experimental.assert_cardinality(n)."
        )
    kept, labels = _plan(count, drop, relabel)
    whole = len(kept) == count
    reader = reader_of(data)
    if reader is None:
        result = data.enumerate()
        if not whole:
            keep = tf.constant(np.isin(np.arange(count), kept))
            result = result.filter(lambda number, _: tf.gather(keep, number))
        result = result.map(lambda number, element: _with_label(number, element, labels))
        result = result.apply(tf.data.experimental.assert_cardinality(len(kept)))
    else:
        result = _by_reader(reader, identity_of(data), kept, labels, (drop, relabel))
    return (result if size is None else result.batch(size)), None if whole else kept


def _plan(count, drop, relabel):
    """`(numbers kept, new label of each number or -1)`."""
    largest = max([*(drop or ()), *(number for number, _ in relabel or ())], default=-1)
    if largest >= count:
        raise ValueError(
            f"recipes.train expects numbers of examples in train, 0 to {count - 1}, in drop and relabel. Received "
            f"{largest}. They are places in the data that diagnose.label_issues was given: give the same data here."
        )
    both = {number for number, _ in relabel or ()} & set(drop or ())
    if both:
        raise ValueError(
            f"recipes.train expects drop and relabel to name different examples. Received {len(both)} in both, such as "
            f"{min(both)}. Give issues to one of them."
        )
    kept = np.setdiff1d(np.arange(count), np.array(drop or (), np.int64))
    if not len(kept):
        raise ValueError(
            f"recipes.train expects examples to train on. Received drop with all {count} of them. Drop fewer."
        )
    labels = np.full(count, -1, np.int64)
    for number, label in relabel or ():
        labels[number] = label
    return kept, labels


def _mended_arrays(arrays, drop, relabel):
    arrays = [np.asarray(array) for array in arrays]
    kept, labels = _plan(len(arrays[1]), drop, relabel)
    new = np.flatnonzero(labels >= 0)
    if len(new):
        given = arrays[1].copy()
        rows = given.ndim == 2 and given.shape[1] > 1
        given[new] = (
            np.eye(given.shape[1])[labels[new]] if rows else labels[new].reshape(-1, *given.shape[1:])
        )
        arrays[1] = given
    if len(kept) == len(arrays[1]):
        return tuple(arrays), None
    return tuple(array[kept] for array in arrays), kept


def _with_label(number, element, labels):
    if not (labels >= 0).any():
        return element
    image, given, *weight = element
    new = tf.gather(tf.constant(labels), number)
    if given.shape.rank == 1 and given.shape[0] not in (1, None):
        other = tf.one_hot(new, given.shape[0], dtype=given.dtype)
    else:
        other = tf.broadcast_to(tf.cast(new, given.dtype), tf.shape(given))
    return (image, tf.ensure_shape(tf.where(new >= 0, other, given), given.shape), *weight)


def _by_reader(reader, identity, kept, labels, told):
    """The data set of the examples kept, which are still shuffled before they are read."""

    def read(places, first=0):
        numbers = places.map(lambda place: tf.gather(tf.constant(kept), place))
        if not (labels >= 0).any():
            return reader(numbers, first)
        both = tf.data.Dataset.zip(numbers, reader(numbers, first))
        return both.map(lambda number, element: _with_label(number, element, labels))

    result = read(tf.data.Dataset.range(len(kept)))
    result = result.apply(tf.data.experimental.assert_cardinality(len(kept)))
    mended = {} if identity is None else {**identity, "mended": [list(part or ()) for part in told]}
    remember_reader(result, read, None if identity is None else lambda: mended)
    return result
