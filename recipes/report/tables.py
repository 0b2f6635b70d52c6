"""Tables of a report: layers, right and wrong answers by class, settings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from recipes.report.example_images import Predictions

_MOST_CLASSES = 20  # of a table that fits on a phone


def layers_of(record: Any) -> list[dict[str, str]]:
    """Rows of the table of kernels: layer, weights, factor of its rate, typical update ratio and gradient."""
    if record is None or not len(record) or not {"update_norm", "gradient_norm"} <= set(record.measured):
        return []
    axis, rows = record.axes["variables"], []
    factors = axis.get("factor", np.ones(len(axis["role"])))
    shown = bool(np.any(np.asarray(factors) != 1))
    with np.errstate(all="ignore"):
        for index in np.flatnonzero(axis["role"] == "kernel"):
            ratios, gradients = record.update_ratio[:, index], record.gradient_norm[:, index]
            rows.append(
                {
                    "layer": str(axis["layer"][index]),
                    "size": f"{int(axis['size'][index]):,}",
                    "factor": f"{factors[index]:.3g}" if shown else "",
                    "ratio": _typical(ratios),
                    "gradient": _typical(gradients),
                }
            )
    return rows


def _typical(values):
    values = values[np.isfinite(values)]
    return f"{np.median(values):.2g}" if values.size else "not measured"


def confusion_of(seen: Predictions | None, class_names: Sequence[str] | None) -> dict[str, Any] | None:
    """What the page says about right and wrong answers: the matrix, the scores of each class, frequent mistakes."""
    if seen is None:
        return None
    names = [class_name(number, class_names) for number in range(seen.classes)]
    wrong = seen.labels != seen.predicted
    # Counted as a list: a matrix of 10,000 classes does not fit into memory.
    cells, times = np.unique(seen.labels[wrong] * seen.classes + seen.predicted[wrong], return_counts=True)
    pairs = [
        (names[cells[i] // seen.classes], names[cells[i] % seen.classes], int(times[i]))
        for i in np.argsort(-times, kind="stable")[:10]
    ]
    table = None
    if seen.classes <= _MOST_CLASSES:
        counts = seen.confusion()
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        table = [
            (
                names[row],
                [
                    (int(counts[row, column]), round(float(share[row, column]), 3), row == column)
                    for column in range(len(counts))
                ],
                f"{share[row, row]:.0%}" if counts[row].sum() else "none",
            )
            for row in range(len(counts))
        ]
    return {
        "names": names,
        "table": table,
        "pairs": pairs,
        "classes": _classes(seen, names),
        "left_out": max(0, seen.classes - _MOST_CLASSES),
        "right": int(np.sum(~wrong)),
        "all": len(seen.labels),
    }


def _classes(seen, names):
    """Rows of precision, recall and F1, the 20 worst of many classes; a score that is not defined is a dash."""
    hit = np.bincount(seen.labels[seen.labels == seen.predicted], minlength=seen.classes)
    true = np.bincount(seen.labels, minlength=seen.classes)
    said = np.bincount(seen.predicted, minlength=seen.classes)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall, f1 = hit / said, hit / true, 2 * hit / (said + true)
    worst = np.argsort(np.where(true > 0, f1, np.inf), kind="stable")[:_MOST_CLASSES]
    chosen = range(seen.classes) if seen.classes <= _MOST_CLASSES else worst
    return [
        (
            names[k],
            *("-" if np.isnan(v) else f"{v:.0%}" for v in (precision[k], recall[k], f1[k])),
            int(true[k]),
        )
        for k in chosen
    ]


def class_name(number: int, class_names: Sequence[str] | None) -> str:
    """The name of a class, or its number."""
    known = class_names is not None and number < len(class_names)
    return str(class_names[number]) if known else str(number)


def settings_of(settings: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Name and value of every setting, in words."""
    return [
        (name.replace("_", " "), _plain(value))
        for name, value in (settings or {}).items()
        if name not in ("versions", "before_training", "times", "rate_by_step") and value is not None
    ]


def _plain(value):
    if isinstance(value, (list, tuple)):
        rest = f" and {len(value) - _MOST_CLASSES} more" if len(value) > _MOST_CLASSES else ""
        return ", ".join(_plain(entry) for entry in value[:_MOST_CLASSES]) + rest or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_plain(entry)}" for name, entry in value.items()) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    # Of an object its class, of a checksum as much as tells two of them apart.
    words = re.sub(r"<(?:\w+\.)*(\w+) object(?: at 0x[0-9a-fA-F]+)?>", r"\1", str(value))
    return re.sub(r"\b([0-9a-f]{10})[0-9a-f]{22,}\b", r"\1…", words)
