"""Which columns of a table hold the names of files, their labels, and the part of the data they belong to."""

import ast
import re
from dataclasses import dataclass
from typing import Any

from recipes.data.chosen_classes import in_words
from recipes.data.split_names import NAMES_OF_PARTS

_FILE_COLUMNS = (
    "file file_name filename filenames files image image_id image_name imageid path filepath file_path id img name"
).split()
_LABEL_COLUMNS = (
    "label labels class class_name classname category target tags tag y species breed diagnosis".split()
)
_PART_COLUMNS = "split part subset set partition".split()
_FLAGS_OF_PARTS = dict.fromkeys(("is_valid", "is_val", "is_validation"), "validation") | {"is_test": "test"}
_TRUTH = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}


_SEPARATORS = re.compile(r"\s*[|;,]\s*")
_SPACES = re.compile(r"\s*[|;,\s]\s*")
_FRACTION = re.compile(r"-?\d+\.\d+")
_LIST = re.compile(r"\s*\[.*\]\s*", re.DOTALL)


@dataclass
class LabelColumns:
    """Where the labels of a table stand.

    Attributes:
        places: Numbers of the columns; where there are several, each stands for a class and holds 0 or 1.
        divided: What separates the labels in a cell, or None where a cell holds one label.
        order: Names of the classes where the columns name them, else None.
        note: What the user should know, or None.
    """

    places: list[int]
    divided: re.Pattern[str] | None = None
    order: list[str] | None = None
    note: str | None = None


def file_column(columns: list[str], rows: list[list[Any]], finder: Any, anything: bool, source: str) -> int:
    """Number of the column that names files: the one whose cells find most files, among equals one with such a name.

    Args:
        columns: Names of the columns.
        rows: Cells, a list for each row.
        finder: What finds a file by its name.
        anything: Whether names are taken as they are, without looking for files.
        source: Name of the table, for errors.

    Raises:
        ValueError: when there is no such column.
    """
    lower = [name.lower().strip() for name in columns]
    called = [lower.index(name) for name in _FILE_COLUMNS if name in lower]
    for by_number in (False, True) if rows and not anything else ():
        sample = rows[:200]
        hits = [
            sum(finder.find(str(row[c]), by_number) is not None for row in sample)
            for c in range(len(columns))
        ]
        if max(hits, default=0):
            best = [column for column, count in enumerate(hits) if count == max(hits)]
            return next((column for column in called if column in best), best[0])
    if called:
        return called[0]
    raise ValueError(
        f"data.load expects {source} to have a column with the names of the files. Received columns {columns}, none of "
        "which names a file of the folder. Correct the names, or call their column 'file'; numbers that lost their "
        "leading zeros keep them if you read the table with dtype=str."
    )


def part_column(columns: list[str], rows: list[list[Any]]) -> tuple[int | None, str | None]:
    """`(number of the column that says to which part a file belongs, or None; a note, or None)`.

    Columns of true and false, such as `is_valid`, are rewritten to the names of parts.

    Raises:
        ValueError: for a column that names some known parts and some unknown ones.
    """
    note = None
    for number, name in enumerate(columns if rows else ()):
        name = name.lower().strip()
        part, words = _FLAGS_OF_PARTS.get(name), {str(row[number]).lower() for row in rows}
        if part and words <= _TRUTH.keys():
            for row in rows:
                row[number] = part if _TRUTH[str(row[number]).lower()] else "train"
            return number, None
        if name not in _PART_COLUMNS:
            continue
        unknown = sorted(words - NAMES_OF_PARTS.keys())
        if not unknown:
            return number, None
        if len(unknown) < len(words):
            raise ValueError(
                f"data.load expects the column {columns[number]!r} to say train, val or test. Received other words, "
                f"{in_words(unknown)}. Write test for images to hold out, or leave these rows out."
            )
        note = f"The column {columns[number]!r} is not used: {in_words(unknown)} in it is neither train, val nor test."
    return None, note


