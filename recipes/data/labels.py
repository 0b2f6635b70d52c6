"""Labels from a table, a function or the names of the files."""

import csv
import os
import pathlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recipes.common.nearest import did_you_mean, nearest_path
from recipes.data.label_columns import file_column, label_columns, part_column
from recipes.data.split_names import NAMES_OF_PARTS


@dataclass
class LabelTable:
    """Labels of files.

    Attributes:
        rows: Numbers of the files that have a label.
        names: The names of these files as the table has them.
        labels: A tuple of class names for each file; of one name where classes exclude one another.
        several: Whether a file can have several labels.
        parts: "train", "validation" or "test" for each file, or None.
        notes: What the user should know, in sentences.
        skipped: What was left out because it has no file or no label.
        order: Names of all classes in their order, where the table's columns name them.
    """

    rows: np.ndarray
    names: list[str]
    labels: list[tuple[str, ...]]
    several: bool
    parts: list[str] | None = None
    notes: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    order: list[str] | None = None


def read_labels(labels: Any, folder: str | None, files: list[str], skip: bool) -> LabelTable:
    """Find the label of each file.

    Args:
        labels: Path of a CSV file, a data frame, `(one of these, column of the labels)`, or a dictionary from name to
            label. Or a list (one label for each file, in sorted order), a function of a `pathlib.Path`, or a regular
            expression whose first group, or the one called `label`, is the label.
        folder: Where the files are; None takes the names in a data frame as they are.
        files: Paths relative to `folder`, sorted.
        skip: Leave out files without a label, and rows without a file, instead of refusing them.

    Raises:
        ValueError: for tables, functions and expressions that leave a file without a label.
        TypeError: when it is none of the above.
    """
    wanted = None
    if (
        isinstance(labels, tuple)
        and len(labels) == 2
        and isinstance(labels[1], str)
        and _is_table(labels[0], folder)
    ):
        labels, wanted = labels
    if isinstance(labels, re.Pattern):
        return _from_function(_by_expression(labels), folder, files, skip, f"labels={labels.pattern!r}")
    if isinstance(labels, (str, os.PathLike)):
        path = _csv_path(labels, folder)
        if path is not None:
            return _from_columns(*_read_csv(path, files), folder, files, skip, os.fspath(path), wanted)
        try:
            pattern = re.compile(labels)
        except (re.error, TypeError):
            pattern = None
        if pattern is None or not pattern.groups:
            raise ValueError(
                "data.load expects labels to be the path of a CSV file, or a regular expression with a group. Received "
                f"labels={labels!r}, which is neither. Correct the path, relative to {os.getcwd()}, or "
                r"put the label into a group: labels=r'(\w+)_\d+'."
            )
        return _from_function(_by_expression(pattern), folder, files, skip, f"labels={labels!r}")
    if hasattr(labels, "columns") and hasattr(labels, "iloc"):
        columns = [str(name) for name in labels.columns]
        indexed = len(labels) and isinstance(labels.index[0], str)  # the names of the files may be the index
        rows = [[_cell(value) for value in row] for row in labels.itertuples(index=indexed, name=None)]
        columns = [str(labels.index.name or "index"), *columns] if indexed else columns
        return _from_columns(columns, rows, folder, files, skip, "the data frame", wanted)
    if isinstance(labels, Mapping):
        rows = [[str(name), value] for name, value in labels.items()]
        return _from_columns(["file", "label"], rows, folder, files, skip, "labels=")
    if callable(labels):
        return _from_function(labels, folder, files, skip, "the function labels=")
    if isinstance(labels, (list, tuple, np.ndarray)) or hasattr(labels, "tolist"):
        values = list(labels)
        if len(values) != len(files):
            raise ValueError(
                f"data.load expects one label for each of the {len(files)} images in {folder!r}, in the order of their "
                f"sorted names. Received {len(values)}. Give one for each, or a dictionary from name to label."
            )
        rows = [[file, value] for file, value in zip(files, values, strict=True)]
        return _from_columns(["file", "label"], rows, folder, files, skip, "labels=")
    raise TypeError(
        "data.load expects labels to be the path of a CSV file, a data frame, a dictionary, a list, a function of "
        f"the path or a regular expression. Received {type(labels).__name__}. Leave it out when folders are classes."
    )


