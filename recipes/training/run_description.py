"""What run.json says of a run: everything that determines its result, and the checksums of its files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import keras

from recipes.checkpoints.comparison import architecture, loss_settings, optimizer_settings, plain, versions
from recipes.common.files import checksum, damaged
from recipes.training.run_folder import FILES, FORMAT
from recipes.training.settings import Settings
from recipes.training.training_data import TrainingData


def describe(
    settings: Settings, model: keras.Model, data: TrainingData, fingerprints: dict[str, Any]
) -> dict[str, Any]:
    """Everything that determines the result of a run, as `run.json` keeps it.

    Args:
        settings: The arguments of `recipes.train`.
        model: The model, compiled or not.
        data: The data of the run.
        fingerprints: The fingerprints of the training and validation data, by name.
    """
    info = settings.info
    compiled = {}
    if model.compiled:
        compiled = {"compiled": optimizer_settings(model.optimizer), "compiled_loss": loss_settings(model)}
    return {
        "format": FORMAT,
        **{name: plain(value) for name, value in settings.arguments().items() if name != "info"},
        "data": getattr(info, "source", None),
        "class_names": list(info.class_names) if info is not None else None,
        "task": getattr(info, "task", None),
        "fit": getattr(info, "fit", None),
        "background": plain(getattr(info, "background", None)),
        "model": model.name,
        "parameters": int(model.count_params()) if model.built else None,
        "examples": data.source.examples,
        "steps": data.steps,
        "image_shape": list(data.source.image_shape or ()),
        **compiled,
        **fingerprints,
        "architecture": architecture(model),
        "versions": versions(),
    }


def add_checksums(folder: Path, description: dict[str, Any]) -> dict[str, Any]:
    """The description with the SHA-256 of every file of the finished run."""
    files = [name for name in FILES if name != "run.json" and (folder / name).is_file()]
    files += sorted(path.name for path in folder.glob("best-*.npz"))
    files += sorted(str(path.relative_to(folder)) for path in folder.glob("snapshots/snapshot*"))
    return {**description, "checksums": {name: checksum(folder / name) for name in files}}


def check_checksums(folder: Path, settings: dict[str, Any]) -> list[str]:
    """Compare the files of a run with their checksums in `run.json`; pictures, which nothing reads, are left out.

    Returns:
        Names of files that the finished run had and that are missing now.

    Raises:
        DamagedFileError: for a file that is not as it was written.
    """
    sums, gone = settings.get("checksums"), []
    for name, expected in sums.items() if isinstance(sums, dict) else ():
        file = folder / name
        if (
            not _is_of_a_run(name) or file.suffix == ".png"
        ):  # run.json may not lead to a path outside the folder
            continue
        if not file.is_file():
            gone.append(name)
        elif checksum(file) != expected:
            raise damaged(
                file,
                f"the {name} of a finished run",
                "its SHA-256 is not the one in run.json",
                "Put a copy of the file back, or remove checksums and sha256 from run.json to read it as it is.",
            )
    return gone


def _is_of_a_run(name):
    return name in FILES or re.fullmatch(r"best-\d+\.npz|snapshots/snapshot[\w.]+", name) is not None
