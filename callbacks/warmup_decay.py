"""WarmupDecay: warm up to the compiled learning rate, then let it decay to the end of the run."""

import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
from keras import ops

from recipes import schedules
from recipes.callbacks.rate_driver import Logs, RateDriver
from recipes.common.optimizers import iterations
from recipes.common.validation import as_row, is_number, is_whole

DECAYS = ("cosine", "linear", "step", "inverse_sqrt")


class WarmupDecay(RateDriver):
    """Climb to the compiled learning rate over the first steps, then decay over the rest of the run.

    The length of the run is read from `fit`: `epochs` times the batches per epoch. The docstring of `LearningRate` says
    how it counts steps, and what it does under `steps_per_execution`, gradient accumulation and mixed precision.

    The compiled rate is the peak. A file written by `ModelCheckpoint` in the middle of such a run holds the lowered
    rate of that moment: give `learning_rate=` when going on from one in a new process (`recipes.train(resume=True)`
    and `get_state`/`set_state` remember it). Without it, a warning says which rate was taken.

    Sources: warm-up, Goyal et al. 2017, section 2.2, https://arxiv.org/abs/1706.02677; cosine, Loshchilov and Hutter
    2017, equation 5, https://arxiv.org/abs/1608.03983; step, He et al. 2015, section 4.2,
    https://arxiv.org/abs/1512.03385; inverse square root, Vaswani et al. 2017, equation 3,
    https://arxiv.org/abs/1706.03762.

    Args:
        warmup: A float in [0, 1): part of the run; or an int: optimizer steps. The first step takes one increment,
            the last reaches the peak. Goyal: 5 of 90 epochs. 0 for none.
        decay: `"cosine"`, `"linear"`, `"step"`, or `"inverse_sqrt"` (needs a warm-up, which is its time scale).
        start: Where the warm-up begins, as a fraction of the peak, in [0, 1].
        final: Where cosine and linear end, as a fraction of the peak, in [0, 1].
        until: The part of the run, in (0, 1], after which cosine and linear have reached `final` and stay there: 0.75
            leaves the last quarter at a constant rate, for `StochasticWeightAveraging`.
        boundaries: For `"step"`: rising parts of the whole run, in (0, 1), at which the rate falls. He: 0.5 and 0.75.
        factor: For `"step"`: what the rate is multiplied by at each boundary, > 0. He: 0.1.
        learning_rate: The peak, > 0. Default: the compiled rate.
        steps_per_epoch: Batches per epoch, where neither the dataset nor `fit(steps_per_epoch=)` says.

    Raises:
        ValueError: for arguments outside their ranges; on_train_begin, when the length of the run is unknown, the
            warm-up is longer than the run or covers a boundary, or the optimizer already has a schedule.

    Example:
        >>> model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
        >>> model.fit(train, epochs=30, callbacks=[WarmupDecay(warmup=0.05, decay="cosine")])
    """

    def __init__(
        self,
        warmup: float = 0.05,
        decay: Literal["cosine", "linear", "step", "inverse_sqrt"] = "cosine",
        *,
        start: float = 0.0,
        final: float = 0.0,
        until: float = 1.0,
        boundaries: Sequence[float] = (0.5, 0.75),
        factor: float = 0.1,
        learning_rate: float | None = None,
        steps_per_epoch: int | None = None,
    ) -> None:
        super().__init__(steps_per_epoch=steps_per_epoch)
        self.warmup, self.decay, self.start, self.final = warmup, decay, start, final
        self.until, self.boundaries, self.factor = until, as_row(boundaries), factor
        self.learning_rate = learning_rate
        self._epochs: int | None = None
        self._places: list[tuple[float, float]] = []
        self._check_arguments()

    def make_schedule(self, compiled_rate: float) -> schedules.Schedule:
        peak = float(compiled_rate if self.learning_rate is None else self.learning_rate)
        updates = self._updates()
        warmup = self._warmup_updates(updates)
        # The last step of the warm-up is the first of the decay.
        before = max(warmup - 1, 0)
        decay = self._make_decay(peak, warmup, before, updates)
        schedule = schedules.Warmup(decay, warmup, start=self.start * peak) if warmup else decay
        return _Stretched(schedule, self._places, self._accumulated) if self._places else schedule

    def stretch(self, epochs: int, places: Sequence[tuple[float, float]]) -> None:
        """Follow the schedule of a run of another length, for a run that is made longer when it goes on.

        Args:
            epochs: Epochs of the run whose schedule is followed.
            places: Rising pairs `(batch of this run, batch of that run)`; between two pairs the place is interpolated.
        """
        self._epochs, self._places = epochs, [tuple(pair) for pair in places]

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        first = self._position is None
        super().on_epoch_begin(epoch, logs)
        if first and epoch > 0 and self.learning_rate is None and not self._rate_is_known:
            warnings.warn(
                f"WarmupDecay expects to know the peak when it goes on at initial_epoch={epoch}. Received an "
                f"optimizer with {iterations(self.model.optimizer)} steps behind it, and took its rate, "
                f"{float(self._driven.compiled):g}, for the peak. "
                "If it comes from a file written in the middle of a run, that is a lowered rate: pass learning_rate=.",
                stacklevel=2,
            )

    def _updates(self):
        """Optimizer steps of the whole run."""
        steps = self._steps_per_epoch()
        if steps is None:
            raise ValueError(
                "WarmupDecay expects to know the length of the run. Received a dataset of unknown cardinality. Pass "
                "steps_per_epoch= to WarmupDecay, or to fit with a dataset that repeats, or end the dataset with "
                ".apply(tf.data.experimental.assert_cardinality(batches))."
            )
        return max(1, (self._epochs or self.params["epochs"]) * steps // self._accumulated)

    def _warmup_updates(self, updates):
        if not is_whole(self.warmup):
            return max(1, round(self.warmup * updates)) if self.warmup else 0
        if self.warmup > updates:
            raise ValueError(
                f"WarmupDecay expects a warm-up no longer than the run. Received warmup={self.warmup} steps in a run "
                f"of {updates}. Give a part of the run instead, such as warmup=0.05."
            )
        return self.warmup

    def _make_decay(self, peak, warmup, before, updates):
        falls = max(1, round(self.until * updates) - before)
        if self.decay == "cosine":
            return schedules.Cosine(peak, falls, final=self.final * peak)
        if self.decay == "linear":
            return schedules.Linear(peak, falls, final=self.final * peak)
        if self.decay == "inverse_sqrt":
            return schedules.InverseSquareRoot(peak, timescale=max(warmup, 1))
        boundaries = [round(part * updates) - before for part in self.boundaries]
        if any(boundary < 1 for boundary in boundaries):
            raise ValueError(
                f"WarmupDecay expects the warm-up to end before the rate first falls. Received warmup={self.warmup} "
                f"and boundaries={self.boundaries} in a run of {updates} steps. "
                "Shorten the warm-up or move the boundaries."
            )
        return schedules.Step(peak, boundaries, factor=self.factor)

    def _check_arguments(self):
        warmup = self.warmup
        if not is_number(warmup) or warmup < 0 or (not is_whole(warmup) and warmup >= 1):
            raise ValueError(
                "WarmupDecay expects warmup as a float in [0, 1), a part of the run, or an int >= 0, a number of "
                f"steps. Received warmup={warmup!r}. Write warmup=0.05 or warmup=500."
            )
        if not isinstance(self.decay, str) or self.decay not in DECAYS:
            raise ValueError(
                f"WarmupDecay expects decay to be one of {DECAYS}. Received decay={self.decay!r}. "
                "For any other shape pass a schedule to callbacks.LearningRate."
            )
        if self.decay == "inverse_sqrt" and not warmup:
            raise ValueError(
                "WarmupDecay expects a warm-up with decay='inverse_sqrt', which takes its time scale from it. "
                f"Received warmup={warmup}. Give warmup=0.05, or pass schedules.InverseSquareRoot to LearningRate."
            )
        known = is_number(self.start) and is_number(self.final)
        if not known or not (0 <= self.start <= 1 and 0 <= self.final <= 1):
            raise ValueError(
                "WarmupDecay expects start and final as fractions of the peak, in [0, 1]. "
                f"Received start={self.start}, final={self.final}. Divide the rate you mean by the peak."
            )
        if not is_number(self.until) or not 0 < self.until <= 1:
            raise ValueError(
                f"WarmupDecay expects until as a part of the run, in (0, 1]. Received until={self.until}. "
                "Write 0.75 to reach the final rate after three quarters."
            )
        parts = self.boundaries
        known = parts is not None and all(is_number(part) and 0 < part < 1 for part in parts)
        if not known or list(parts) != sorted(set(parts)):
            raise ValueError(
                "WarmupDecay expects boundaries as rising parts of the run, each in (0, 1). "
                f"Received boundaries={self.boundaries}. Write (0.5, 0.75) for half and three quarters."
            )
        if not is_number(self.factor) or self.factor <= 0:
            raise ValueError(
                f"WarmupDecay expects factor, what the rate is multiplied by at each boundary, above 0. Received "
                f"factor={self.factor}. The paper's is 0.1."
            )
        rate = self.learning_rate
        if rate is not None and not (is_number(rate) and rate > 0):
            raise ValueError(
                f"WarmupDecay expects learning_rate, the peak, above 0. Received learning_rate={self.learning_rate}. "
                "Leave it out to use the compiled rate."
            )


class _Stretched:
    """A schedule followed at other places than the steps of this run."""

    elementwise = True

    def __init__(self, schedule, places, accumulated):
        self.schedule, self.accumulated = schedule, accumulated
        self.here, self.there = np.transpose(np.asarray(places, "float64"))

    def __call__(self, step):
        batches = np.asarray(step, "float64") * self.accumulated
        place = np.interp(batches, self.here, self.there) / self.accumulated
        step, part = (
            np.floor(place).astype("int32"),
            (place % 1).astype("float32"),
        )  # schedules know whole steps
        rates = [np.asarray(ops.convert_to_numpy(self.schedule(at))) for at in (step, step + 1)]
        return (1 - part) * rates[0] + part * rates[1]