def _is_table(labels, folder):
    if hasattr(labels, "columns") and hasattr(labels, "iloc"):
        return True
    return isinstance(labels, (str, os.PathLike)) and _csv_path(labels, folder) is not None


def _near(path, folder):
    """The table that is most like a path, beside it or in the folder of images."""
    inside = folder and nearest_path(os.path.join(folder, path), os.path.isfile)
    return nearest_path(path, os.path.isfile) or inside


def _csv_path(labels, folder):
    path = pathlib.Path(os.path.expanduser(os.fspath(labels)))
    for candidate in (path, pathlib.Path(folder or ".") / path):
        if candidate.is_file():
            return candidate
    if path.suffix.lower() in (".csv", ".tsv"):
        raise ValueError(
            f"data.load expects labels to be the path of a CSV file. Received {os.fspath(labels)!r}, which does not "
            f"exist. Give a path relative to {os.getcwd()} or to the folder of images."
            f"{did_you_mean(_near(path, folder))}"
        )
    return None


def _read_csv(path, files):
    text = path.read_bytes()
    try:
        text = text.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = text.decode("latin-1")
    first = text.partition("\n")[0]
    counts = {separator: first.count(separator) for separator in (",", ";", "\t")}
    rows = list(csv.reader(text.splitlines(), delimiter=max(counts, key=counts.get)))
    rows = [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]
    if not rows or len(rows[0]) < 2:
        raise ValueError(
            f"data.load expects a CSV file with a column of file names and one of labels. Received {path} with "
            f"{len(rows[0]) if rows else 0} columns. Separate them by commas, semicolons or tabs."
        )
    ragged = next((number for number, row in enumerate(rows, 1) if len(row) != len(rows[0])), None)
    if ragged:
        raise ValueError(
            f"data.load expects rows of {len(rows[0])} columns in {path}. Received {len(rows[ragged - 1])} in row "
            f"{ragged}. Put labels that hold a comma into quotes."
        )
    finder = _Finder(files)
    if any(finder.find(cell) is not None for cell in rows[0]):  # no header: the first row is data
        return ["file", *(["label"] if len(rows[0]) == 2 else map(str, range(1, len(rows[0]))))], rows
    return rows[0], rows[1:]


def _from_columns(columns, rows, folder, files, skip, source, wanted=None):
    finder = _Finder(files)
    file_at = file_column(columns, rows, finder, folder is None, source)
    part_at, note = part_column(columns, rows)
    where = label_columns(columns, rows, {file_at, part_at}, source, wanted)
    several = len(where.places) > 1 or where.divided is not None
    found, names, labels, parts, unlabeled, missing = [], [], [], [], [], []
    seen = {}
    for row in rows:
        name = str(row[file_at])
        place = len(found) if folder is None else finder.find(name, True)
        if place is None:
            missing.append(name)
            continue
        if len(where.places) > 1:
            label = tuple(columns[c].strip() for c in where.places if float(row[c]) > 0)
        else:
            label = _label(row[where.places[0]], where.divided)
        if label is None:
            unlabeled.append(name)
            continue
        if place in seen:
            if seen[place] != label:
                raise ValueError(
                    f"data.load expects one row for each file. Received {name!r} twice, with {seen[place]} and "
                    f"{label}. For several labels, write them into one cell: cat|dog."
                )
            continue
        seen[place] = label
        found.append(place)
        names.append(name)
        labels.append(label)
        parts.append(NAMES_OF_PARTS[str(row[part_at]).lower()] if part_at is not None else None)
    _refuse(
        missing, skip, source, "rows whose file is not there", "Correct the names, or type on_error='skip'."
    )
    _refuse(unlabeled, skip, source, "rows without a label", "Fill them, or type on_error='skip'.")
    notes = [said for said in (note, where.note) if said]
    left_out = len(files) - len(found)
    if folder is not None and left_out:
        notes.append(
            f"{left_out} of {len(files)} images in {folder!r} are left out: {source} does not name them."
        )
    skipped = [f"{name}: {source} names it, and there is no such file." for name in missing]
    skipped += [f"{name}: {source} has no label for it." for name in unlabeled]
    if not found:
        raise ValueError(
            f"data.load expects {source} to name files in {folder!r}. Received no name of a file there, but for "
            f"example {str(rows[0][file_at]) if rows else 'nothing'!r}. Correct the names or the folder."
        )
    order = np.argsort(found, kind="stable")
    pick = lambda values: [values[place] for place in order]  # noqa: E731
    return LabelTable(
        np.array(found)[order],
        pick(names),
        pick(labels),
        several,
        pick(parts) if part_at is not None else None,
        notes,
        skipped,
        where.order,
    )


