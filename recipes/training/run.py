"""What a training run leaves behind: the model, its history and settings, in memory and in a folder."""

from __future__ import annotations

import html
import os
import warnings
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import keras

from recipes.common.files import (
    check_unpacked_size,
    damaged,
    read_json,
    write_atomically,
    write_json,
    write_text,
)
from recipes.common.history_table import history_table, read_history
from recipes.common.nearest import did_you_mean, nearest_path
from recipes.common.types import Data
from recipes.diagnose.finding import Finding, Findings
from recipes.diagnose.margins.example_history import ExampleHistory
from recipes.evaluate.classifier import classifier
from recipes.evaluate.evaluation import Evaluation
from recipes.inference.export import Exported
from recipes.inference.log_to import Tracker, log_run
from recipes.inference.of_run import (
    TRAINED_ON,
    data_of,
    export_run,
    labeled,
    labeled_folder,
    reading_of,
    trained_on,
)
from recipes.inference.predict import Predictions, predict
from recipes.optimizers import save_for_any_keras
from recipes.training.run_description import add_checksums, check_checksums
from recipes.training.run_folder import FILES, read_settings

if TYPE_CHECKING:
    from recipes.callbacks import SnapshotEnsemble
    from recipes.probe import Record


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
        train: The training data as it was given, for the report; None after `load`.
        validation: The validation data as it was given, for the report; None without, and after `load`.
        examples: The margins of each training example in the steps, for `diagnose.label_issues`; None without monitors,
            and where examples have no numbers, such as in a data set that shuffles and batches itself.
        class_names: Names of the classes, where `info` gave them.
        folder: The folder that it was loaded from; None without. Relative paths of its images are looked for beside it,
            as they lay when it was trained, and then in the working folder.
    """

    model: keras.Model
    history: dict[str, list[float]]
    findings: list[Finding] = field(default_factory=list)
    record: Record | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    snapshots: SnapshotEnsemble | None = None
    train: Data | None = None
    validation: Data | None = None
    examples: ExampleHistory | None = None
    class_names: tuple[str, ...] | None = None
    folder: Path | None = None

    def __post_init__(self) -> None:
        self.findings = Findings(self.findings)

    def __repr__(self) -> str:
        """One line: no arrays, of which a run holds many."""
        epochs = len(self.history.get("loss", ()))
        last = [
            f"{name} {values[-1]:.4g}" for name, values in self.history.items() if values and "/" not in name
        ]
        current = len(self.findings.current)
        said = f"{current} finding{'s' if current != 1 else ''}"
        if withdrawn := len(self.findings) - current:
            said += f" ({withdrawn} withdrawn)"
        where = [f"run_dir={self.settings['run_dir']!r}"] if self.settings.get("run_dir") else []
        name = "no model" if self.model is None else self.model.name
        return f"<Run: {', '.join([name, f'{epochs} epochs', *last, said, *where])}>"

    def _repr_html_(self) -> str:
        last = {name: values[-1] for name, values in self.history.items() if values and "/" not in name}
        head = "".join(f"<th>{html.escape(name)}</th>" for name in last)
        row = "".join(f"<td>{value:.4g}</td>" for value in last.values())
        epochs = max(map(len, self.history.values()), default=0)
        name, parameters = html.escape(self.model.name), self.model.count_params()
        said = f"<p><b>{name}</b>, {epochs} epochs, {parameters:,} parameters</p>"
        curves = ""
        if last:
            from recipes import plot  # noqa: PLC0415 - brings matplotlib
            from recipes.plot.inline import to_svg  # noqa: PLC0415 - brings matplotlib

            drawn = to_svg(plot.curves(self.history), "Curves of the run")
            curves = f'<table><tr>{head}</tr><tr>{row}</tr></table><div style="max-width:55em">{drawn}</div>'
        return said + self.findings._repr_html_() + curves

    def report(self, path: str | os.PathLike[str], **options: Any) -> Path:
        """Write one self-contained HTML page about the run: verdict, findings, curves, predictions, settings.

        Args:
            path: File to write, such as "report.html".
            **options: Arguments of `recipes.report.write_report`; `train`, `validation`, `files` and `class_names`
                default to the run's, which a loaded run reads again where its images are still what they were.
                `validation` may be a labeled folder.

        Returns:
            The `pathlib.Path` written.
        """
        from recipes.report import write_report  # noqa: PLC0415 - brings the page's libraries

        own: dict[str, Any] = {"train": self.train, "validation": self.validation}
        if self.train is None and (read := data_of(self)) is not None:
            *images, info = read
            given = ("train", "validation") if "validation" not in options else ("train",)
            own |= dict(zip(("train", "validation"), images, strict=True))
            own["files"] = {part: files for part, files in (info.files or {}).items() if part in given}
        known = {**own, "class_names": self.class_names, **options}
        known["validation"] = labeled(self, known["validation"])
        return write_report(self, path, **known)

    def predict(self, images: Any, **options: Any) -> Predictions:
        """Predict the classes of images, read, resized and cropped as the run's training images were.

        Args:
            images: A file, a folder, a pattern, a list of these, an array, or a `tf.data.Dataset`. Files that do not
                decode are left out with a warning, and listed in `.skipped` of the answer.
            **options: Arguments of `recipes.inference.predict`: `views`, `batch_size`, `on_error`.

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
                "Run.predict expects to know how the images of training were read. Received files, and a run that was "
                "trained without info=. Give arrays that are prepared as in training, or train with "
                "recipes.train(..., info=info), where info is what recipes.data.load returns."
            )
        known = {
            "class_names": self.class_names,
            "image_shape": shape,
            **reading_of(settings),
            "several": settings.get("task") == "multi_label",
        }
        return predict(self.model, images, **{**known, **options})

    def evaluate(
        self,
        test: Data | str | os.PathLike[str],
        *,
        labels: Any = None,
        on_error: Literal["raise", "skip"] = "raise",
        **options: Any,
    ) -> Evaluation:
        """Score the run's model on a test set: `recipes.evaluate.classifier`.

        Args:
            test: `tf.data.Dataset` of `(image, label)`, arrays `(images, labels)`, or a labeled folder, as `data.load`
                takes it: its images are read as the training images were.
            labels: The classes of the images of a folder, as in `data.load`; None takes the names of their sub-folders.
            on_error: "skip" leaves out images of a folder that cannot be read, and names them.
            **options: Arguments of `recipes.evaluate.classifier`.

        Warns:
            UserWarning: when images of a folder are among those that the run was trained on, or exact copies of them,
                as far as these are still where they were.

        Raises:
            ValueError: for a folder, when the run does not know its classes and how its images were read; for `labels`
                without a folder.
        """
        if isinstance(test, (str, os.PathLike)):
            folder, test = test, labeled_folder(self, test, labels=labels, on_error=on_error, verbose=0)
            if (said := trained_on(self, folder, test)).startswith(TRAINED_ON):
                warnings.warn(f"Run.evaluate: {said}.", stacklevel=2)
        elif labels is not None:
            raise ValueError(
                f"Run.evaluate expects labels= only with a folder of images. Received it with {type(test).__name__}. "
                "Give arrays as (images, labels)."
            )
        return classifier(self, test, **options)

    def export(
        self,
        path: str | os.PathLike[str],
        *,
        calibrated: bool | Data | str | os.PathLike[str] = False,
        int8: bool = False,
        examples: Data | str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> Exported:
        """Write the model for other programs, load the file again, and compare up to 32 images with Keras.

        Args:
            path: "model.tflite" (LiteRT), "model.onnx", or the name of a folder for a SavedModel.
            calibrated: Include a temperature that is fitted on these examples (`evaluate.calibrate`). True takes the
                run's validation data, also for a loaded run, as long as the folder of its images is unchanged. A run
                whose model already has a temperature exports it in any case.
            int8: TFLite with 8-bit integers; refused where that changes the accuracy by more than one percentage point.
            examples: Labeled images, or a folder of them, to compare, score and find ranges on; None takes the run's
                validation data, or, where that is not known any more, the test part of the folder that it was trained
                on, or all of it.
            **options: Arguments of `inference.export`.

        Returns:
            `inference.Exported`, with `.path`, `.description`, `.difference`, `.accuracy`.

        Raises:
            ValueError, inference.ExportError: as `inference.export`.
        """
        return export_run(self, path, calibrated=calibrated, int8=int8, examples=examples, **options)

    def log_to(self, to: Tracker, *, name: str | None = None, **options: Any) -> Any:
        """Write settings, every epoch's history, findings and curves into a tracking tool: `inference.log_run`.

        Args:
            to: "wandb", "mlflow" or "tensorboard".
            name: Name of the run in that tool; None takes the name of its folder.
            **options: Arguments of `inference.log_run`, such as `project=`, `tracking_uri=`, `folder=`.

        Returns:
            The id of the run in the tool; for tensorboard the folder, a `pathlib.Path`.

        Raises:
            ValueError, ImportError: as `inference.log_run`.
        """
        return log_run(self, to, name=name, **options)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `model.keras`, `history.csv`, `curves.png`, `findings.json`, `record.npz`, `run.json` into a folder.

        Args:
            folder: Made when it does not exist.

        Raises:
            ValueError: when the folder holds another run or files of these names; nothing is overwritten.
        """
        folder = Path(folder)
        held = [name for name in FILES if os.path.lexists(folder / name)]
        if held:
            raise ValueError(
                f"Run.save expects a folder without a run in it. Received {folder}, which holds {', '.join(held)}. "
                "Give another folder, or remove that one."
            )
        self.write(folder)

    def write(self, folder: str | os.PathLike[str], *, finished: bool = True) -> None:
        """Like `save`, but replace the files of an earlier state of this run; `finished=False` lets it be resumed."""
        from recipes import plot  # noqa: PLC0415 - brings matplotlib

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "model.keras", lambda path: save_for_any_keras(self.model, path))
        write_text(folder / "history.csv", history_table(self.history))
        if self.history:
            figure = plot.curves(self.history)
            write_atomically(folder / "curves.png", lambda path: figure.savefig(path, dpi=100))
        if self.record is not None:
            write_atomically(folder / "record.npz", self.record.save)
        if self.examples is not None:
            write_atomically(folder / "examples.npz", self.examples.save)
        write_json(folder / "findings.json", [finding.to_dict() for finding in self.findings])
        described = {**self.settings, "finished": finished}
        described = add_checksums(folder, described) if finished else described
        write_json(folder / "run.json", described, sealed=True)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, best: bool = False) -> Run:
        """Read what `save`, or `recipes.train(run_dir=...)`, wrote.

        Args:
            folder: A folder with `model.keras`, `history.csv` and `run.json`.
            best: Whether the model is that of `best.keras`, the epoch with the lowest validation loss, and not that of
                the end of the training. All else is of the whole run. Scores on the data that chose the epoch are a
                little too good.

        Returns:
            A `Run`. Models with custom classes need those registered with Keras beforehand.

        Raises:
            ValueError: when a file is missing, as in a run that did not finish, or `best.keras` where there is none.
            DamagedFileError: when a file is not as it was written.
        """
        folder = Path(folder)
        if not folder.is_dir():
            near = nearest_path(folder, lambda path: os.path.exists(os.path.join(path, "run.json")))
            raise ValueError(
                f"Run.load expects the folder of a finished run. Received {folder}, which is not a folder. Correct the "
                f"path.{did_you_mean(near)}"
            )
        missing = [
            name for name in ("model.keras", "history.csv", "run.json") if not (folder / name).exists()
        ]
        if missing:
            raise ValueError(
                f"Run.load expects a finished run. Received {folder}, without {', '.join(missing)}. "
                "Finish it with recipes.train(..., run_dir=that folder, resume=True)."
            )
        if best and not (folder / "best.keras").exists():
            raise ValueError(
                f"Run.load expects best.keras with best=True. Received {folder}, which holds none: nothing was "
                "validated, or Run.save wrote it. Leave best=True out for the model at the end of the training."
            )
        settings = read_settings(folder)
        gone = check_checksums(folder, settings)
        if gone:
            warnings.warn(
                f"Run.load expects all files of the finished run in {folder}. Received it without {', '.join(gone)}, "
                "whose content is missing from the run. Put copies of them back if you have any.",
                stacklevel=2,
            )
        names = settings.get("class_names")
        from recipes.probe import Record  # noqa: PLC0415 - not loaded by a run without monitors

        return cls(
            model=_read_model(folder / ("best.keras" if best else "model.keras")),
            history=read_history(folder / "history.csv"),
            findings=_read_findings(folder / "findings.json"),
            record=Record.load(folder / "record.npz") if (folder / "record.npz").exists() else None,
            settings=settings,
            examples=ExampleHistory.load(folder / "examples.npz")
            if (folder / "examples.npz").exists()
            else None,
            class_names=tuple(map(str, names)) if isinstance(names, list) and names else None,
            folder=folder,
        )


def _read_model(path):
    remedy = "Put a copy of the file back, or train again in a new run_dir."
    try:
        with zipfile.ZipFile(path) as archive:
            check_unpacked_size(path, archive)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise damaged(path, "a model saved by Keras", str(error), remedy) from error
    try:
        # No code from a file, unless the user has told Keras that they trust their files.
        return keras.saving.load_model(path, safe_mode=True)
    except (EOFError, KeyError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise damaged(path, "a model saved by Keras", str(error).partition("\n")[0], remedy) from error


def _read_findings(path):
    if not path.exists():
        return []
    remedy = "Remove the file to load the run without its findings."
    entries = read_json(path, "the findings of a run", remedy, list)
    try:
        return [Finding.from_dict(values) for values in entries]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise damaged(path, "the findings of a run", f"{type(error).__name__}: {error}", remedy) from error


def load_run(folder: str | os.PathLike[str], *, best: bool = False) -> Run:
    """Read a finished run from its folder; the same as `Run.load`.

    Args:
        folder: A folder with `model.keras`, `history.csv` and `run.json`, such as a `run_dir`.
        best: Whether to take the model of the epoch with the lowest validation loss, `best.keras`.

    Returns:
        A `Run`.

    Raises:
        ValueError: as `Run.load`.
    """
    return Run.load(folder, best=best)
