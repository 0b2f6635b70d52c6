"""Turns what a twin measured into a row of the record."""

from typing import Any

import numpy as np

from recipes.probe.record import AXES, COLUMNS, Probe

_EMPTY = {"depth": "int64", "units": "int64", "size": "int64", "factor": "float64"}


def read_probe(step: int, epoch: int, seconds: float, values: dict[str, Any]) -> Probe:
    """Turn one step's tensors into a `Probe`; this waits for the device.

    Args:
        step: Training step of the run.
        epoch: Number of the epoch, from 0.
        seconds: Length of the execution in seconds, NaN where not timed.
        values: What `Twin` gave: tensors by name.
    """
    values = {name: np.asarray(value) for name, value in values.items()}
    row = {"seconds": np.float32(seconds)}
    for name, value in values.items():
        if name in COLUMNS:
            row[name] = value >= 1 if COLUMNS[name][1] == "bool" else value
    if "variance" in values:
        between = values["square"] - np.square(values["mean"]) if "square" in values else 0  # replicas' means
        row["std"] = np.sqrt(values["variance"] + np.maximum(between, 0))
        row["sample_std"] = np.sqrt(values["sample_variance"])
    histograms = {name: value for name, value in values.items() if name.startswith("histogram_")}
    return Probe(step, epoch, row, values.get("rates"), values.get("ever_active"), histograms)


def read_axes(layout: dict[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    """Turn a twin's layout (lists of dictionaries) into the record's axes (dictionaries of arrays)."""
    axes = {"inputs": {"name": np.array(["input", "target", "sample_weight"])}}
    for axis in ("variables", "layers", "activations"):
        axes[axis] = {
            key: np.array([entry[key] for entry in layout[axis]], _EMPTY.get(key, "str"))
            for key in AXES[axis]
        }
    return axes
