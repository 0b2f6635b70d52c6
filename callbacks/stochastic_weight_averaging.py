"""StochasticWeightAveraging: finish with the plain mean of the weights at the ends of the last epochs."""

import warnings
from typing import Any, Literal

import numpy as np

from recipes.callbacks.rate_driver import Logs
from recipes.callbacks.weight_average import WeightAverage
from recipes.common.types import Data


class StochasticWeightAveraging(WeightAverage):
    """Take the plain mean of the weights that a network passes through in the last part of training.

    Source: Izmailov et al. 2018, algorithm 1, https://arxiv.org/abs/1803.05407. The rate has to stay high enough in
    that part for the weights to differ: `WarmupDecay(decay="cosine", until=0.75, final=0.3)` stops its descent where
    the averaging begins (paper: 75 % of the run, then a constant rate of about a half to a tenth of the first one; or
    cycles, whose length is then `every_epochs`).

    Args:
        start: Where the averaging begins: a float in [0, 1) is a part of the run, an int is the number of epochs before
            it. Paper: 0.75.
        every_epochs: Epochs between two samples, >= 1. The first is taken at the end of the first epoch after `start`.
        data: Training images to recompute the batch-normalization statistics from, each time the average goes into
            the model: one forward pass over them per epoch after `start`. Required for a model with batch
            normalization.
            False: average the statistics like the weights, knowing that they are wrong (see
            `ensemble.refresh_batch_norm`).
        batch_size: Images per batch for un-batched `data`.

    `samples` is the number of sets of weights in the average. Before the first sample everything is as without the
    callback. A run that ends before it keeps its last weights, and a warning says so.

    Raises:
        ValueError: for `start` or `every_epochs` outside its range; on_train_begin, when a model with batch
            normalization comes without `data`, or the optimizer averages already (`use_ema`).

    Example:
        >>> average = StochasticWeightAveraging(start=0.75, data=train)
        >>> model.fit(train, epochs=40, validation_data=validation, callbacks=[average])
    """

    def __init__(
        self,
        start: float = 0.75,
        every_epochs: int = 1,
        *,
        data: "Data | Literal[False] | None" = None,
        batch_size: int = 128,
    ) -> None:
        super().__init__(None if data is False else data, batch_size=batch_size)
        part = isinstance(start, float)
        if (
            isinstance(start, bool)
            or not isinstance(start, (int, float))
            or start < 0
            or (part and start >= 1)
        ):
            raise ValueError(
                "StochasticWeightAveraging expects start as a float in [0, 1), a part of the run, or an int >= 0, a "
                f"number of epochs. Received start={start!r}. Write start=0.75 or start=30."
            )
        if isinstance(every_epochs, bool) or not isinstance(every_epochs, int) or every_epochs < 1:
            raise ValueError(
                f"StochasticWeightAveraging expects every_epochs to be a number of epochs, 1 or more. Received "
                f"every_epochs={every_epochs!r}. Take 1, or the length of a cycle."
            )
        self.start, self.every_epochs, self._knows = start, every_epochs, data is False

    def on_train_begin(self, logs: Logs = None) -> None:
        super().on_train_begin(logs)
        if self._has_norms and self.data is None and not self._knows:
            raise ValueError(
                "StochasticWeightAveraging expects data= for a model with batch normalization, whose statistics belong "
                "to other weights. Received none. Pass the training data, data=train, or data=False to refresh them "
                "yourself with recipes.ensemble.refresh_batch_norm."
            )
        epochs = self.params["epochs"]
        self._first = int(np.floor(self.start * epochs)) if isinstance(self.start, float) else self.start
        if self._first >= epochs:
            raise ValueError(
                f"StochasticWeightAveraging expects start before the end of the run. Received start={self.start} and "
                f"{epochs} epochs. Write start=0.75."
            )
        self._last_sampled = -1

    def sample_epoch(self) -> None:
        late = self._epoch - self._first
        if late >= 0 and late % self.every_epochs == 0 and self._epoch != self._last_sampled:
            self.take_sample(1 / (self.samples + 1))
            self._last_sampled = self._epoch

    def on_train_end(self, logs: Logs = None) -> None:
        super().on_train_end(logs)
        if not self.samples:
            warnings.warn(
                f"StochasticWeightAveraging expects the run to go on after epoch {self._first}, where it begins to "
                f"average. Training stopped in epoch {self._epoch + 1}; the model keeps its last weights. "
                "Give an earlier start.",
                stacklevel=2,
            )

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), "last_sampled": self._last_sampled}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self._last_sampled = state["last_sampled"]
