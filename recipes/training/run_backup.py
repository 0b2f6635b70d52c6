"""What a run_dir gets after each epoch and in between: `best.keras`, `history.csv` and backups."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from recipes.checkpoints.backup_file import RunState, is_broken, restore_callbacks, restore_metrics, row_of
from recipes.checkpoints.backup_timetable import Timetable
from recipes.checkpoints.callback_state import CallbackStates
from recipes.checkpoints.kept_backups import Keep, KeptBackups
from recipes.common.files import checksum, write_text
from recipes.common.history_table import history_of, history_table
from recipes.common.optimizers import accumulation
from recipes.common.processes import process_count
from recipes.optimizers import for_any_keras
from recipes.training.interruption import EXIT_SIGTERM, BackgroundWriter, Termination
from recipes.training.run_folder import RunFolder
from recipes.training.settings import Settings


@dataclass(frozen=True)
class Progress:
    """How far a run that goes on has come.

    Attributes:
        file: The backup it goes on from; None for a new run.
        epoch: Epochs finished.
        batch: Batches of the next epoch that are finished.
        rows: The row that `row_of` made for each finished epoch.
        rate: The peak rate, where it differs from the rate of the interrupted run.
    """

    file: Path | None = None
    epoch: int = 0
    batch: int = 0
    rows: Sequence[dict[str, float]] = ()
    rate: float | None = None


class RunBackup(keras.callbacks.Callback):
    """Writes `best.keras`, `history.csv` and a backup into a run_dir after each epoch, as `Backup` does for a `fit`.

    Last in the list of callbacks, so that it sees every log. `recipes.train` restores weights and optimizer itself,
    as the number of the epoch and batch decides what data `fit` is given. Backups are written by a thread of their own,
    from a copy. On SIGTERM the current step is finished, a backup is written, and the process leaves with status 143.

    Args:
        folder: The run_dir, or None to keep only the rows.
        callbacks: The other callbacks of the run.
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
        self._states = CallbackStates(self.others)
        self._kept = None if folder is None else KeptBackups(folder.written, Keep.of(settings.keep))
        self._timetable = Timetable(settings.backup_every if folder is not None else None)
        self._termination, self._writer = Termination(), BackgroundWriter()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._epoch, self._waiting = self.progress.epoch, self.progress.batch > 0
        self._states.training_begins()
        if self.progress.file is not None:
            # Callbacks without set_state get their attributes back where these were saved: after on_epoch_begin.
            told = {"compiled_rate": self.progress.rate} if self.progress.rate is not None else None
            restore_callbacks(
                self.progress.file, self._states, own=True if self._waiting else None, told=told
            )
        if self._kept is not None:
            self._kept.go_on(self.progress.file, self.progress.epoch)
        if (
            self.folder is not None and process_count() == 1
        ):  # several processes would have to agree on the step
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
            del logs[name]  # kept in the rows; a dozen more numbers would fill the progress line
        if self.folder is None:
            return
        self._check_metric()
        watched = "val_loss" if "val_loss" in self.rows[-1] else "loss"
        losses = [row.get(watched, np.inf) for row in self.rows]
        self._save(epoch=epoch + 1, best=bool(losses[-1] <= np.nanmin(losses)))
        if self._termination.wished:
            self.leave()

    def leave(self) -> None:
        """End the process as SIGTERM asks, with everything written."""
        self._writer.wait()
        raise SystemExit(EXIT_SIGTERM)

    def release(self) -> None:
        """When `fit` is over, however it ended: put the former signal handler back, and finish writing."""
        self._termination.stop_listening()
        self._writer.wait()

    def finish(self) -> None:
        """Keep the last state of a run that came to its end, in case it is to go on for more epochs."""
        if not self.broken:
            self.folder.keep_last(self._kept.keep)

    @property
    def broken(self) -> bool:
        """Whether the run was stopped at numbers that are not finite."""
        return is_broken(self.others)

    def _may_stop_here(self):
        """False between the batches of one update, and after the last batch of an epoch, whose end has its own
        backup."""
        whole = self._done % accumulation(self.model.optimizer) == 0
        return self.folder is not None and whole and self._done < self.params["steps"]

    def _check_metric(self):
        keep, row = self._kept.keep, self.rows[-1]
        if keep.best and keep.metric not in row:
            raise ValueError(
                f"recipes.train expects keep to name a column of the history. Received metric={keep.metric!r}, and the "
                f"history has {', '.join(name for name in row if not name.startswith('monitor/'))}. "
                "Give one of these, or compile the model with that metric."
            )

    def _save(self, *, epoch, batch=0, best=False):
        """Copy the state of the run, and have it written in parallel: the files that a backup names come before it."""
        state = RunState.of(self.model, self._states, epoch=epoch, batch=batch, history=self.rows)
        table, broken, written = history_table(history_of(self.rows)), self.broken, self.folder.written
        sums = {"history.csv": hashlib.sha256(table.encode()).hexdigest()} if batch == 0 else {}

        def expect(model):
            self._kept.expect({**sums, "best.keras": checksum(model)})

        def write():
            if best:
                with for_any_keras(self.model):
                    state.save_model(self.model, written / "best.keras", before_rename=expect)
            elif sums:
                self._kept.expect(sums)
            if batch == 0:
                write_text(written / "history.csv", table)
            if not broken:
                self._kept.make_room()
                state.write(self._kept.newest)
                self._kept.written(state.about)

        self._writer.write(write)
        if any(getattr(one, "changes_trainable", False) for one in self.others):
            self._writer.wait()  # written later, the file would name the trainable layers of another stage
        self._timetable.written()
