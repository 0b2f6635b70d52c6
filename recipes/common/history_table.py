"""The history of a training, as a dict of lists and as the text of `history.csv`."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from recipes.common.files import csv_text, damaged


def history_of(rows: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    """Turn one dict of logs per epoch into a dict of lists of one length; what an epoch did not log is NaN."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: [float(row.get(name, math.nan)) for row in rows] for name in names}


def history_table(history: dict[str, list[float]]) -> str:
    """The text of `history.csv`: one row per epoch, one column per metric, `epoch` counted from 1."""
    rows = enumerate(zip(*history.values(), strict=True), start=1)
    return csv_text([["epoch", *history], *([epoch, *row] for epoch, row in rows)])


def read_history(path: Path) -> dict[str, list[float]]:
    """Read the text of `history_table` back into a dict of lists.

    Raises:
        DamagedFileError: when the file is not such a table.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            table = csv.DictReader(file)
            rows, columns = list(table), table.fieldnames or []
            if "epoch" not in columns:
                raise ValueError("it has no column epoch")
            names = [name for name in columns if name != "epoch"]
            return {name: [float(row[name]) for row in rows] for name in names}
    except (csv.Error, OSError, TypeError, ValueError) as error:
        remedy = "Put a copy of the file back, or train again in a new run_dir."
        raise damaged(path, "one row of numbers per epoch", str(error), remedy) from error
