"""ExponentialMovingAverage: evaluate, save and finish with a running average of the weights."""

from typing import Any

from recipes.callbacks.rate_driver import Logs
from recipes.callbacks.weight_average import WeightAverage
from recipes.common.optimizers import accumulation, iterations
from recipes.common.types import Data
from recipes.common.validation import is_number, is_whole


class ExponentialMovingAverage(WeightAverage):
    """Keep an exponential average of the weights over the last steps, and use it in place of the weights.

    After the first step the average is the weights; then `average = decay * average + (1 - decay) * weights` after
    each update. Sources: Polyak and Juditsky 1992, https://doi.org/10.1137/0330046, for averaging the iterates (with
    equal weights); Goodfellow et al. 2016, section 8.7.3, https://www.deeplearningbook.org/contents/optimization.html,
    for the exponential average that networks need. `warmup` follows the rule of TensorFlow's
    `ExponentialMovingAverage(num_updates=)`.

    Keras has this inside its optimizers, `use_ema=True` with the callback `SwapEMAWeights`, always with the full
    decay from the first step and without batch-normalization statistics. This one also works on an optimizer that is
    compiled already, averages these statistics as well or recomputes them, and continues in a run that is resumed.

    - Gradient accumulation: one sample per update, not per batch.
    - `steps_per_execution=n`: one sample per execution, with `decay ** n`.
    - `MirroredStrategy`, mixed precision: the average is float32. One replica is averaged, because all are equal.

    Args:
        decay: In [0, 1): 0.999 averages about the last 1000 steps. Choose it well below the length of the run.
        warmup: Begin with a small decay, `min(decay, (1 + step) / (10 + step))`, so that a short run forgets its first
            weights. False gives the same numbers as `use_ema`.
        every_updates: Updates between two samples, >= 1; the decay is taken to that power. 10 takes a tenth of the
            time.
        data: Recompute batch-normalization statistics from these training images at the end of every epoch. This costs
            one forward pass over them, so give no more than is enough (`.take(n)`). None: the statistics are averaged
            like the weights, which is good enough as long as the weights hardly move within the horizon of the average.
        batch_size: Images per batch for un-batched `data`.

    Raises:
        ValueError: for a decay outside [0, 1) or `every_updates` below 1; on_train_begin, when the optimizer averages
            already (`use_ema`).

    Example:
        >>> model.fit(train, epochs=30, validation_data=validation, callbacks=[ExponentialMovingAverage(0.999)])
    """

    def __init__(
        self,
        decay: float = 0.999,
        *,
        warmup: bool = True,
        every_updates: int = 1,
        data: "Data | None" = None,
        batch_size: int = 128,
    ) -> None:
        super().__init__(data, batch_size=batch_size)
        if not is_number(decay) or not 0 <= decay < 1:
            raise ValueError(
                f"ExponentialMovingAverage expects decay in [0, 1). Received decay={decay}. "
                "Take 0.999 for a run of a few thousand steps."
            )
        if not is_whole(every_updates) or every_updates < 1:
            raise ValueError(
                f"ExponentialMovingAverage expects every_updates to be a number of updates, 1 or more. "
                f"Received every_updates={every_updates!r}. Take 1."
            )
        self.decay, self.warmup, self.every_updates = float(decay), warmup, every_updates

    def on_train_begin(self, logs: Logs = None) -> None:
        super().on_train_begin(logs)
        self._accumulated = accumulation(self.model.optimizer)
        self._last = begun = iterations(self.model.optimizer)
        self._batches = begun % self._accumulated
        self._updates = self._sampled = 0

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        if self.model.steps_per_execution == 1:
            self._batches += 1
        else:
            now = iterations(self.model.optimizer)
            self._batches, self._last = self._batches + now - self._last, now
        self._updates = self._batches // self._accumulated
        new = self._updates - self._sampled
        if new >= self.every_updates:
            decay = self.decay
            if self.warmup:
                decay = min(decay, (1 + self._updates) / (10 + self._updates))
            self.take_sample(1 - decay**new)
            self._sampled = self._updates

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), "batches": self._batches, "sampled": self._sampled}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self._batches, self._sampled = state["batches"], state["sampled"]
        self._last = iterations(self.model.optimizer)
