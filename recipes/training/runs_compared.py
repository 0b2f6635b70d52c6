"""`recipes.compare`: finished runs side by side."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

from recipes.common.types import Data
from recipes.inference.compare_runs import Comparison, compare_runs
from recipes.training.run import Run, load_run


def compare(
    runs: Sequence[Run | str | os.PathLike[str]],
    test: Data | str | os.PathLike[str] | None = None,
    *,
    names: Sequence[str] | None = None,
    labels: Any = None,
    on_error: Literal["raise", "skip"] = "raise",
) -> Comparison:
    """Put runs side by side: settings that differ, curves in common axes, metrics with 95 % intervals.

    Args:
        runs: Two or more, as `recipes.Run`s or their folders.
        test: Labeled examples that no run was trained on, or a folder of them, which is read for each run as its own
            images were. All runs are scored on them, and the first is compared with each other one, example by example
            (`evaluate.paired_comparison`).
        names: Names of the runs; None takes the names of their folders.
        labels: The classes of the images of a folder, as in `data.load`; None takes the names of their sub-folders.
        on_error: "skip" leaves out images of a folder that cannot be read, and names them.

    Returns:
        An `inference.Comparison`: `print` it, or `.to_html(path)`, `.figure()`, `.to_json()`; a notebook shows it.

    Raises:
        ValueError: for fewer than two runs, a folder without a finished run, or names that are not one per run.

    Example:
        >>> print(recipes.compare(["runs/a", "runs/b"], test))
    """
    if isinstance(runs, (str, os.PathLike)):
        raise ValueError(
            f"recipes.compare expects a list of runs. Received {runs!r}. Write recipes.compare([{runs!r}, another])."
        )
    if names is None and all(isinstance(run, (str, os.PathLike)) for run in runs):
        folders = [os.path.normpath(os.fspath(run)) for run in runs if not isinstance(run, Run)]
        short = [os.path.basename(os.path.abspath(folder)) for folder in folders]
        names = short if len(set(short)) == len(short) else folders
    loaded = [load_run(run) if isinstance(run, (str, os.PathLike)) else run for run in runs]
    return compare_runs(loaded, test, names=names, labels=labels, on_error=on_error)
