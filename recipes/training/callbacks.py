"""The callbacks that `recipes.train` adds for its arguments: stopping, rate, averages, monitors, backups."""

import warnings

import keras
import numpy as np

from recipes import callbacks as ours
from recipes import diagnose
from recipes.callbacks.monitor import Monitor
from recipes.checkpoints.run_state import is_broken, restore_callbacks, row_of, save_backup
from recipes.common.files import write_atomically
from recipes.common.optimizers import schedule_of
from recipes.training.compiling import given
from recipes.training.run import history_of, write_history
from recipes.training.source import stream


def stopping(early_stopping, held_out):
    if early_stopping is None:
        return []
    if isinstance(early_stopping, keras.callbacks.Callback):
        return [early_stopping]
    return [ours.EarlyStopping("val_loss" if held_out is not None else "loss", patience=early_stopping)]


def rate_callbacks(model, schedule, warmup, snapshots, average, folder, resume, verbose):
    """The callback that drives the rate, if any, and the name of what it does."""
    inside = schedule_of(model.optimizer) is not None
    if snapshots:
        if given(schedule) and verbose != 0:
            print(f"recipes.train: the cyclic rate of snapshots={snapshots} replaces schedule={schedule!r}.")
        where = folder / "snapshots" if folder is not None else None
        return [
            ours.SnapshotEnsemble(snapshots, folder=where, overwrite=resume)
        ], f"{snapshots} cosine cycles"
    if schedule is None or (inside and not given(schedule)):
        return [], "constant" if schedule is None else "the optimizer's own"
    if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        return [ours.LearningRate(schedule)], type(schedule).__name__
    if average == "swa" and not given(schedule):
        # Izmailov et al. 2018: the weights only differ, and averaging only helps, while the rate stays high.
        return [
            ours.WarmupDecay(warmup=warmup, decay="cosine", until=0.75, final=0.3)
        ], "cosine, then high for swa"
    return [ours.WarmupDecay(warmup=warmup, decay=str(schedule))], str(schedule)


def averaging(average, steps, data):
    if average is None:
        return []
    if average == "ema":
        return [ours.ExponentialMovingAverage(1 - 1 / min(1000, max(10, steps / 10)))]
    return [ours.StochasticWeightAveraging(data=data())]


def preflight_facts(model, train, validation, verbose):
    """Run the checks for five seconds; what they learned of model and data, or None where they could not run."""
    try:
        return diagnose.preflight(model, train, validation, seconds=5.0, verbose=int(verbose != 0)).facts
    except Exception as error:
        # A check that fails on an unusual model shall not keep it from being trained.
        warnings.warn(
            f"recipes.train could not run its checks before training ({type(error).__name__}: {error}). It trains "
            "without them; preflight=False leaves them out.",
            stacklevel=3,
        )
        return None


def watching(others, facts, train, validation, verbose):
    """The default monitors and a doctor, each unless the reader brings one."""
    monitors = ours.default_monitors(beside=others)
    for monitor in monitors:
        if isinstance(monitor, ours.UpdateRatioMonitor):
            # Small initial weights and the end of a decay are outside its range in healthy runs too.
            monitor.says = False
    if not any(isinstance(other, ours.TrainingDoctor) for other in others):
        data = {"facts": facts} if facts is not None else {"train": train, "validation": validation}
        monitors.append(ours.TrainingDoctor(verbose=int(verbose != 0), budget=0.01, **data))
    return monitors


def let_go(callbacks):
    """Put back the optimizer's rate and the train function after a `fit` that broke off, without `on_train_end`."""
    for callback in callbacks:
        if isinstance(callback, ours.RateDriver):
            callback.release()
        elif isinstance(callback, Monitor):
            callback.leave()


def findings_of(callbacks, history, model):
    """What the doctor found; without one, what curves and model say."""
    doctor = next((callback for callback in callbacks if isinstance(callback, ours.TrainingDoctor)), None)
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


def statistics_data(source, steps, prepare):
    """Up to 100 augmented training batches, enough for batch-normalization statistics."""
    return stream(source, first_epoch=0, epochs=1, steps=min(steps, 100), transform=prepare)


class RunBackup(keras.callbacks.Callback):
    """What `callbacks.Backup` is to a plain `fit`, for a run_dir: after each epoch `best.keras`, `history.csv`, backup.

    Last in the list of callbacks, so that it sees every log. `recipes.train` restores weights and optimizer itself,
    as the number of the epoch decides what data `fit` is given.

    Args:
        folder: The run_dir, or None to keep the rows alone.
        file: Its backup.
        callbacks: The others of the run.
        rows: What `recipes.backup.row_of` made of the epochs before; empty for a new run.
    """

    def __init__(self, folder, file, callbacks, rows):
        super().__init__()
        self.folder, self.file, self.others = folder, file, callbacks
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

    @property
    def broken(self):
        """Whether the run was stopped at numbers that are not finite."""
        return is_broken(self.others)
