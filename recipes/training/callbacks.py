"""The callbacks that `recipes.train` adds for its arguments: stopping, rate, averages, monitors, backups."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from recipes import callbacks as ours
from recipes import diagnose
from recipes.callbacks.monitor import Monitor
from recipes.checkpoints.run_state import is_broken, restore_callbacks, row_of, save_backup
from recipes.common.files import write_atomically
from recipes.common.optimizers import schedule_of
from recipes.training.run import history_of, write_history
from recipes.training.settings import Settings
from recipes.training.training_data import TrainingData


def training_callbacks(
    model: keras.Model, data: TrainingData, settings: Settings, folder: Path | None
) -> TrainingCallbacks:
    """The callbacks that act on the training: averages, stopping, the rate, and the user's own."""
    rate, schedule = _rate_callbacks(model, settings, folder)
    callbacks = [*_averaging(data, settings), *_stopping(data, settings), *rate, *settings.callbacks]
    return TrainingCallbacks(callbacks, schedule)


@dataclass(frozen=True)
class TrainingCallbacks:
    """What acts on the training, in the order `fit` gets it, and what drives the rate, in words."""

    callbacks: list[keras.callbacks.Callback]
    schedule: str

    @property
    def snapshots(self) -> ours.SnapshotEnsemble | None:
        """The callback that keeps snapshots, if any."""
        return first_of(self.callbacks, ours.SnapshotEnsemble)


def first_of(callbacks: Sequence[keras.callbacks.Callback], kind: type) -> Any:
    """The first callback of a class, or None."""
    return next((callback for callback in callbacks if isinstance(callback, kind)), None)


def _stopping(data, settings):
    stopping = settings.early_stopping
    if stopping is None:
        return []
    if isinstance(stopping, keras.callbacks.Callback):
        return [stopping]
    return [ours.EarlyStopping("loss" if data.validation is None else "val_loss", patience=stopping)]


def _rate_callbacks(model, settings, folder):
    """The callback that drives the rate, if any, and the name of what it does."""
    schedule, given = settings.schedule, "schedule" in settings.given
    if settings.snapshots:
        if not given and settings.verbose != 0:
            print(
                f"recipes.train: the cyclic rate of snapshots={settings.snapshots} replaces schedule={schedule!r}."
            )
        where = folder / "snapshots" if folder is not None else None
        cycles = ours.SnapshotEnsemble(settings.snapshots, folder=where, overwrite=settings.resume)
        return [cycles], f"{settings.snapshots} cosine cycles"
    if schedule is None:
        return [], "constant"
    if not given and schedule_of(model.optimizer) is not None:
        return [], "the optimizer's own"
    if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        return [ours.LearningRate(schedule)], type(schedule).__name__
    if settings.average == "swa" and not given:
        # Izmailov et al. 2018: the weights only differ, and averaging only helps, while the rate stays high.
        high = ours.WarmupDecay(warmup=settings.warmup, decay="cosine", until=0.75, final=0.3)
        return [high], "cosine, then high for swa"
    return [ours.WarmupDecay(warmup=settings.warmup, decay=schedule)], schedule


def _averaging(data, settings):
    if settings.average is None:
        return []
    if settings.average == "ema":
        steps = data.steps * settings.epochs
        return [ours.ExponentialMovingAverage(1 - 1 / min(1000, max(10, steps / 10)))]
    return [ours.StochasticWeightAveraging(data=data.for_statistics())]


def preflight_facts(model: keras.Model, data: TrainingData, settings: Settings) -> Any:
    """Run the checks for five seconds; what they learned of model and data, or None where they could not run."""
    if not settings.preflight:
        return None
    train, validation = data.preview(), data.validation_preview()
    try:
        return diagnose.preflight(
            model, train, validation, seconds=5.0, verbose=int(settings.verbose != 0)
        ).facts
    except Exception as error:
        # A check that fails on an unusual model shall not keep it from being trained.
        warnings.warn(
            f"recipes.train could not run its checks before training ({type(error).__name__}: {error}). It trains "
            "without them; preflight=False leaves them out.",
            stacklevel=3,
        )
        return None


