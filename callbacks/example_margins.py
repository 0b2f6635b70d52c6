"""ExampleMargins: the margin of each training example over the course of training, for `diagnose.label_issues`."""

from __future__ import annotations

import time
import warnings
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from recipes.common.class_numbers import class_numbers
from recipes.common.types import Data
from recipes.common.validation import is_number, is_whole
from recipes.diagnose.margins.example_history import ExampleHistory
from recipes.diagnose.margins.probabilities import probabilities_of


class ExampleMargins(keras.callbacks.Callback):
    """Score a rotating sample of the training examples after each epoch, within a share of the epoch's time.

    The weights, the order of the examples and the metrics of the training are left as they are: the model predicts the
    examples in inference mode, without augmentation. `recipes.train` does not need this callback, because its training
    steps gather the margins. The margin is the logit of the given class minus the largest other logit (Pleiss et al.
    2020, equation 1, https://arxiv.org/abs/2001.10528).

    Args:
        data: The training examples: arrays `(x, y)`, class numbers `(n,)` or one-hot rows; or a `tf.data.Dataset` of
            `(image, label)`, batched or not, in the same order at every pass: give the data set as it is before
            `shuffle`. Reading goes on from epoch to epoch, and begins anew at the end.
        budget: Share of the epoch's time that scoring may take, in (0, 1]; 1 scores all examples after every epoch
            where that takes no longer than the epoch. The first call, which compiles, does not count.
        batch_size: Examples per batch, >= 1; a data set that is batched keeps its own batches.

    Attributes:
        history_of_examples: `diagnose.margins.example_history.ExampleHistory`, or None before training. Its `times`
            tell how often each example was scored.
        seconds: Time spent on scoring.
        files: Path of each example, for data of `data.load` from files; else empty.

    Raises:
        ValueError: for arrays that do not belong together, data of another kind, a budget outside (0, 1]; when training
            begins, for a data set that never ends.

    Example:
        >>> margins = ExampleMargins((x, y))
        >>> model.fit(x, y, epochs=30, callbacks=[margins])
        >>> recipes.diagnose.label_issues(margins).table()
    """

    def __init__(self, data: Data, budget: float = 0.03, batch_size: int = 256) -> None:
        super().__init__()
        if not is_number(budget) or not 0 < budget <= 1 or not is_whole(batch_size) or batch_size < 1:
            raise ValueError(
                f"ExampleMargins expects budget in (0, 1] and batch_size >= 1. Received budget={budget!r}, "
                f"batch_size={batch_size!r}. Leave them out for 0.03, which is 3 % of an epoch, and 256."
            )
        self.budget, self.batch_size = float(budget), int(batch_size)
        is_pair = isinstance(data, (tuple, list)) and len(data) in (2, 3)
        self._reader = _Arrays(data, self.batch_size) if is_pair else _Stream(data, self.batch_size)
        self.files = self._reader.files
        self.history_of_examples: ExampleHistory | None = None
        self.seconds = 0.0
        self._speed: float | None = None
        self._off = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._reader.open(self.model)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._begun = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        allowed = self.budget * (time.monotonic() - self._begun)
        start, passed = time.monotonic(), False
        while not (passed or self._off):
            spent = time.monotonic() - start
            if self._speed is not None and spent + self._speed > allowed:
                break
            before = time.monotonic()
            passed = self._score()
            if self._speed is None:  # the first call compiles
                self._speed, start = 0.0, time.monotonic()
            else:
                self._speed = time.monotonic() - before
        self.seconds += time.monotonic() - start

    def _score(self):
        """Score the next batch; True at the end of a pass."""
        rows, images, labels, passed = self._reader.next()
        if not len(rows):  # the end of a data set, which is told only there
            if self.history_of_examples is not None:
                self.history_of_examples.resize(self._reader.count)
            return passed
        outputs = np.asarray(keras.ops.convert_to_numpy(self.model.predict_on_batch(images)), np.float32)
        classes = max(2, outputs.shape[-1])
        if self.history_of_examples is None:
            self.history_of_examples = ExampleHistory(self._reader.labels, classes)
        if rows[-1] >= len(self.history_of_examples.labels):
            self.history_of_examples.resize(int(rows[-1]) + 1)
        if labels is None or labels.min() < 0 or labels.max() >= classes:
            raise ValueError(
                f"ExampleMargins expects one class in 0..{classes - 1} per example, as a number or a one-hot row. "
                "Received other labels in data. Give the labels that the model is trained on."
            )
        if not self.history_of_examples.add(rows, probabilities_of(self.model, outputs), labels):
            self._off, self.history_of_examples = True, None
            warnings.warn(
                "ExampleMargins expects data in the same order at every pass. Received a data set in which an example "
                "has another label than before; no more examples are scored. Give the data set as it is before "
                "shuffle(), or arrays.",
                stacklevel=2,
            )
        return passed


