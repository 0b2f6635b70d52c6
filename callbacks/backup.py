"""Backup: continue a `fit` that was killed from where it was, in one process or in several."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import keras

from recipes.callbacks.fit_member import FitMember, members_of_fit
from recipes.callbacks.rate_driver import Logs
from recipes.checkpoints.backup_file import (
    RunState,
    is_broken,
    read_backup,
    restore_callbacks,
    restore_run,
    row_of,
)
from recipes.checkpoints.callback_state import CallbackStates
from recipes.common.models import begin_at_epoch
from recipes.common.processes import is_first_process, meet
from recipes.common.types import Path as FilePath


class Backup(FitMember):
    """Keep the whole run in one file after every epoch, and go on from it when the same script is started again.

    The file holds the weights, the optimizer, the seeds of dropout and what the other callbacks of this `fit` remember:
    the place in the schedule, the best weights so far, averages, snapshots. All callbacks of recipes and of Keras take
    part. So a run that was killed and started again ends with the same weights as one that was not killed, if its data
    continue at the right epoch too: see `epochs_done`. `keras.callbacks.BackupAndRestore` keeps only the weights and
    the optimizer.

    The file is replaced in one step: a crash leaves either the old file or the new one. With several processes
    (`keras.distribution` on the JAX backend) only the first process writes and all of them read, so put the file where
    all can see it. On TensorFlow `recipes.train(run_dir=..., resume=True)` does this and more.

    Put it last in the list of callbacks, so that it sees what the others did. Keras tells a callback nothing about the
    others, so give them as `others`. Without `others` it finds and keeps the callbacks of recipes alone, and a warning
    names them. A run that is finished stays finished: the next `fit` returns at once with its weights. Delete the file
    to train anew.

    Args:
        file: Path of the backup, such as "runs/a/backup.npz". Its folder is made when it does not exist.
        others: The other callbacks of the `fit`, in their order, also those inside a container of callbacks; this one
            may be among them. `()` where there are none.

    Attributes:
        epochs_done: Epochs the file holds when this callback is made, 0 without a file. Data whose order or
            augmentation differs from epoch to epoch begins there: `pipeline.apply(batches, first_epoch=epochs_done)`.

    Raises:
        ValueError: for a file that is not a backup, or one of another model; on_train_begin, when another callback that
            has something to remember comes after this one.

    Example:
        >>> others = [WarmupDecay(), EarlyStopping("loss", patience=3)]
        >>> backup = Backup("runs/a/backup.npz", others)
        >>> train = pipeline.apply(batches, first_epoch=backup.epochs_done)
        >>> model.fit(train, epochs=30, callbacks=[*others, backup])
    """

    def __init__(self, file: "FilePath", others: Sequence[keras.callbacks.Callback] | None = None) -> None:
        super().__init__()
        self.file = Path(file).absolute()  # a later change of the working directory does not move it
        self.others = others
        self.epochs_done: int = read_backup(self.file)["epoch"] if self.file.exists() else 0

    def on_train_begin(self, logs: Logs = None) -> None:
        self._others, self._rows, self._waiting = self._other_callbacks(), [], False
        self._states = CallbackStates(self._others)
        self._states.training_begins()
        if self.file.exists():
            about = restore_run(self.file, self.model, self.params["epochs"])
            first_epoch, self._rows = about["epoch"], about["history"]
            restore_callbacks(self.file, self._states)
            # As keras.callbacks.BackupAndRestore does: `fit` reads it after on_train_begin.
            begin_at_epoch(self.model, first_epoch)
            self._waiting = True
        # Nobody may begin, and write, before all have read.
        meet("Backup.on_train_begin")

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._fill_history()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._rows.append(row_of(logs))
        if is_broken(self._others) or not is_first_process():
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        RunState.of(self.model, self._states, epoch=epoch + 1, history=self._rows).write(self.file)

    def on_train_end(self, logs: Logs = None) -> None:
        self._fill_history()
        begin_at_epoch(self.model, None)
        meet("Backup.on_train_end")

    def _other_callbacks(self):
        given = members_of_fit(self) if self.others is None else list(self.others)
        place = given.index(self) if self in given else len(given)
        late = [type(one).__name__ for one in given[place + 1 :] if hasattr(one, "get_state")]
        if late:
            raise ValueError(
                "Backup expects to be the last of the callbacks, so that it sees what the others did. "
                f"Received {', '.join(late)} after it. Put Backup at the end of the list."
            )
        if self.others is None:
            names = [type(one).__name__ for one in given[:place]]
            warnings.warn(
                "Backup expects others=, the other callbacks of this fit. Received none, and so it "
                f"keeps what it can see: {', '.join(names) or 'no callback'}. Write Backup(file, others), so that what "
                "Keras' own callbacks and yours remember is kept too, or Backup(file, ()) where there are none.",
                stacklevel=2,
            )
        return given[:place]

    def _fill_history(self):
        """Put the epochs before the interruption into the `History` that `fit` returns."""
        if self._waiting:
            self._waiting = False
            # `fit` has read it by now; a fit that breaks off must not leave it to the next one.
            begin_at_epoch(self.model, None)
            history = self.model.history
            history.epoch = list(range(len(self._rows)))
            history.history = {}
            for row in self._rows:
                for name, value in row.items():
                    history.history.setdefault(name, []).append(value)
