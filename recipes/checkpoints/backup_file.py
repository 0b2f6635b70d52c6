"""A whole training run in one file, written so that a crash leaves either the old file or the new one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from recipes._version import __version__
from recipes.checkpoints.callback_state import CallbackStates
from recipes.checkpoints.comparison import (
    architecture,
    differences,
    optimizer_settings,
    without_numbers,
)
from recipes.checkpoints.replica_parts import assign_parts, is_in_parts, read_parts
from recipes.common.files import Archive, damaged, write_archive, write_atomically
from recipes.common.models import build_optimizer, save_with_values
from recipes.common.optimizers import groups, innermost

_FORMAT = 2
_EXPECTED = "a backup written by recipes.train or callbacks.Backup"
_REMEDY = "Remove the file to start the run anew."
_PARTS = "parts of metrics"
_SHOWN = 6  # differences that are named; more of them say no more


_UNFROZEN = re.compile(r"(, |(?<=\())trainable=false")


@dataclass(frozen=True)
class RunState:
    """A copy of everything that a later process needs to go on: nothing that happens afterwards changes it.

    Attributes:
        about: What JSON can hold: `epoch` (number of finished epochs), `batch` (number of finished batches of the next
            epoch), `stopped`, `history`, `callbacks`, `variables`, `model`, `optimizer`.
        arrays: Weights, seed generators, the optimizer's variables, metrics (under a strategy also the part of each
            replica), and the arrays of the callbacks.
    """

    about: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @classmethod
    def of(
        cls,
        model: keras.Model,
        states: CallbackStates,
        *,
        epoch: int,
        history: Sequence[Mapping[str, float]],
        batch: int = 0,
    ) -> RunState:
        """The present state of a run.

        Args:
            model: A built and compiled `keras.Model`.
            states: The states of the callbacks of this `fit`.
            epoch: Number of epochs finished.
            history: The row that `row_of` made for each finished epoch.
            batch: Batches of the next epoch that are finished. Above 0, the metrics of that epoch are kept too.
        """
        arrays: dict[str, np.ndarray] = {}
        kinds = _variables(model, metrics=batch > 0)
        for kind, variables in kinds.items():
            for index, variable in enumerate(variables):
                arrays[f"{kind}/{index}"] = _to_numpy(variable)
        # A sum over all replicas, dealt out anew, would differ in its last digits.
        in_parts = {
            f"{_PARTS}/{index}": variable
            for index, variable in enumerate(kinds.get("metrics", ()))
            if is_in_parts(variable)
        }
        arrays |= zip(in_parts, read_parts(list(in_parts.values())), strict=True)
        about = {
            "format": _FORMAT,
            "library": __version__,
            "epoch": epoch,
            "batch": batch,
            "stopped": bool(model.stop_training),
            "history": list(history),
            "callbacks": states.collect(arrays),
            "variables": {kind: [v.path for v in variables] for kind, variables in kinds.items()},
            "model": architecture(model),
            "optimizer": optimizer_settings(model.optimizer, rate=False),
        }
        return cls(about, arrays)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the state into one `.npz` file without pickles, whole or not at all."""
        text = np.frombuffer(json.dumps(self.about).encode(), dtype=np.uint8)
        write_archive(path, {"about": text, **self.arrays})

    def save_model(
        self,
        model: keras.Model,
        path: str | os.PathLike[str],
        *,
        before_rename: Callable[[Path], Any] | None = None,
    ) -> None:
        """Write a `.keras` file of the model as it was when this copy was taken, while it may be trained on.

        Args:
            model: The model whose state this is.
            path: The file, written whole or not at all.
            before_rename: As in `write_atomically`.
        """
        values = [
            (variable, self.arrays[f"{kind}/{place}"])
            for kind, variables in _variables(model).items()
            for place, variable in enumerate(variables)
        ]
        write_atomically(
            path, lambda temporary: save_with_values(model, temporary, values), before_rename=before_rename
        )


def row_of(logs: Mapping[str, Any] | None) -> dict[str, float]:
    """The numbers of one epoch, as a backup's history holds them."""
    return {name: float(value) for name, value in (logs or {}).items() if np.ndim(value) == 0}


def is_broken(callbacks: Sequence[keras.callbacks.Callback]) -> bool:
    """Whether one of the callbacks stopped the run at numbers that are not finite.

    The backup of the last good epoch is then the one to go on from, so it must not be replaced.
    """
    return any(getattr(callback, "broken", False) is True for callback in callbacks)


