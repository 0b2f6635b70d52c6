"""What a training run leaves behind: the model, its history and settings, in memory and in a folder."""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from recipes._version import __version__
from recipes.common.files import write_atomically, write_text
from recipes.common.types import Data
from recipes.diagnose.finding import Finding
from recipes.evaluate.classifier import Evaluation, classifier
from recipes.inference.predict import Predictions, predict
from recipes.probe import Record
from recipes.training.settings import Settings
from recipes.training.source import Source

if TYPE_CHECKING:
    from recipes.callbacks import SnapshotEnsemble

# All that a run writes into its folder, beside `snapshots/`.
_FILES = (
    "run.json",
    "model.keras",
    "best.keras",
    "backup.npz",
    "history.csv",
    "curves.png",
    "findings.json",
    "record.npz",
)


@dataclass
class Run:
    """The outcome of `recipes.train`.

    Attributes:
        model: A plain `keras.Model`.
        history: dict of lists, one entry per epoch: `loss`, `val_loss`, metrics, `learning_rate`.
        findings: What was found wrong, most serious first; an empty list when nothing was.
        record: What the monitors saw inside the training steps, or None without monitors.
        settings: dict of every argument, versions and the seed, as in `run.json`.
        snapshots: The `callbacks.SnapshotEnsemble` of a run with `snapshots=`, for `.members` and `.ensemble()`; None
            without, and after `load`.
        validation: The validation data as it was given, for the report; None without, and after `load`.
        class_names: Names of the classes, where `info` said them.
    """

    model: keras.Model
    history: dict[str, list[float]]
    findings: list[Finding] = field(default_factory=list)
    record: Record | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    snapshots: SnapshotEnsemble | None = None
    validation: Data | None = None
    class_names: tuple[str, ...] | None = None

    def report(self, path: str | os.PathLike[str], **options: Any) -> Path:
        """Write one self-contained HTML page about the run: verdict, findings, curves, predictions, settings.

        Args:
            path: File to write, such as "report.html".
            **options: Of `recipes.report.write_report`; `validation` and `class_names` default to the run's own.

        Returns:
            The `pathlib.Path` written.
        """
        from recipes.report import write_report  # noqa: PLC0415 - brings the page's libraries

        return write_report(
            self, path, **{"validation": self.validation, "class_names": self.class_names, **options}
        )

    def predict(self, images: Any, **options: Any) -> Predictions:
        """Predict the classes of images, read, resized and cropped as those the run was trained on.

        Args:
            images: A file, a folder, a pattern, a list of these, an array, or a `tf.data.Dataset`.
            **options: Of `recipes.inference.predict`: `views`, `batch_size`, `on_error`.

        Returns:
            `inference.Predictions`, with `.labels`, `.probabilities`, `.top(k)`, `.table()`, `.to_csv()`, `.to_json()`.

        Raises:
            ValueError: for files, when the run does not know how its images were read.
        """
        settings = self.settings
        paths = images if isinstance(images, (list, tuple)) else [images]
        from_files = any(isinstance(path, (str, os.PathLike)) for path in paths)
        shape = tuple(settings.get("image_shape") or ()) or None
        if from_files and settings.get("class_names") is None:
            raise ValueError(
                "Run.predict expects to know how the images of training were read. Received files, and a run without "
                "info=, whose data came from elsewhere. Give arrays that are prepared as in training, or train with "
                "recipes.train(..., info=info), where info is what recipes.data.load returns."
            )
        known = {
            "class_names": self.class_names,
            "image_shape": shape,
            "fit": settings.get("fit") or "crop",
            "background": tuple(settings.get("background") or ()) or "white",
            "several": settings.get("task") == "multi_label",
        }
        return predict(self.model, images, **{**known, **options})

    def evaluate(self, test: Data, **options: Any) -> Evaluation:
        """Score the run's model on a test set: `recipes.evaluate.classifier`.

        Args:
            test: `tf.data.Dataset` of `(image, label)`, or such arrays.
            **options: Of `recipes.evaluate.classifier`.
        """
        return classifier(self, test, **options)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `model.keras`, `history.csv`, `curves.png`, `findings.json`, `record.npz` and `run.json` into a folder.

        Args:
            folder: Made when it does not exist.

        Raises:
            ValueError: when the folder holds another run or files of these names; nothing is overwritten.
        """
        folder = Path(folder)
        held = _files_of_a_run(folder)
        if held:
            raise ValueError(
                f"Run.save expects a folder without a run in it. Received {folder}, which holds {', '.join(held)}. "
                "Give another folder, or remove that one."
            )
        self.write(folder)

    def write(self, folder: str | os.PathLike[str], *, finished: bool = True) -> None:
        """As `save`, over what an earlier state of the same run left in the folder; unfinished, it can be resumed."""
        from recipes import plot  # noqa: PLC0415 - brings matplotlib

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "model.keras", self.model.save)
        write_history(folder / "history.csv", self.history)
        if self.history:
            figure = plot.curves(self.history)
            write_atomically(folder / "curves.png", lambda path: figure.savefig(path, dpi=100))
        if self.record is not None:
            write_atomically(folder / "record.npz", self.record.save)
        findings = [finding.to_dict() for finding in self.findings]
        write_text(folder / "findings.json", json.dumps(findings, indent=2, ensure_ascii=False) + "\n")
        write_settings(folder, {**self.settings, "finished": finished})

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Run:
        """Read what `save`, or `recipes.train(run_dir=...)`, wrote.

        Args:
            folder: A folder with `model.keras`, `history.csv` and `run.json`.

        Returns:
            A `Run`. Models with custom classes need those registered with Keras beforehand.

        Raises:
            ValueError: when a file is missing or the run did not finish.
        """
        folder = Path(folder)
        missing = [
            name for name in ("model.keras", "history.csv", "run.json") if not (folder / name).exists()
        ]
        if missing:
            raise ValueError(
                f"Run.load expects a finished run. Received {folder}, without {', '.join(missing)}. "
                "Finish it with recipes.train(..., run_dir=that folder, resume=True)."
            )
        findings, record = folder / "findings.json", folder / "record.npz"
        settings = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        return cls(
            # No code from a file, unless the reader has told Keras that they trust their files.
            model=keras.saving.load_model(folder / "model.keras", safe_mode=True),
            history=read_history(folder / "history.csv"),
            findings=[
                Finding.from_dict(values)
                for values in (json.loads(findings.read_text(encoding="utf-8")) if findings.exists() else [])
            ],
            record=Record.load(record) if record.exists() else None,
            settings=settings,
            class_names=tuple(settings["class_names"]) if settings.get("class_names") else None,
        )


def load_run(folder: str | os.PathLike[str]) -> Run:
    """Read a finished run from its folder; the same as `Run.load`."""
    return Run.load(folder)


def history_of(rows: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    """Turn one dict of logs per epoch into a dict of lists of one length; what an epoch did not log is NaN."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: [float(row.get(name, math.nan)) for row in rows] for name in names}


