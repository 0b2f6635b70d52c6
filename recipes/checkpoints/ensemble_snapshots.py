"""Snapshots of one training run in a folder: written whole or not at all, and read back only into their own model."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from recipes.common.files import Archive, damaged, read_json, remove_parts, write_archive, write_json
from recipes.common.models import rebuild, serialized
from recipes.common.processes import is_first_process, meet
from recipes.common.traversal import layers_of
from recipes.common.validation import is_whole

_INDEX = "snapshots.json"


class SnapshotFolder:
    """A folder of `snapshot<number>.npz` files (`model.get_weights()`, in order) and `snapshots.json`, which lists
    them. Of several processes, all read the folder and the first one writes.

    Args:
        folder: Made when it does not exist.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = Path(folder).absolute()

    @property
    def index(self) -> dict[str, Any] | None:
        """What the folder holds: dict with `model`, `ends` and `done`; None when it holds no snapshots."""
        file = self.path / _INDEX
        return _read_index(file) if file.exists() else None

    def begin(self, ends: Sequence[int], *, overwrite: bool) -> None:
        """Start a new run in the folder.

        Raises:
            ValueError: when the folder holds snapshots and `overwrite` is False.
        """
        index, files = self.index, sorted(path.name for path in self.path.glob("snapshot*.npz"))
        if (index is not None or files) and not overwrite:
            raise ValueError(
                f"Snapshots expect a folder without snapshots in it. Received {self.path}, which holds "
                f"{', '.join(files) or _INDEX}. Give another folder, or overwrite=True to replace them."
            )
        meet("SnapshotFolder.begin")  # all have looked before the first one writes
        if is_first_process():
            for number in index["done"] if index else ():
                self._file(number).unlink(missing_ok=True)
            self.path.mkdir(parents=True, exist_ok=True)
            remove_parts(self.path)
        self._write({"model": None, "ends": list(ends), "done": []})

    def resume(self, model: keras.Model, ends: Sequence[int], position: int) -> None:
        """Go on with the run in the folder after `position` batches.

        Raises:
            ValueError: when the folder belongs to another model or run, or lacks a snapshot of the first part.
        """
        index = self.index
        if index is None:
            raise ValueError(
                f"Snapshots expect the folder of the interrupted run to go on. Received {self.path}, without "
                f"{_INDEX}. Give that folder, or train from epoch 0."
            )
        _check_model(model, index, self.path)
        if index["ends"] != list(ends):
            raise ValueError(
                f"Snapshots expect the settings of the interrupted run, with snapshots after the batches "
                f"{index['ends']}. Received {list(ends)}. "
                "Give the same cycles, epochs and batch size, or train from epoch 0."
            )
        due = [number for number, end in enumerate(ends, start=1) if end <= position]
        missing = [str(self._file(number)) for number in due if not self._file(number).exists()]
        if missing:
            raise ValueError(
                f"The run expects the snapshots of its first part. Received a folder without {', '.join(missing)}. "
                "Train from epoch 0 with overwrite=True."
            )
        if is_first_process():
            remove_parts(self.path)
        self._write({**index, "done": due})

    def save(self, number: int, model: keras.Model) -> None:
        """Write snapshot `number`, counted from 1, and list it."""
        if not is_first_process():
            return
        weights = [keras.ops.convert_to_numpy(variable) for variable in model.weights]
        weights = [array.astype("float32") if array.dtype.name == "bfloat16" else array for array in weights]

        write_archive(self._file(number), {f"arr_{place}": array for place, array in enumerate(weights)})
        index = self.index
        # Here, because a subclassed model may be built by its first batch only.
        self._write({**index, "model": fingerprint(model), "done": sorted({*index["done"], number})})

    def load(self, model: keras.Model, last: int | None = None) -> list[keras.Model]:
        """New models with the weights of the snapshots, oldest first.

        Args:
            model: The model they were taken from; left as it is.
            last: How many of the latest snapshots, >= 1; None for all.
        """
        index = self.index
        if index is None or not index["done"]:
            raise ValueError(
                f"Snapshots expect a folder that holds at least one. Received {self.path}, with none. "
                "Train first; the first snapshot is written at the end of the first cycle."
            )
        if not model.built:
            raise ValueError(
                f"Snapshots expect a model that is built. Received {model.name!r}, which has seen no input yet. "
                "Call it on a batch first, or begin it with keras.Input."
            )
        _check_model(model, index, self.path)
        members = []
        for number in _latest(index["done"], last):
            member = same_build(model)
            member.set_weights(_read_arrays(self._file(number)))
            members.append(member)
        return members

    def _file(self, number):
        return self.path / f"snapshot{number}.npz"

    def _write(self, index):
        if is_first_process():
            write_json(self.path / _INDEX, index, sealed=True)