def watching_callbacks(
    others: Sequence[keras.callbacks.Callback], facts: Any, data: TrainingData, settings: Settings
) -> list[keras.callbacks.Callback]:
    """The default monitors and a doctor, each unless the user brings one; none without `monitor`."""
    if not settings.monitor:
        return []
    # Small initial weights and the end of a decay are outside its range in healthy runs too.
    ratios = [] if first_of(others, ours.UpdateRatioMonitor) else [ours.UpdateRatioMonitor(warn=False)]
    monitors = [*ratios, *ours.default_monitors(beside=[*others, *ratios])]
    if first_of(others, ours.TrainingDoctor) is None:
        known = (
            {"train": data.preview(), "validation": data.validation_preview()}
            if facts is None
            else {"facts": facts}
        )
        monitors.append(ours.TrainingDoctor(verbose=int(settings.verbose != 0), budget=0.01, **known))
    return monitors


def clean_up(callbacks: Sequence[keras.callbacks.Callback]) -> None:
    """Put back the optimizer's rate and the train function after a `fit` that broke off, without `on_train_end`."""
    for callback in callbacks:
        if isinstance(callback, ours.RateDriver):
            callback.release()
        elif isinstance(callback, Monitor):
            callback.leave()


def findings_of(
    callbacks: Sequence[keras.callbacks.Callback], history: dict[str, list[float]], model: keras.Model
) -> list[diagnose.Finding]:
    """What the doctor found; without one, what curves and model say."""
    doctor = first_of(callbacks, ours.TrainingDoctor)
    if doctor is not None:
        return doctor.findings
    try:
        return diagnose.diagnose(history, None, model)
    except Exception as error:
        # Hours of training shall not be lost to their judgement.
        warnings.warn(
            f"recipes.train could not diagnose the finished run ({type(error).__name__}: {error}). The run itself is "
            "whole; please report this with the model.",
            stacklevel=3,
        )
        return []


class RunBackup(keras.callbacks.Callback):
    """What `callbacks.Backup` is to a plain `fit`, for a run_dir: after each epoch `best.keras`, `history.csv`, backup.

    Last in the list of callbacks, so that it sees every log. `recipes.train` restores weights and optimizer itself,
    as the number of the epoch decides what data `fit` is given.

    Args:
        folder: The run_dir, or None to keep the rows alone.
        callbacks: The others of the run.
        rows: What `recipes.backup.row_of` made of the epochs before; empty for a new run.
    """

    def __init__(
        self,
        folder: Path | None,
        callbacks: Sequence[keras.callbacks.Callback],
        rows: Sequence[dict[str, float]],
    ) -> None:
        super().__init__()
        self.folder, self.others = folder, list(callbacks)
        self.file = folder / "backup.npz" if folder is not None else None
        self.rows, self.resumed = list(rows), bool(rows)

    def on_train_begin(self, logs=None):
        if self.resumed:
            restore_callbacks(self.file, self.others)

    def on_epoch_end(self, epoch, logs=None):
        self.rows.append(row_of(logs))
        for name in [name for name in logs or () if name.startswith("monitor/")]:
            del logs[name]  # kept in the rows; a dozen numbers more would bury the progress line
        if self.folder is None:
            return
        watched = "val_loss" if "val_loss" in self.rows[-1] else "loss"
        losses = [row.get(watched, np.inf) for row in self.rows]
        if losses[-1] <= np.nanmin(losses):
            write_atomically(self.folder / "best.keras", self.model.save)
        write_history(self.folder / "history.csv", history_of(self.rows))
        if not self.broken:
            save_backup(self.file, self.model, self.others, epoch=epoch + 1, history=self.rows)

    def finish(self) -> None:
        """Remove the backup of a run that came to its end."""
        if not self.broken:
            self.file.unlink(missing_ok=True)

    @property
    def broken(self) -> bool:
        """Whether the run was stopped at numbers that are not finite."""
        return is_broken(self.others)