def write_history(path: Path, history: dict[str, list[float]]) -> None:
    """One row an epoch, one column a metric, `epoch` counted from 1: `(path, history)`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["epoch", *history])
    writer.writerows([epoch, *row] for epoch, row in enumerate(zip(*history.values(), strict=True), start=1))
    write_text(path, text.getvalue())


def read_history(path: Path) -> dict[str, list[float]]:
    """The dict of lists that `write_history` wrote."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in (rows[0] if rows else {}) if name != "epoch"]
    return {name: [float(row[name]) for row in rows] for name in names}


def write_settings(folder: Path, settings: dict[str, Any]) -> None:
    """`run.json`: every argument of the run, versions and the seed."""
    write_text(Path(folder) / "run.json", json.dumps(settings, indent=2, ensure_ascii=False) + "\n")


def open_folder(settings: Settings) -> Path | None:
    """The folder of a run, made when it is new, refused when it holds another run: a Path, or None for None."""
    if settings.run_dir is None:
        return None
    folder = Path(settings.run_dir)
    file = folder / "run.json"
    if file.exists() and not settings.resume:
        raise ValueError(
            f"recipes.train expects a run_dir without a run in it. Received {folder}, which holds run.json. "
            "Give resume=True to go on with that run, or another folder."
        )
    held = _files_of_a_run(folder)
    if held and not file.exists():
        # run.json is the first file of a run, so these are somebody else's.
        raise ValueError(
            f"recipes.train expects a run_dir without files of the names it writes. Received {folder}, which holds "
            f"{', '.join(held)} and no run.json. Give another folder, or move them away."
        )
    if file.exists():
        before = json.loads(file.read_text(encoding="utf-8"))
        for name, value in (("epochs", settings.epochs), ("seed", settings.seed)):
            if before.get(name) != value:
                raise ValueError(
                    f"resume expects the settings of the run in {folder}, {name}={before.get(name)}. Received "
                    f"{name}={value}. Give the same, or start a new run_dir."
                )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        allowed = os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)
    except PermissionError:
        allowed = False
    if not allowed:
        raise PermissionError(
            errno.EACCES,
            f"recipes.train expects a run_dir it may write to. Received {folder}, which is read-only. "
            "Give another folder",
        )
    for name in _FILES:
        # Of a process that was killed while writing.
        (folder / f".part-{name}").unlink(missing_ok=True)
    return folder


def _files_of_a_run(folder):
    return [name for name in _FILES if (folder / name).exists()]


def is_finished(folder: Path) -> bool:
    """Whether the run in a folder came to its end."""
    settings = folder / "run.json"
    return settings.exists() and json.loads(settings.read_text(encoding="utf-8")).get("finished", False)


def describe(settings: Settings, model: keras.Model, source: Source, steps: int) -> dict[str, Any]:
    """Settings as JSON: plain values as they are, objects by their class and configuration."""

    def plain(value):
        if isinstance(value, (str, bool, int, float, type(None))):
            return value
        if isinstance(value, dict):
            return {str(key): plain(entry) for key, entry in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(entry) for entry in value]
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        return repr(value) if not hasattr(value, "get_config") else type(value).__name__

    info = settings.info
    return {
        **{name: plain(value) for name, value in settings.arguments().items() if name != "info"},
        "data": getattr(info, "source", None),
        "class_names": list(info.class_names) if info is not None else None,
        "task": getattr(info, "task", None),
        "fit": getattr(info, "fit", None),
        "background": plain(getattr(info, "background", None)),
        "model": model.name,
        "parameters": int(model.count_params()),
        "examples": source.examples,
        "steps": steps,
        "image_shape": list(source.image_shape or ()),
        "versions": {
            "keras-recipes": __version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
