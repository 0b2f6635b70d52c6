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
from recipes.checkpoints.callback_state import CallbackStates
from recipes.checkpoints.run_state import RunState, is_broken, restore_callbacks, restore_metrics, row_of
from recipes.common.files import write_atomically
from recipes.common.optimizers import accumulation, groups, innermost, schedule_of
from recipes.training.interruption import EXIT_SIGTERM, BackgroundWriter, Termination, Timetable, make_room
from recipes.training.run import history_of, write_history
from recipes.training.run_folder import RunFolder
from recipes.training.settings import Settings
from recipes.training.training_data import TrainingData


def training_callbacks(
    model: keras.Model, data: TrainingData, settings: Settings, folder: RunFolder | None
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
        where = folder.path / "snapshots" if folder is not None else None
        cycles = ours.SnapshotEnsemble(settings.snapshots, folder=where, overwrite=bool(settings.resume))
        return [cycles], f"{settings.snapshots} cosine cycles"
    if schedule is None:
        return [], "constant"
    if not given and schedule_of(model.optimizer) is not None:
        return [], "the optimizer's own"
    if not given and len(groups(model.optimizer)) > 1:
        return [], "none: each optimizer keeps its own rate"
    if not given and type(innermost(model.optimizer)).__name__ == "ScheduleFreeAdamW":
        return [], "none: ScheduleFreeAdamW keeps its own rate"
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


@dataclass(frozen=True)
class Progress:
    """How far the run has come that goes on.

    Attributes:
        file: The backup it goes on from; None for a new run.
        epoch: Epochs finished.
        batch: Batches of the next epoch that are finished.
        rows: What `row_of` made of each finished epoch.
        rate: The peak rate, where another than that of the interrupted run is wanted.
    """

    file: Path | None = None
    epoch: int = 0
    batch: int = 0
    rows: Sequence[dict[str, float]] = ()
    rate: float | None = None


class RunBackup(keras.callbacks.Callback):
    """What `callbacks.Backup` is to a plain `fit`, for a run_dir: after each epoch `best.keras`, `history.csv`, backup.

    Last in the list of callbacks, so that it sees every log. `recipes.train` restores weights and optimizer itself,
    as the number of the epoch and batch decides what data `fit` is given. Backups are written by a thread of their own,
    from a copy. SIGTERM ends the step that is being made, writes a backup and leaves with status 143.

    Args:
        folder: The run_dir, or None to keep the rows alone.
        callbacks: The others of the run.
        progress: How far the run has come.
        settings: The arguments of `recipes.train`.
    """

    def __init__(
        self,
        folder: RunFolder | None,
        callbacks: Sequence[keras.callbacks.Callback],
        progress: Progress,
        settings: Settings,
    ) -> None:
        super().__init__()
        self.folder, self.others, self.progress = folder, list(callbacks), progress
        self.rows = list(progress.rows)
        self._keep, self._states = settings.keep, CallbackStates(self.others)
        self._timetable = Timetable(settings.backup_every if folder is not None else None)
        self._termination, self._writer = Termination(), BackgroundWriter()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._epoch, self._waiting = self.progress.epoch, self.progress.batch > 0
        self._states.training_begins()
        if self.progress.file is not None:
            # Those without set_state take up their attributes where these were written: after on_epoch_begin.
            told = {"compiled_rate": self.progress.rate} if self.progress.rate is not None else None
            restore_callbacks(
                self.progress.file, self._states, own=True if self._waiting else None, told=told
            )
        if self.folder is not None:
            self._termination.listen()
        self._timetable.written()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch, self._done = epoch, 0
        if self._waiting:
            self._waiting, self._done = False, self.progress.batch
            restore_callbacks(self.progress.file, self._states, own=False)
            restore_metrics(self.progress.file, self.model)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        steps, self._done = batch + 1 - self._done, batch + 1
        due = self._timetable.is_due(steps)
        if not (due or self._termination.wished) or not self._may_stop_here():
            return
        self._save(epoch=self._epoch, batch=self._done)
        if self._termination.wished:
            self.leave()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.rows.append(row_of(logs))
        for name in [name for name in logs or () if name.startswith("monitor/")]:
            del logs[name]  # kept in the rows; a dozen numbers more would bury the progress line
        if self.folder is None:
            return
        watched = "val_loss" if "val_loss" in self.rows[-1] else "loss"
        losses = [row.get(watched, np.inf) for row in self.rows]
        if losses[-1] <= np.nanmin(losses):
            write_atomically(self.folder.path / "best.keras", self.model.save)
        write_history(self.folder.path / "history.csv", history_of(self.rows))
        self._save(epoch=epoch + 1)
        if self._termination.wished:
            self.leave()

    def leave(self) -> None:
        """End the process as SIGTERM asks, with everything written."""
        self._writer.wait()
        raise SystemExit(EXIT_SIGTERM)

    def release(self) -> None:
        """When `fit` is over, however it ended: give the signal back, and finish what is being written."""
        self._termination.stop_listening()
        self._writer.wait()

    def finish(self) -> None:
        """Keep the last state of a run that came to its end, for a run that shall go on longer."""
        if not self.broken:
            self.folder.keep_last()

    @property
    def broken(self) -> bool:
        """Whether the run was stopped at numbers that are not finite."""
        return is_broken(self.others)

    def _may_stop_here(self):
        """Not between the batches of one update, nor before the epoch's own end, which has a backup of its own."""
        whole = self._done % accumulation(self.model.optimizer) == 0
        return self.folder is not None and whole and self._done < self.params["steps"]

    def _save(self, *, epoch, batch=0):
        if self.broken:
            return
        file = self.folder.path / "backup.npz"
        state = RunState.of(self.model, self._states, epoch=epoch, batch=batch, history=self.rows)
        self._writer.write(state, file, lambda: make_room(file, self._keep))
        self._timetable.written()
