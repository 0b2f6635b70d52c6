"""Facts about numeric inputs: their range, and the columns of a table one by one."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from recipes.diagnose.checks.sample import MOST_BYTES
from recipes.diagnose.finding import Finding

SOME = 1000  # examples that are looked at more closely
_MOST_COLUMNS, _FEWEST_ROWS = 200, 50  # of a table whose columns are looked at one by one


def filled_within(batch_inputs: Any, layers: Iterable[Any]) -> bool:
    """Whether a batch holds NaN or infinity that the model replaces before any layer with a kernel.

    Args:
        batch_inputs: Arrays, or a structure of them.
        layers: `LayerStatistics` of that batch on its way through the model.
    """
    numbers = [np.asarray(part) for part in keras.tree.flatten(batch_inputs)]
    broken = any(part.dtype.kind == "f" and not np.isfinite(part).all() for part in numbers)
    kernels = [layer for layer in layers if layer.has_kernel]
    return bool(
        broken and kernels and all(layer.finite and np.isfinite(layer.input_rms) for layer in kernels)
    )


def meant(findings: Iterable[Finding]) -> list[Finding]:
    """Lower findings about NaN in the inputs to "info", for a model that replaces missing values itself.

    Args:
        findings: The findings of such a model.

    Returns:
        The findings, with those about inputs replaced.
    """
    told = "; the model replaces them before its first weights, so they do no harm."
    return [
        dataclasses.replace(
            f, severity="info", evidence=f.evidence.partition(";")[0] + told, remedy="Nothing to do."
        )
        if f.code == "nan_input" and " inputs of " in f.evidence
        else f
        for f in findings
    ]


def number_facts(batches: list[np.ndarray]) -> dict[str, float | bool]:
    """Facts about input numbers, computed batch by batch to save memory.

    A float32 copy of all inputs may need four times their memory.

    Args:
        batches: Inputs of each batch, numbers of any dtype, `(batch, ...)`.

    Returns:
        dict of plain values: range, mean, standard deviation, and counts of examples that are constant or not finite.
    """
    total = squares = 0.0
    not_finite = constant = 0
    low, high = np.inf, -np.inf
    whole, levels = True, []
    for inputs in batches:
        rows = as_rows(inputs)
        finite = np.isfinite(rows)
        good = np.where(finite, rows, 0)
        not_finite += int((~finite.all(axis=1)).sum())
        constant += int((np.ptp(good, axis=1) == 0).sum()) if rows.shape[1] > 1 else 0
        low, high = min(low, float(good.min())), max(high, float(good.max()))
        total += good.sum(dtype="float64")
        squares += np.square(good, dtype="float64").sum()
        levels.append(good.mean(axis=1, dtype="float64"))
        whole = whole and bool((good[:64] == np.round(good[:64])).all())
    count = sum(inputs.size for inputs in batches)
    mean = total / count
    variance = max(squares / count - mean**2, 0)
    return {
        "finite": not_finite == 0,
        "not_finite_examples": not_finite,
        "mean": float(mean),
        "std": float(np.sqrt(variance)),
        # Share of the variance that lies between the means of examples; large for windows of a drifting time series.
        "level_share": float(np.concatenate(levels).var() / variance) if variance > 0 else 0.0,
        "min": low,
        "max": high,
        "constant_examples": constant,
        "whole_numbers": whole,
    }


def column_facts(batches: list[np.ndarray]) -> dict[str, list[float]]:
    """Median and interquartile range of each column of a table, from up to 1,000 rows.

    Args:
        batches: Inputs of each batch.

    Returns:
        `{"column_median", "column_spread"}`, one number per column each; empty for inputs other than a table of floats.
    """
    if batches[0].ndim != 2 or batches[0].dtype.kind != "f" or not 2 <= batches[0].shape[1] <= _MOST_COLUMNS:
        return {}
    rows = first_rows(batches, SOME)
    if len(rows) < _FEWEST_ROWS or not np.isfinite(rows).all():
        return {}
    low, middle, high = np.percentile(rows, (25, 50, 75), axis=0)
    return {"column_median": middle.tolist(), "column_spread": (high - low).tolist()}


def several_inputs(batches: list[Any]) -> dict[str, list[dict]]:
    """Range, mean and standard deviation of each input, for a model with several inputs.

    Args:
        batches: Inputs of each batch, a structure of arrays.

    Returns:
        `{"inputs"}`, a list with one dict per numeric input, with its name or number; empty for a single input.
    """
    if len(keras.tree.flatten(batches[0])) < 2:
        return {}
    names = [_path(path) for path, _ in keras.tree.flatten_with_path(batches[0])]
    found = []
    for number, name in enumerate(names):
        parts = [keras.tree.flatten(batch)[number] for batch in batches[:16]]
        if parts[0].dtype.kind not in "biuf":
            continue
        rows = np.concatenate([part.reshape(len(part), -1) for part in parts]).astype("float64")
        values = rows[np.isfinite(rows)]
        if values.size:
            size = {
                "mean": float(values.mean()),
                "std": float(values.std()),
                "whole": parts[0].dtype.kind != "f",
            }
            size["not_finite"] = int((~np.isfinite(rows)).any(axis=1).sum())
            found.append({"name": name, "low": float(values.min()), "high": float(values.max()), **size})
    return {"inputs": found}


def _path(path):
    return str(path[-1]) if path and isinstance(path[-1], str) else f"number {path[-1] + 1 if path else 1}"


def raw_inputs(data: dict, size: float) -> dict | None:
    """The largest input, if numbers of this root mean square can come from it.

    Args:
        data: Facts of the training data.
        size: Root mean square of what a layer receives.

    Returns:
        The facts about that input, or None.
    """
    known = data.get("inputs") or ([{"name": "", **data}] if "std" in data else [])
    largest = max(known, key=lambda one: math.hypot(one["mean"], one["std"]), default=None)
    if largest is None or math.hypot(largest["mean"], largest["std"]) < 0.3 * size:
        return None
    return largest


def loud_column(data: dict) -> str:
    """A sentence about the one column of a table that is far larger than the others, or "" where there is none.

    Args:
        data: Facts of the training data.
    """
    if "column_median" not in data:
        return ""
    sizes = np.abs(data["column_median"]) + np.asarray(data["column_spread"])
    worst = int(np.argmax(sizes))
    if sizes[worst] < 30 * np.median(sizes):
        return ""
    middle, spread = data["column_median"][worst], data["column_spread"][worst]
    return (
        f" Column {worst} (counted from 0) is the largest by far: its median is {middle:.3g} and its quartiles are "
        f"{spread:.3g} apart."
    )


def first_rows(batches: list[np.ndarray], count: int) -> np.ndarray:
    """The first examples of all batches as float32 rows, as a copy.

    Args:
        batches: Inputs of each batch, `(batch, ...)`.
        count: Number of examples, at most; fewer where they would need more than `MOST_BYTES`.

    Returns:
        float32 `(examples, numbers)`.
    """
    count, some = min(count, max(20, MOST_BYTES // (4 * max(1, batches[0][0].size)))), []
    for inputs in batches:
        some.append(as_rows(inputs[: count - sum(map(len, some))]))
    return np.concatenate(some)


def as_rows(inputs: np.ndarray) -> np.ndarray:
    """Numbers of any shape as float32 `(examples, numbers)`, without a copy where they have that form already."""
    return inputs.reshape(len(inputs), math.prod(inputs.shape[1:])).astype("float32", copy=False)
