"""EarlyStopping: Keras' own, which also remembers what is needed to train on all data afterwards."""

from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from recipes.callbacks.fit_member import FitMember
from recipes.callbacks.rate_driver import Logs
from recipes.common.optimizers import has_plain_rates, rate_of
from recipes.common.validation import is_number, is_whole


class EarlyStopping(FitMember, keras.callbacks.EarlyStopping):
    """Stop when the validation loss no longer falls, put the best weights back, and remember how they were reached.

    Everything is as in `keras.callbacks.EarlyStopping`, except that `restore_best_weights` is True by default. In
    addition it keeps what `recipes.training.refit_on_all_data` needs for the strategies of Goodfellow et al. 2016,
    algorithms 7.2 and 7.3, https://www.deeplearningbook.org/contents/regularization.html, and it continues in a run
    that is resumed.

    Args:
        monitor: What to watch: `"val_loss"`, a metric, ...
        min_delta: The smallest change of the watched value that counts as an improvement, >= 0.
        patience: Epochs without an improvement until training stops, >= 0.
        verbose: 1 prints a line when training stops.
        mode: `"auto"`, `"min"` or `"max"`.
        baseline: Stop unless this value is beaten.
        restore_best_weights: Put the weights of the best epoch back at the end.
        start_from_epoch: Epochs before watching begins, >= 0.
        keep_initial_weights: Keep the weights the run began with, for `strategy="restart"`. Memory: one more copy of
            the weights.

    Attributes, after `fit`:
        best_epoch: Best epoch, counted from 0.
        best_steps: Batches from the beginning of the run to the end of the best epoch.
        best_logs: dict of floats, what was logged at the end of the best epoch; `best_logs["loss"]` is the training
            error as `fit` reports it, the mean over the epoch.
        best_weights, initial_weights: Lists of arrays, or None. `initial_weights` is None, too, for a model that is
            built only by its first batch.
        initial_rate: Learning rate at the beginning, or None for a schedule inside the optimizer.

    Raises:
        ValueError: for arguments of another kind than these.

    Example:
        >>> stopper = EarlyStopping(patience=5)
        >>> model.fit(train, validation_data=validation, epochs=100, callbacks=[stopper])
        >>> recipes.training.refit_on_all_data(stopper, train, validation, strategy="restart")
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: Literal["auto", "min", "max"] = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = True,
        start_from_epoch: int = 0,
        *,
        keep_initial_weights: bool = True,
    ) -> None:
        numbers = [("min_delta", min_delta), ("baseline", 0 if baseline is None else baseline)]
        whole = [("patience", patience), ("start_from_epoch", start_from_epoch)]
        wrong = [name for name, value in numbers if not is_number(value)]
        wrong += [name for name, value in whole if not is_whole(value) or value < 0]
        if wrong or not isinstance(monitor, str):
            received = {"monitor": monitor, **dict(numbers), **dict(whole)}[wrong[0] if wrong else "monitor"]
            raise ValueError(
                "EarlyStopping expects monitor to be a name in the logs, patience and start_from_epoch to be whole "
                "numbers of epochs, and min_delta and baseline to be numbers. Received "
                f"{wrong[0] if wrong else 'monitor'}={received!r}. "
                "Write EarlyStopping('val_loss', patience=5)."
            )
        super().__init__(
            monitor=monitor,
            min_delta=min_delta,
            patience=patience,
            verbose=verbose,
            mode=mode,
            baseline=baseline,
            restore_best_weights=restore_best_weights,
            start_from_epoch=start_from_epoch,
        )
        self.keep_initial_weights = keep_initial_weights
        self.best_logs, self.best_steps = {}, 0
        self.initial_weights = self.initial_rate = None

    def on_train_begin(self, logs: Logs = None) -> None:
        super().on_train_begin(logs)
        self.best_logs, self.best_steps, self._batches = {}, 0, 0
        known = self.keep_initial_weights and self.model.built
        self.initial_weights = self.model.get_weights() if known else None
        optimizer = self.model.optimizer
        self.initial_rate = rate_of(optimizer) if has_plain_rates(optimizer) else None
        self._first_epoch = True

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        if self._first_epoch and epoch > 0 and not self._batches:
            # Continued without set_state: these weights are not those the run began with.
            self.initial_weights = None
        self._first_epoch, self._seen = False, 0

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._seen = batch + 1

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        steps = self.params.get("steps")
        self._batches = (epoch + 1) * steps if steps else self._batches + self._seen
        super().on_epoch_end(epoch, logs)
        if self.best is not None and self.best_epoch == epoch:
            self.best_logs = {
                name: float(value) for name, value in (logs or {}).items() if np.ndim(value) == 0
            }
            self.best_steps = self._batches

    def get_state(self) -> dict[str, Any]:
        """What a resumed run needs: numbers, the best weights and the initial ones, as arrays."""
        return {
            "wait": self.wait,
            "best": None if self.best is None else float(ops.convert_to_numpy(self.best)),
            "best_epoch": self.best_epoch,
            "best_logs": self.best_logs,
            "best_steps": self.best_steps,
            "batches": self._batches,
            "initial_rate": self.initial_rate,
            "best_weights": self.best_weights,
            "initial_weights": self.initial_weights,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from `get_state()`'s dict. Call it between on_train_begin and the first epoch."""
        self.wait, self.best, self.best_epoch = state["wait"], state["best"], state["best_epoch"]
        self.best_logs, self.best_steps = dict(state["best_logs"]), state["best_steps"]
        self.best_weights, self.initial_weights = state["best_weights"], state["initial_weights"]
        self.initial_rate, self._batches = state["initial_rate"], state["batches"]
