"""StepMargins: the margin of each example, from the training steps of `recipes.train` themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from recipes.callbacks.monitor import Monitor
from recipes.callbacks.rate_driver import Logs
from recipes.common.class_numbers import class_numbers
from recipes.diagnose.margins.example_history import ExampleHistory
from recipes.diagnose.margins.probabilities import probabilities_of

if TYPE_CHECKING:
    from recipes.diagnose.margins.example_numbers import ExampleNumbers

_MOST_BYTES = 2**22  # of outputs that wait to be read


class StepMargins(Monitor):
    """Gather the margin of every example from the step that it is trained in; `recipes.train` puts it into a run.

    Labels and outputs leave the step as its loss takes them, and are read from time to time: nothing is computed twice,
    and the training is the same, bit for bit. So a margin describes the example as the step sees it, augmented and with
    dropout, as in Pleiss et al. 2020, section 3.1, https://arxiv.org/abs/2001.10528. Examples that are mixed with
    others (mixup) are left out.

    Args:
        numbers: Tells which examples each step is given.
        **options: See `Monitor`.

    Attributes:
        history_of_examples: `diagnose.margins.example_history.ExampleHistory`; None before the first step, and where
            the examples cannot be told from one another.
    """

    takes_examples = True

    def __init__(self, numbers: ExampleNumbers, **options: Any) -> None:
        super().__init__(**options)
        self.numbers = numbers
        self.history_of_examples: ExampleHistory | None = None

    def reset(self) -> None:
        self.history_of_examples = None
        self._pending, self._bytes, self._epoch, self._batch, self._off = [], 0, 0, 0, False
        self._most = 0.0  # the largest share of a class that a label gives: lower ones were mixed by the user

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._epoch = epoch
        super().on_epoch_begin(epoch, logs)

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        self._batch = batch
        super().on_train_batch_begin(batch, logs)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._guarded(self._read)
        super().on_epoch_end(epoch, logs)

    def take_examples(self, labels: Any, outputs: Any) -> None:
        if self._off or self._failed:
            return
        self._pending.append((self._epoch, self._batch, labels, outputs))
        self._bytes += 4 * int(np.prod(outputs.shape))
        if self._bytes > _MOST_BYTES:
            self._guarded(self._read)

    def _read(self):
        """Add the outputs that wait to the history: all of one epoch at a time, in which each example comes once."""
        pending, self._pending, self._bytes = self._pending, [], 0
        rows, shares, outputs, alone = [], [], [], []
        for epoch, step, given, told in pending:
            numbers = self.numbers.rows(epoch, step, len(given))
            if numbers is None:
                continue
            rows.append(numbers)
            shares.append(np.asarray(given))
            outputs.append(np.asarray(told, np.float32))
            if self.numbers.unmixed is not None:
                alone.append(self.numbers.unmixed(epoch, step, len(given)))
        if not rows:
            return
        rows, shares, outputs = np.concatenate(rows), np.concatenate(shares), np.concatenate(outputs)
        labels = class_numbers(shares)
        if labels is None:
            self._end("their labels are not single classes")
            return
        keep = np.isfinite(outputs).all(1)
        if alone:
            keep &= np.concatenate(alone)
        if shares.ndim == 2 and shares.shape[1] > 1:
            self._most = max(self._most, float(shares.max()))
            keep &= shares.max(1) > self._most - 1e-3
        if self.history_of_examples is None:
            kept = self.numbers.kept
            count = self.numbers.count if kept is None else int(kept.max()) + 1
            self.history_of_examples = ExampleHistory(np.full(count, -1), self.numbers.classes)
        probabilities = probabilities_of(self.model, outputs[keep])
        if not self.history_of_examples.add(rows[keep], probabilities, labels[keep]):
            self._end("the data set comes in another order in every pass, so that no example is found again")

    def _end(self, why):
        self._off, self.history_of_examples = True, None
        self._hub.note(f"Margins of single examples were not gathered: {why}.")

    def monitor_state(self) -> dict[str, Any]:
        if self._hub is not None:
            self._guarded(self._read)
        history = self.history_of_examples
        state = {} if history is None else {"history": history.state()}
        return {**state, "off": self._off, "batch_size": self.numbers.batch_size}

    def set_monitor_state(self, state: dict[str, Any]) -> None:
        self._off = bool(state["off"])
        self.numbers.batch_size = state["batch_size"]
        if "history" in state:
            self.history_of_examples = ExampleHistory.from_state(state["history"])