class _Arrays:
    """Arrays in an order drawn once."""

    def __init__(self, data, batch_size):
        self.files: tuple[str, ...] = ()
        self.images, labels = data[0], np.asarray(data[1])
        if not hasattr(self.images, "__len__") or len(self.images) != len(labels) or not len(labels):
            raise ValueError(
                "ExampleMargins expects arrays (x, y) of the same length, not empty. Received lengths "
                f"{np.shape(self.images)[:1]} and {labels.shape[:1]}. Check that they belong together."
            )
        numbers = class_numbers(labels)
        if numbers is None:
            raise ValueError(
                "ExampleMargins expects y as class numbers (n,) or one-hot rows. Received shape "
                f"{labels.shape} of {labels.dtype}. Examples with several labels or with masks have no margin."
            )
        self.labels, self.count, self.batch_size, self.place = numbers, len(labels), batch_size, 0
        self.order = np.random.default_rng(0).permutation(self.count)

    def open(self, model: keras.Model) -> None:
        """Nothing to do."""

    def next(self) -> tuple[NDArray[np.int64], Any, NDArray[np.int64], bool]:
        """`(rows, images, labels, whether the pass is over)`."""
        rows = self.order[self.place : self.place + self.batch_size]
        self.place += len(rows)
        passed = self.place >= self.count
        self.place = 0 if passed else self.place
        return rows, np.asarray(self.images)[rows], self.labels[rows], passed


class _Stream:
    """A data set, read on from epoch to epoch."""

    def __init__(self, data, batch_size):
        import tensorflow as tf  # noqa: PLC0415 - arrays are scored without it

        from recipes.common.datasets import files_of  # noqa: PLC0415 - as above

        if not isinstance(data, tf.data.Dataset):
            raise ValueError(
                "ExampleMargins expects data to be arrays (x, y) or a tf.data.Dataset of (image, label). Received "
                f"{type(data).__name__}. Stack lists with numpy.stack."
            )
        self.data, self.batch_size, self.count, self.place, self.batches = data, batch_size, 0, 0, None
        self.labels, self.files = np.zeros(0, np.int64), files_of(data)

    def open(self, model: keras.Model) -> None:
        """Tell batches from examples by the model's input."""
        from recipes.common.datasets import as_batches, fresh_copy  # noqa: PLC0415 - as above

        if self.batches is None:
            how = {"batch_size": self.batch_size, "caller": "ExampleMargins"}
            self.batches = as_batches(fresh_copy(self.data), model, **how)
            self.reading = iter(self.batches)

    def next(self) -> tuple[NDArray[np.int64], Any, NDArray[np.int64] | None, bool]:
        """`(rows, images, labels, whether the pass is over)`."""
        batch = next(self.reading, None)
        if batch is None:
            self.count, self.place, self.reading = self.place, 0, iter(self.batches)
            return np.zeros(0, np.int64), None, None, True
        images, labels = batch[0], class_numbers(batch[1].numpy())
        rows = np.arange(self.place, self.place + len(batch[1]))
        self.place += len(rows)
        return rows, images, labels, False