def label_columns(
    columns: list[str], rows: list[list[Any]], taken: set[int | None], source: str, wanted: str | None = None
) -> LabelColumns:
    """Find the columns of labels in a table; numbers in text are rewritten as a data frame has them.

    Args:
        columns: Names of the columns.
        rows: Cells, a list for each row.
        taken: Numbers of columns that hold something else.
        source: Name of the table, for errors.
        wanted: Name of the column, or None.

    Raises:
        ValueError: when they cannot be recognized.
    """
    if wanted is not None and wanted not in columns:
        raise ValueError(
            f"data.load expects the column of labels to be one of {source}. Received {wanted!r}, and the columns are "
            f"{in_words(columns)}. Correct the name."
        )
    free = [c for c in range(len(columns)) if c not in taken]
    named = [c for name in _LABEL_COLUMNS for c in free if columns[c].lower().strip() == name]
    if wanted is not None or named or len(free) == 1:
        column = columns.index(wanted) if wanted is not None else (named or free)[0]
        return _one_column(columns, rows, column)
    found = [{str(row[c]) for row in rows} for c in free]
    flags = {"0", "1", "0.0", "1.0", "True", "False"}
    if rows and free and all(words <= {"-1", "1"} for words in found):  # as CelebA has them
        flags = {"-1", "1"}
    if rows and free and all(words <= flags for words in found):
        return _columns_of_flags(columns, rows, free)
    uncertain = any(words <= flags | {"-1", "-1.0"} for words in found)
    raise ValueError(
        f"data.load expects {source} to have one column of labels, or only columns of 0 and 1. Received columns "
        f"{[columns[c] for c in free]} beside the column of the files. Say which, labels=(table, column), call it "
        f"'label', or leave the others out{'; replace -1 by 0 or 1' if uncertain else ''}."
    )


def _columns_of_flags(columns, rows, free):
    for row in rows:
        for c in free:
            row[c] = {"True": 1, "False": 0, "-1": 0}.get(str(row[c]), row[c])
    order = [columns[c].strip() for c in free]
    if all(sum(float(row[c]) for c in free) == 1 for row in rows):
        # One of them in every row: classes that exclude one another, written as columns.
        for row in rows:
            row.append(next(columns[c].strip() for c in free if float(row[c]) > 0))
        columns.append("label")
        return LabelColumns([len(columns) - 1], order=order)
    return LabelColumns(free, order=order)


def _one_column(columns, rows, column):
    """One column, whose cells may hold several labels."""
    name = columns[column]
    texts = [row[column] for row in rows if isinstance(row[column], str) and row[column].strip()]
    if texts and all(map(_LIST.fullmatch, texts)):  # "['cat', 'dog']", as pandas writes lists
        for row in rows:
            if isinstance(row[column], str) and row[column].strip():
                row[column] = _listed(row[column], name)
    if any(isinstance(row[column], (list, tuple, set)) for row in rows):
        return LabelColumns([column], _SEPARATORS)
    if (
        texts
        and len(texts) == sum(row[column] != "" for row in rows)
        and all(map(_FRACTION.fullmatch, texts))
    ):
        for row in rows:
            row[column] = float(row[column]) if row[column] != "" else ""
        return LabelColumns([column])
    several = [text for text in texts if _SEPARATORS.search(text.strip())]
    divided, what = _SEPARATORS, "| ; or ,"
    if not several and name.lower().strip() in ("tags", "labels"):
        # Classes such as `black cat` have as many words as names or more; where a cell holds several labels, fewer.
        spaced = [text for text in texts if _SPACES.search(text.strip())]
        words = {word for text in texts for word in text.split()}
        if name.lower().strip() == "tags" or len(words) < len(set(texts)):
            several, divided, what = spaced, _SPACES, "spaces"
    if not several:
        return LabelColumns([column])
    note = f"Cells of the column {name!r} hold several labels, divided at {what}, such as {several[0]!r}."
    return LabelColumns([column], divided, note=note)


def _listed(text, name):
    try:
        return [str(value) for value in ast.literal_eval(text.strip())]
    except (ValueError, SyntaxError) as error:
        raise ValueError(
            f"data.load expects lists in the column {name!r} as Python writes them. Received {text!r}. Write cat|dog."
        ) from error
