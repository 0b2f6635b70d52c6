"""ExampleMargins: how each training example is answered in the course of a training, for `diagnose.label_issues`."""

from __future__ import annotations

import time
from typing import Any

import keras
import numpy as np

from recipes.common.validation import is_number
from recipes.diagnose.margins.example_history import ExampleHistory
from recipes.diagnose.margins.label_issues import probabilities_of


class ExampleMargins(keras.callbacks.Callback):
    """Score a rotating sample of the training examples after each epoch, within a share of the epoch's time.

    The weights, the order of the examples and the metrics of the training are left as they are: examples are answered
    in inference mode, without augmentation.

    Args:
        data: Arrays `(x, y)`, the training examples: class numbers `(n,)` or one-hot rows.
        budget: Share of the epoch's time that scoring may take, in (0, 1]; 1 scores all examples after every epoch
            where that takes no longer than the epoch. The first call, which compiles, does not count.
        batch_size: Examples at once.

    Attributes:
        history_of_examples: `diagnose.margins.example_history.ExampleHistory`, or None before training.
        seconds: Time spent on scoring.

    Example:
        >>> margins = ExampleMargins((x, y))
        >>> model.fit(x, y, epochs=30, callbacks=[margins])
        >>> recipes.diagnose.label_issues(margins).table()
    """

    def __init__(self, data: Any, budget: float = 0.03, batch_size: int = 256) -> None:
        super().__init__()
        if (
            not isinstance(data, (tuple, list))
            or len(data) < 2
            or len(data[0]) != len(data[1])
            or not len(data[0])
        ):
            raise ValueError(
                "ExampleMargins expects arrays (x, y) of one length. Received "
                f"{type(data).__name__}. Stack a data set: x, y = map(numpy.stack, zip(*train.as_numpy_iterator()))."
            )
        if not is_number(budget) or not 0 < budget <= 1:
            raise ValueError(
                f"ExampleMargins expects budget in (0, 1]. Received budget={budget!r}. 0.03 is 3 % of an epoch."
            )
        self.images, labels = data[0], np.asarray(data[1])
        self._labels = labels.argmax(-1) if labels.ndim == 2 and labels.shape[1] > 1 else labels.reshape(-1)
        self.budget, self.batch_size = float(budget), int(batch_size)
        self.history_of_examples: ExampleHistory | None = None
        self.seconds = 0.0
        self._place, self._speed = 0, None
        self._order = np.random.default_rng(0).permutation(len(self._labels))

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._begun = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        allowed = self.budget * (time.monotonic() - self._begun)
        start, left = time.monotonic(), len(self._order)
        while left > 0:
            spent = time.monotonic() - start
            if self._speed is not None and spent + self._speed > allowed and left < len(self._order):
                break
            taken = min(self.batch_size, left)
            rows = np.take(self._order, np.arange(self._place, self._place + taken), mode="wrap")
            before = time.monotonic()
            outputs = keras.ops.convert_to_numpy(self.model.predict_on_batch(np.asarray(self.images)[rows]))
            if self.history_of_examples is None:
                self.history_of_examples = ExampleHistory(self._labels, max(2, outputs.shape[-1]))
            self.history_of_examples.add(rows, probabilities_of(self.model, outputs))
            self._place, left = (self._place + taken) % len(self._order), left - taken
            if self._speed is None:  # the first call compiles
                self._speed, start = 0.0, time.monotonic()
            else:
                self._speed = time.monotonic() - before
        self.seconds += time.monotonic() - start