def load_snapshots(
    folder: str | os.PathLike[str], model: keras.Model, last: int | None = None
) -> list[keras.Model]:
    """The members of a snapshot ensemble, from its folder, in a later process.

    Args:
        folder: What `SnapshotEnsemble(folder=...)` was given.
        model: A model of the same build; its weights do not matter and are left alone.
        last: How many of the latest snapshots, >= 1; None for all.

    Returns:
        List of `keras.Model`, oldest first, for `ensemble.average`.

    Raises:
        ValueError: when the folder has no snapshots, fewer than `last`, or snapshots of another model; when the model
            is not built, or Keras cannot build it again.
    """
    return SnapshotFolder(folder).load(model, last)


def _read_index(file):
    remedy = "Remove the folder's snapshots and train again."
    index = read_json(file, "the index of snapshots", remedy)
    numbers = [index.get("ends"), index.get("done")]
    known = all(isinstance(row, list) and all(is_whole(one) and one >= 0 for one in row) for row in numbers)
    model = index.get("model", 0)
    if not known or not (
        model is None or (isinstance(model, dict) and isinstance(model.get("weights"), list))
    ):
        raise damaged(file, "the index of snapshots", "an entry is of another kind", remedy)
    return index


def _read_arrays(path):
    with Archive(path, "a snapshot written by SnapshotEnsemble", "Remove it and train again.") as archive:
        archive.verify()
        return [archive[f"arr_{place}"] for place in range(len(archive))]


def fingerprint(model: keras.Model) -> dict[str, Any]:
    """Kinds of layers and shapes of weights: what two builds of one model have in common."""
    return {
        "layers": [type(layer).__name__ for layer in layers_of(model)],
        "weights": [[list(weight.shape), weight.dtype] for weight in model.weights],
    }


def _check_model(model, index, path):
    if index["model"] is None or not model.built:
        return
    if index["model"] != json.loads(json.dumps(fingerprint(model))):
        theirs, ours = index["model"]["weights"], fingerprint(model)["weights"]
        raise ValueError(
            f"Snapshots expect the model they were taken from, with {len(theirs)} weights and its own layers. "
            f"Received {model.name!r}, with {len(ours)} weights, which differs. "
            "Build it as in that run, or give another folder."
        )


def _latest(numbers, last):
    if last is None:
        return numbers
    if not 1 <= last <= len(numbers):
        raise ValueError(
            f"Snapshots expect last between 1 and {len(numbers)}, the number of snapshots. Received last={last}. "
            "Leave it out for all."
        )
    return numbers[-last:]


def check_configuration(model: keras.Model) -> None:
    """Refuse a model, built or not, without a configuration from which a second one can be built.

    Raises:
        ValueError: for a subclassed model without `get_config`.
    """
    try:
        serialized(model)
    except NotImplementedError as error:
        raise _not_twice(f"{type(model).__name__} {model.name!r} has no get_config") from error


def same_build(model: keras.Model) -> keras.Model:
    """A second model of the same build, with new weights.

    Raises:
        ValueError: when Keras cannot build it again.
    """
    try:
        return rebuild(model)
    except ValueError as error:
        raise _not_twice(error) from error


def _not_twice(reason):
    return ValueError(
        f"Snapshots expect a model that Keras can build a second time. Received one where this fails: {reason}. "
        "Give it get_config and from_config, or build it from keras.Input."
    )
