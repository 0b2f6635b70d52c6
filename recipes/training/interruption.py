"""Runs that are cut off in the middle of an epoch: leaving on SIGTERM, backups by the clock, going on at a batch."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import keras

EXIT_SIGTERM = 143


class Termination:
    """Turns SIGTERM, which schedulers send before they kill a process, into a flag that the run reads after each step.

    A second SIGTERM ends the process at once. Only the main thread of a process can listen.
    """

    def __init__(self) -> None:
        self.wished = False
        self._before: Any = None
        self._listening = False

    def listen(self) -> None:
        """Begin to handle SIGTERM."""
        if threading.current_thread() is threading.main_thread() and not self._listening:
            self._before = signal.signal(signal.SIGTERM, self._wish)
            self._listening = True

    def stop_listening(self) -> None:
        """Put the former signal handler back."""
        if self._listening:
            self._listening = False
            signal.signal(signal.SIGTERM, self._before if self._before is not None else signal.SIG_DFL)

    def _wish(self, number, frame):
        if self.wished:
            self.stop_listening()
            os.kill(os.getpid(), number)
        self.wished = True


class BackgroundWriter:
    """Writes files of a run one after another, in parallel to the training; an error is raised at the next call."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def write(self, work: Callable[[], Any]) -> None:
        """Begin to write, after what came before is written.

        Args:
            work: function without arguments that writes, from copies that nobody changes.
        """
        self.wait()
        if keras.backend.backend() != "tensorflow":
            work()  # JAX takes the values out of a model's variables while it trains
            return

        def guarded():
            try:
                work()
            except BaseException as error:  # handed over to the thread that trains
                self._error = error

        self._thread = threading.Thread(target=guarded, name="recipes-backup")
        self._thread.start()

    def wait(self) -> None:
        """Wait until everything is written, and raise the error if that failed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error


class SkippingCallbackList(keras.callbacks.CallbackList):
    """The callbacks of a `fit` that goes on within its first epoch: they are not called for the batches before.

    The data set gives blank batches in their place, and no step is taken for them.

    Args:
        callbacks: As `fit` takes them.
        skipped: Batches to pass over in the first epoch.
        model: The model that is trained.
        **options: As for `keras.callbacks.CallbackList`.
    """

    def __init__(
        self, callbacks: list[keras.callbacks.Callback], *, skipped: int, model: keras.Model, **options: Any
    ) -> None:
        super().__init__(callbacks, model=model, **options)
        self._skipped, self._step = skipped, None

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if batch < self._skipped:
            if self._step is None:
                self._step = self.model.train_function
                self.model.train_function = self._no_step
            return
        if self._step is not None:
            self.model.train_function, self._step = self._step, None
            self._skipped = 0
        super().on_train_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._step is None:
            super().on_train_batch_end(batch, logs)

    def _no_step(self, batches):
        """Take blank batches, where `fit` has not taken them itself, and do nothing."""
        if hasattr(batches, "__next__"):
            for _ in range(self.model.steps_per_execution):
                next(batches)
        return {}