def read_backup(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The description that a backup holds, as `RunState.about`.

    Raises:
        DamagedFileError: when the file is not a backup, or not a complete one.
        ValueError: for a backup of another format.
    """
    with _open(path) as archive:
        return _about(path, archive)


def _open(path):
    return Archive(path, _EXPECTED, _REMEDY)


def _about(path, archive):
    about = archive.about()
    if about.get("format") != _FORMAT:
        found = "1.0.0" if about.get("format") == 1 else f"format {about.get('format')!r}"
        raise ValueError(
            f"resume expects a backup of keras-recipes 2 (format {_FORMAT}). Received one of {found} in {path}. "
            "Resume it with the version of keras-recipes that wrote it, or start a new run_dir."
        )
    wrong = _wrong_part(about)
    if wrong:
        raise damaged(path, _EXPECTED, f"{wrong} is of another kind", _REMEDY)
    return about


def _wrong_part(about):
    """The first entry that is not what this module writes, or None."""
    whole = {"epoch": int, "batch": int, "stopped": bool, "history": list, "callbacks": list}
    whole |= {"variables": dict, "model": list, "optimizer": dict}
    for name, kind in whole.items():
        value = about.get(name)
        if not isinstance(value, kind) or (kind is int and (isinstance(value, bool) or value < 0)):
            return name
    rows = all(isinstance(row, dict) and all(map(_is_number, row.values())) for row in about["history"])
    if not rows or len(about["history"]) < about["epoch"]:
        return "history"
    if not all(isinstance(entry, dict) and "state" in entry for entry in about["callbacks"]):
        return "callbacks"
    if not all(
        isinstance(paths, list) and all(map(_is_text, paths)) for paths in about["variables"].values()
    ):
        return "variables"
    return None


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_text(value):
    return isinstance(value, str)


def restore_variables(path: str | os.PathLike[str], model: keras.Model, *, force: bool = False) -> list[str]:
    """Put weights, seed generators and optimizer variables of a backup into a model, each by its path.

    Args:
        path: A backup.
        model: Built and compiled.
        force: Take what fits, and leave the rest of the model and its learning rate as they are.

    Returns:
        What did not fit, in words; empty where everything did.

    Raises:
        ValueError: without `force`, when the model or the optimizer differs.
    """
    with _open(path) as archive:
        archive.verify()
        about = _about(path, archive)
        saved, ours = about["model"], architecture(model)
        if hasattr(innermost(model.optimizer), "begun"):  # callbacks.Unfreeze decides what learns when
            saved, ours = ([_UNFROZEN.sub("", line) for line in side] for side in (saved, ours))
        unlike = differences(saved, ours, "model")
        unlike += differences(
            about["optimizer"], optimizer_settings(model.optimizer, rate=False), "optimizer"
        )
        pairs, missing = [], []
        for kind, variables in _variables(model).items():
            found, lost = _matched(about["variables"].get(kind, []), variables, kind, archive)
            pairs, missing = pairs + found, missing + lost
        if (unlike or missing) and not force:
            shown = "; ".join((unlike or missing)[:_SHOWN])
            raise ValueError(
                f"resume expects the model and optimizer that were saved in {path}. Received another: {shown}. "
                "Build and compile the model as in the interrupted run, or start a new run_dir."
            )
        # With force the compiled rate is newer than the one in the file.
        left = {id(one.learning_rate) for one in groups(model.optimizer)} if force else set()
        values = [(variable, archive[key]) for variable, key in pairs if id(variable) not in left]
    for variable, value in values:
        variable.assign(value)
    return missing


def load_backup(path: str | os.PathLike[str], model: keras.Model) -> dict[str, Any]:
    """Put the weights of a backup into a model, such as one of the best epochs that `recipes.train(keep=...)` kept.

    Args:
        path: `backup.npz`, `best-12.npz` or another backup of a run.
        model: A built model of the same layers, compiled or not; its optimizer is left alone.

    Returns:
        dict with `epoch` (number of finished epochs), `batch` (number of finished batches of the next epoch) and
        `metrics` (the values that the last finished epoch logged).

    Raises:
        DamagedFileError: when the file is not a backup, or not as it was written.
        ValueError: when the model differs.
    """
    with _open(path) as archive:
        archive.verify()
        about = _about(path, archive)
        pairs, missing = _matched(about["variables"].get("model", []), model.variables, "model", archive)
        if missing:
            raise ValueError(
                f"load_backup expects the model that was saved in {path}. Received another: "
                f"{'; '.join(missing[:_SHOWN])}. Build it as in that run."
            )
        values = [(variable, archive[key]) for variable, key in pairs]
    for variable, value in values:
        variable.assign(value)
    rows = about["history"]
    return {"epoch": about["epoch"], "batch": about["batch"], "metrics": rows[-1] if rows else {}}


def restore_metrics(path: str | os.PathLike[str], model: keras.Model) -> None:
    """Put back what the metrics had added up in the epoch in which a backup was written."""
    with _open(path) as archive:
        paths = _about(path, archive)["variables"].get("metrics", [])
        variables = _variables(model, metrics=True)["metrics"]
        pairs, missing = _matched(paths, variables, "metrics", archive)
        if missing:
            raise ValueError(
                f"resume expects the metrics of the interrupted run. Received others: {'; '.join(missing[:_SHOWN])}. "
                "Compile the model as in that run, or start a new run_dir."
            )
        for variable, key in pairs:
            parts = key.replace("metrics", _PARTS)
            known = is_in_parts(variable) and parts in archive
            if not (known and assign_parts(variable, archive[parts])):
                variable.assign(archive[key])


def _matched(paths, variables, kind, archive):
    """Pairs of a variable and the entry that holds its value, and what has no partner, in words."""
    ours = [variable.path for variable in variables]
    if sorted(paths) != sorted(ours):
        # The same model built a second time in one process: Keras has counted its names up.
        paths, ours = [[without_numbers(path) for path in side] for side in (paths, ours)]
    places: dict[str, list[int]] = {}
    for place, path in enumerate(paths):
        places.setdefault(path, []).append(place)
    pairs, missing = [], []
    for path, variable in zip(ours, variables, strict=True):
        place = places[path].pop(0) if places.get(path) else None
        if place is None:
            missing.append(f"{kind} variable {path} is not in the backup")
            continue
        key = f"{kind}/{place}"
        shape = archive[key].shape if key in archive else None
        if shape != tuple(variable.shape):
            missing.append(
                f"{kind} variable {path} has shape {shape} in the backup, {tuple(variable.shape)} here"
            )
        else:
            pairs.append((variable, key))
    missing += [
        f"{kind} variable {path} is only in the backup" for path, left in places.items() for _ in left
    ]
    return pairs, missing


def restore_run(
    path: str | os.PathLike[str], model: keras.Model, epochs: int, *, force: bool = False
) -> dict[str, Any]:
    """`restore_variables`, and where the run goes on.

    Returns:
        What `read_backup` gives, with `epoch` set to `epochs` where nothing is left to do.
    """
    about = read_backup(path)
    restore_variables(path, model, force=force)
    if about["stopped"] or about["epoch"] >= epochs:
        return {**about, "epoch": epochs, "batch": 0}
    return about


def restore_callbacks(
    path: str | os.PathLike[str],
    states: CallbackStates,
    *,
    own: bool | None = None,
    told: Mapping[str, Any] | None = None,
) -> None:
    """Restore what the callbacks remembered. Call it after their `on_train_begin`.

    Args:
        path: A backup.
        states: The states of the callbacks of this `fit`.
        own, told: As in `CallbackStates.restore`.
    """
    with _open(path) as archive:
        states.restore(_about(path, archive)["callbacks"], archive, own=own, told=told)


def newest_whole(paths: Sequence[Path]) -> tuple[Path | None, list[str]]:
    """The first of some backups that can be read, and what is wrong with those before it.

    Raises:
        ValueError: when there are backups, but none can be read.
    """
    wrong, error = [], None
    for path in paths:
        if not path.exists():
            continue
        try:
            with _open(path) as archive:
                _about(path, archive)
                archive.verify()
            return path, wrong
        except ValueError as problem:
            wrong.append(str(problem))
            error = error or problem
    if error is not None:
        raise error
    return None, []


def _variables(model, *, metrics=False):
    optimizer = model.optimizer
    build_optimizer(model)
    variables = {"model": model.variables, "optimizer": optimizer.variables}
    if metrics:
        variables["metrics"] = [variable for metric in model.metrics for variable in metric.variables]
    return variables


def _to_numpy(variable):
    value = variable.value
    if is_in_parts(variable):  # of a metric, under a strategy: the sum over all replicas
        value = value.value()
    array = np.array(keras.ops.convert_to_numpy(value))
    # bfloat16 has no place in .npz; float32 holds each of its values.
    return array.astype("float32") if array.dtype.name == "bfloat16" else array
