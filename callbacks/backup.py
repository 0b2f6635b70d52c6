"""Backup: a `fit` that was killed goes on where it was, in one process or in several."""

import sys
from pathlib import Path

import keras


class Backup(keras.callbacks.Callback):
    """Keep the whole run in one file after every epoch, and go on from it when the same script is started again.

    In the file are the weights, the optimizer, the seeds of dropout and what the other callbacks of this `fit`
    remember: the place in the schedule, the best weights so far, averages, snapshots. Ours all take part, and Keras'
    own. So a run that was killed ends with the weights of one that was not, if its data does: see `epochs_done`.
    `keras.callbacks.BackupAndRestore` keeps weights and optimizer alone.

    The file is replaced in one step, by a finished one: a crash leaves the old file or the new one. With several
    processes (`keras.distribution` on the JAX backend) the first process alone writes, and all read, so put it where
    all can see it. On TensorFlow `recipes.train(run_dir=..., resume=True)` does this and more.

    Put it last in the list of callbacks, so that it sees what the others did. A run that is finished stays finished:
    the next `fit` returns at once with its weights. Delete the file to train anew.

    Args:
        file: Path of the backup, such as "runs/a/backup.npz". Its folder is made when it does not exist.

    Attributes:
        epochs_done: Epochs the file holds when this callback is made, 0 without a file. Data whose order or
            augmentation differs from epoch to epoch begins there: `pipeline.apply(batches, first_epoch=epochs_done)`.

    Raises:
        ValueError: for a file that is no backup, or one of another model; on_train_begin, when another callback that
            has something to remember comes after this one.

    Example:
        >>> backup = Backup("runs/a/backup.npz")
        >>> train = pipeline.apply(batches, first_epoch=backup.epochs_done)
        >>> model.fit(train, epochs=30, callbacks=[WarmupDecay(), EarlyStopping("loss", patience=3), backup])
    """

    def __init__(self, file):
        from recipes.checkpoints.run_state import read_backup

        super().__init__()
        self.file = Path(file)
        self.epochs_done = read_backup(self.file)["epoch"] if self.file.exists() else 0

    def on_train_begin(self, logs=None):
        from recipes.checkpoints.run_state import restore_callbacks, restore_run
        from recipes.common.processes import meet

        fit = sys._getframe(1).f_locals.get("self")
        every = list(fit.callbacks) if isinstance(fit, keras.callbacks.CallbackList) else [self]
        place = every.index(self)
        self._others, self._rows, self._waiting = every[:place], [], False
        late = [type(c).__name__ for c in every[place + 1 :] if hasattr(c, "get_state")]
        if late:
            raise ValueError(
                "Backup expects to be the last of the callbacks, so that it sees what the others did. "
                f"Received {', '.join(late)} after it. Put Backup at the end of the list."
            )
        if self.file.exists():
            first_epoch, self._rows = restore_run(self.file, self.model, self.params["epochs"])
            restore_callbacks(self.file, self._others)
            # As keras.callbacks.BackupAndRestore does: `fit` reads it after on_train_begin.
            self.model._initial_epoch = first_epoch
            self._waiting = True
        # Nobody may begin, and write, before all have read.
        meet("Backup.on_train_begin")

    def on_epoch_begin(self, epoch, logs=None):
        self._fill_history()

    def on_epoch_end(self, epoch, logs=None):
        from recipes.checkpoints.run_state import is_broken, row_of, save_backup
        from recipes.common.processes import is_first_process

        self._rows.append(row_of(logs))
        if is_broken(self._others) or not is_first_process():
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        save_backup(self.file, self.model, self._others, epoch=epoch + 1, history=self._rows)

    def on_train_end(self, logs=None):
        from recipes.common.processes import meet

        self._fill_history()
        self.model._initial_epoch = None
        meet("Backup.on_train_end")

    def _fill_history(self):
        """Put the epochs before the interruption into the `History` that `fit` returns."""
        if self._waiting:
            self._waiting = False
            # `fit` has read it by now; a fit that breaks off shall not leave it to the next one.
            self.model._initial_epoch = None
            history = self.model.history
            history.epoch = list(range(len(self._rows)))
            history.history = {}
            for row in self._rows:
                for name, value in row.items():
                    history.history.setdefault(name, []).append(value)
