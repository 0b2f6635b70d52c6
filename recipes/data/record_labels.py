"""Class numbers for the labels in TFRecord files: numbers, texts, both, or several of them."""

import os
from typing import Any

import numpy as np

from recipes.data.chosen_classes import checked_names, in_words


def numbered(
    labels: list[tuple[Any, ...]], feature: str, folders: list[str], class_names: Any
) -> tuple[np.ndarray, list[str], list[str]]:
    """Number the labels of records.

    Numbers in the records stay as they are. Their names come from the records, from the file `label.labels.txt` that
    TensorFlow Datasets write beside them, from a `labels.txt`, or from `class_names`. Texts are numbered in sorted
    order.

    Args:
        labels: A tuple for each image: one number or text, `(number, text)`, or several numbers or texts.
        feature: Name of the feature they come from.
        folders: Where the files are.
        class_names: As in `data.load`; names of classes 0, 1, ... where nothing else names them.

    Returns:
        `(int64 (n,) or float32 (n, classes) of 0 and 1, class names, notes)`.

    Raises:
        ValueError: for real numbers, for fewer than two classes, and for numbers beyond the names that are given.
    """
    names = _names_in_records(labels)
    if names is not None:
        labels = [label[:1] for label in labels]
        if names:
            # Only classes that have a name: TensorFlow's ImageNet begins with 1, as 0 was to be the background.
            order = sorted(names)
            place = {number: row for row, number in enumerate(order)}
            return np.array([place[label[0]] for label in labels], np.int64), [names[n] for n in order], []
    kinds = {type(value) for label in labels for value in label}
    if float in kinds or len(kinds) > 1:
        if kinds != {float} or not all(value.is_integer() for label in labels for value in label):
            raise ValueError(
                f"data.load expects labels that are names or whole numbers. Received real numbers in {feature!r} of "
                "the records. Regression is not covered: give recipes.train a data set of (image, target) and a loss."
            )
        labels = [tuple(int(value) for value in label) for label in labels]
    lengths = {len(label) for label in labels}
    if kinds == {str}:
        found = sorted({value for label in labels for value in label})
        _at_least_two(found, feature)
        place = {name: number for number, name in enumerate(found)}
        return _as_numbers([[place[value] for value in label] for label in labels], len(found)), found, []
    length = next(iter(lengths))
    flags = len(lengths) == 1 and length > 1 and all(value in (0, 1) for label in labels for value in label)
    if flags:  # a row of 0 and 1
        rows = np.array(labels, np.float32)
        names = _given_names(folders, feature, class_names, length) or [
            str(number) for number in range(length)
        ]
        if (rows.sum(axis=1) == 1).all():
            return rows.argmax(axis=1).astype(np.int64), names, []
        return rows, names, []
    highest = max(value for label in labels for value in label)
    given = _given_names(folders, feature, class_names, highest + 1)
    there = {value for label in labels for value in label}
    if given is None and highest >= 10 * len(there) + 100:  # numbers of a catalogue, not of classes
        order = sorted(there)
        _at_least_two(order, feature)
        place = {value: number for number, value in enumerate(order)}
        rows = [[place[value] for value in label] for label in labels]
        return _as_numbers(rows, len(order)), [str(value) for value in order], []
    given = given or [str(number) for number in range(highest + 1)]
    _at_least_two(given, feature)
    missing = [name for number, name in enumerate(given) if number not in there]
    notes = []
    if missing:
        notes.append(f"{in_words(missing)} ({len(missing)} of {len(given)} classes) has no record.")
    return _as_numbers(labels, len(given)), given, notes


def _names_in_records(labels):
    """`{number: name}` where every label is a number with its name (`{}` if a number has several), else None."""
    if not all(
        len(label) == 2 and isinstance(label[1], str) and not isinstance(label[0], str) for label in labels
    ):
        return None
    pairs = set(labels)
    names = dict(pairs)
    return names if len(names) == len(pairs) else {}


def _given_names(folders, feature, class_names, count):
    """The names of classes 0 to count - 1 and more, from a file beside the records or `class_names`, or None."""
    files = [
        os.path.join(folder, name) for folder in folders for name in (f"{feature}.labels.txt", "labels.txt")
    ]
    where = next((file for file in files if os.path.isfile(file)), None)
    if where is None:
        names = checked_names(class_names) if class_names is not None else ["0"]
        if all(name.isdigit() for name in names):
            return None  # a choice among the numbers
        where = "class_names="
    else:
        with open(where, encoding="utf-8", errors="surrogateescape") as file:
            lines = [line.strip() for line in file if line.strip()]
        names = [
            line.partition(":")[2] if line.partition(":")[0] == str(n) else line
            for n, line in enumerate(lines)
        ]
    if len(names) < count:
        raise ValueError(
            f"data.load expects a name for each class that records number. Received {len(names)} names from {where} "
            f"and class number {count - 1}. Give class_names= of classes 0 to {count - 1}."
        )
    return names


def _at_least_two(names, feature):
    if len(names) < 2:
        raise ValueError(
            f"data.load expects labels of at least two classes. Received only {in_words(list(map(str, names)))} "
            f"in {feature!r} of the records. Say which feature is the label: labels='species'."
        )


def _as_numbers(labels, classes):
    """int64 `(n,)` where each has one number, else rows of 0 and 1."""
    if all(len(label) == 1 for label in labels):
        return np.array(labels, np.int64)[:, 0]
    rows = np.zeros((len(labels), classes), np.float32)
    for row, several in zip(rows, labels, strict=True):
        row[list(several)] = 1
    return rows