def _refuse(names, skip, source, what, advice):
    if names and not skip:
        raise ValueError(
            f"data.load expects a file and a label in every row of {source}. Received {len(names)} {what}, such as "
            + ", ".join(repr(name) for name in names[:5])
            + f". {advice}"
        )


def _cell(value):
    return "" if value is None or (isinstance(value, float) and np.isnan(value)) else value


def _label(value, divided):
    """A tuple of names, or None for an empty cell."""
    if isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
        return tuple(sorted(_name(part) for part in value))
    name = _name(value)
    if not name:
        return None
    return tuple(sorted(set(divided.split(name.strip()) if divided else (name,)) - {""}))


def _name(value):
    value = _cell(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (float, np.floating)):
        if not float(value).is_integer():
            raise ValueError(
                f"data.load expects labels that are names or whole numbers. Received {value!r}, a real number. "
                "Regression is not covered: read the images with data.read_image and pair them yourself."
            )
        value = int(value)
    return str(value).strip()


def _by_expression(pattern):
    group = "label" if "label" in pattern.groupindex else 1

    def label(path):
        found = pattern.search(path.name) or pattern.search(path.as_posix())
        return found[group] if found else None

    return label


def _from_function(function: Callable, folder, files, skip, source):
    found, labels, unlabeled, several = [], [], [], False
    for place, file in enumerate(files):
        value = function(pathlib.Path(folder) / file)
        several |= isinstance(value, (list, tuple, set, frozenset))
        label = _label(value, None)
        if label is None:
            unlabeled.append(file)
            continue
        found.append(place)
        labels.append(label)
    if unlabeled and not skip:
        raise ValueError(
            f"data.load expects a label for every image. Received none from {source} for {len(unlabeled)} of "
            f"{len(files)}, such as {', '.join(map(repr, unlabeled[:5]))}. Correct it, or leave these out with "
            "on_error='skip'."
        )
    skipped = [f"{file}: {source} gives no label for it." for file in unlabeled]
    return LabelTable(
        np.array(found, np.int64), [files[place] for place in found], labels, several, skipped=skipped
    )


class _Finder:
    """Finds the file that a table means: by its path, its name, or its name without ending."""

    def __init__(self, files):
        self.by_name = {}
        for place, file in enumerate(files):
            path = pathlib.PurePath(file).as_posix()
            name = path.rpartition("/")[2]
            for key in {path, name, path.rpartition(".")[0] or path, name.rpartition(".")[0] or name}:
                self.by_name.setdefault(key, []).append((key == path, place))
        stems = [(stem.rpartition("/")[2].partition(".")[0], place) for place, stem in enumerate(files)]
        self.by_number = {}
        if all(stem.isdecimal() for stem, _ in stems):  # 00017.jpg, which a table has as 17
            for stem, place in stems:
                self.by_number.setdefault(int(stem), []).append(place)

    def find(self, name: str, by_number: bool = False) -> int | None:
        """Number of a file; `by_number` finds 00017.jpg by 17 as well."""
        name = str(name).replace("\\", "/").removeprefix("./")
        while name:
            places = self.by_name.get(name)
            if places:
                exact = [place for whole, place in places if whole]
                if len(exact) == 1 or len(places) == 1:
                    return exact[0] if exact else places[0][1]
                raise ValueError(
                    f"data.load expects names that say which file is meant. Received {name!r}, of which there are "
                    f"{len(places)}. Write the path relative to the folder of images, or load only the folder that "
                    "the table describes."
                )
            if "/" not in name:
                numbered = self.by_number.get(int(name), []) if by_number and name.isdecimal() else []
                return numbered[0] if len(numbered) == 1 else None
            name = name.partition("/")[2]  # a table may name folders above the given one
        return None
