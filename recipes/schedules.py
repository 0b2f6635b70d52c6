"""Learning-rate schedules: step -> rate, as Keras schedules that save with a compiled model.

A step is one call of the optimizer, counted from 0. Every schedule takes one integer or a whole array of them,
computes in float32 whatever the dtype policy, and gives the same number inside a compiled train function as outside.
Keras has `ExponentialDecay`, `PiecewiseConstantDecay`, `PolynomialDecay`, `InverseTimeDecay`, `CosineDecay` and
`CosineDecayRestarts`. Here are the schedules that it lacks, and those that a warm-up is put in front of.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from recipes.common.validation import as_row, is_number

__all__ = [
    "Cosine",
    "CosineRestarts",
    "Cyclic",
    "InverseSquareRoot",
    "Join",
    "Linear",
    "OneCycle",
    "Schedule",
    "Step",
    "Triangle",
    "Warmup",
    "scale_for_batch",
]

_LAST_STEP = 2**31 - 1


def scale_for_batch(rate: float, batch: int, base_batch: int = 256) -> float:
    """The learning rate for another batch size, by the linear scaling rule.

    Source: Goyal et al. 2017, section 2.1, https://arxiv.org/abs/1706.02677. The rule holds for SGD, with a warm-up,
    up to a few thousand examples per batch; for Adam the rate is commonly scaled by the square root instead.

    Args:
        rate: The rate that suits `base_batch`, > 0. Paper: 0.1 for ResNet-50.
        batch: Examples per update, over all devices and accumulated batches together, >= 1.
        base_batch: Examples per update for which `rate` was found, >= 1. Paper: 256.

    Returns:
        `rate * batch / base_batch`, a float.

    Raises:
        ValueError: for an argument that is not a number above 0.
    """
    _check_positive("scale_for_batch", rate=rate, batch=batch, base_batch=base_batch)
    return float(rate) * batch / base_batch


_MOST_STEPS = 2**30  # steps are int32, and a cycle is two halves


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Base of our schedules: `schedule(step)` for an integer or an integer array, float32 of the same shape."""

    elementwise = True  # takes arrays of steps, which Keras' own schedules need not

    def __call__(self, step: Any) -> Any:
        return self.rate_at(ops.cast(step, "int32"))

    def rate_at(self, step: Any) -> Any:
        """The rate at `step`, an int32 tensor of any shape."""
        raise NotImplementedError(
            f"A schedule expects its class to define rate_at(step). Received {type(self).__name__}, which does not. "
            "Return the rates at an int32 tensor of steps there."
        )


@keras.saving.register_keras_serializable(package="recipes")
class Warmup(Schedule):
    """Climb in equal increments to the first rate of another schedule, then follow it.

    With t counted from 0, `start + (schedule(0) - start) * (t + 1) / steps` while t < steps, so that the first step
    takes one increment and the last one reaches the peak; from there on `schedule(t - (steps - 1))`: the last step of
    the warm-up is step 0 of the schedule. (Keras' `CosineDecay(warmup_steps=)` spends its first step at the start
    rate, which is 0 by default, and so trails this by one step.)
    Source: Goyal et al. 2017, section 2.2, https://arxiv.org/abs/1706.02677

    Args:
        schedule: What follows: any `LearningRateSchedule`, or a number for a constant rate.
        steps: Optimizer steps until the peak, >= 1. With 1 there is no warm-up.
        start: Rate before the first increment, from 0 to the peak.

    Raises:
        TypeError: for a `schedule` that is neither a `LearningRateSchedule` nor a number.
        ValueError: for `steps` or `start` out of range.
    """

    def __init__(
        self,
        schedule: keras.optimizers.schedules.LearningRateSchedule | float,
        steps: int,
        start: float = 0.0,
    ) -> None:
        self.schedule = _as_schedule("Warmup", schedule)
        _check_positive("Warmup", whole=True, steps=steps)
        self.steps = int(steps)
        peak = float(ops.convert_to_numpy(self.schedule(0)))
        if not is_number(start) or not 0 <= start <= peak:
            raise ValueError(
                f"Warmup expects start between 0 and the peak, {peak:g}. Received start={start}. "
                "Give a lower start, or leave the warm-up out to begin at a high rate."
            )
        self.start = float(start)
        self._joined = Join([_Climb(self.start, peak, self.steps), self.schedule], [self.steps - 1])
        self.elementwise = self._joined.elementwise

    def rate_at(self, step: Any) -> Any:
        return self._joined.rate_at(step)

    def get_config(self) -> dict[str, Any]:
        schedule = keras.saving.serialize_keras_object(self.schedule)
        return {"schedule": schedule, "steps": self.steps, "start": self.start}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Warmup":
        return cls(**{**config, "schedule": keras.saving.deserialize_keras_object(config["schedule"])})


class _Climb(Schedule):
    """Equal increments from `start`: step 0 takes the first one, step `steps - 1` the last, which reaches `peak`."""

    def __init__(self, start, peak, steps):
        self.start, self.peak, self.steps = start, peak, steps

    def rate_at(self, step):
        done = ops.minimum(ops.cast(step + 1, "float32") / self.steps, 1.0)
        return self.start + (self.peak - self.start) * done


@keras.saving.register_keras_serializable(package="recipes")
class Join(Schedule):
    """Several schedules one after the other, each of which counts its steps from where it begins.

    `schedules[0](t)` before the first boundary, then `schedules[i](t - boundaries[i - 1])`: at a boundary the next
    schedule is at its step 0. Same rule as `optax.join_schedules`.

    Args:
        schedules: Two or more `LearningRateSchedule`s, or numbers for constant rates.
        boundaries: Optimizer steps at which the next schedule begins, one fewer than schedules, each 0 or more, none
            below the one before. A schedule between two equal boundaries is skipped.

    Raises:
        TypeError: for a schedule of another kind.
        ValueError: for boundaries that do not fit.

    Example:
        >>> Join([Cosine(0.1, 1000, final=0.01), Cosine(0.05, 500)], [1000])   # step 1000 has rate 0.05
    """

    def __init__(
        self,
        schedules: Sequence[keras.optimizers.schedules.LearningRateSchedule | float],
        boundaries: Sequence[int],
    ) -> None:
        parts, row = as_row(schedules), as_row(boundaries)
        known = parts is not None and row is not None and len(parts) == len(row) + 1 >= 2
        if not known or not all(is_number(one) and one == int(one) for one in row):
            raise ValueError(
                "Join expects two or more schedules and the step at which each but the first begins. Received "
                f"schedules={schedules!r}, boundaries={boundaries!r}. Write Join([first, second], [1000])."
            )
        if list(row) != sorted(row) or not 0 <= row[0] <= row[-1] <= _LAST_STEP:
            raise ValueError(
                f"Join expects boundaries of 0 or more that do not fall. Received boundaries={boundaries}. "
                "Count each from the beginning of the run, the earliest first."
            )
        self.schedules = [_as_schedule("Join", part) for part in parts]
        self.boundaries = [int(boundary) for boundary in row]
        self.elementwise = all(getattr(part, "elementwise", False) for part in self.schedules)

    def rate_at(self, step: Any) -> Any:
        rate = ops.cast(self.schedules[0](step), "float32")
        for schedule, boundary in zip(self.schedules[1:], self.boundaries, strict=True):
            later = ops.cast(schedule(ops.maximum(step - boundary, 0)), "float32")
            rate = ops.where(step < boundary, rate, later)
        return rate

    def get_config(self) -> dict[str, Any]:
        schedules = [keras.saving.serialize_keras_object(schedule) for schedule in self.schedules]
        return {"schedules": schedules, "boundaries": self.boundaries}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Join":
        schedules = [keras.saving.deserialize_keras_object(schedule) for schedule in config["schedules"]]
        return cls(schedules, config["boundaries"])


@keras.saving.register_keras_serializable(package="recipes")
class Step(Schedule):
    """Multiply the rate by `factor` at each boundary.

    Source: He et al. 2015, section 4.2, https://arxiv.org/abs/1512.03385: on CIFAR-10 a tenth at steps 32k and 48k of
    64k. Step `boundary` itself is the first at the lower rate; Keras' `PiecewiseConstantDecay` lowers one step later.

    Args:
        rate: Rate before the first boundary, > 0.
        boundaries: Optimizer steps at which to lower the rate, >= 1, rising. Empty: a constant rate.
        factor: What the rate is multiplied by at each boundary, > 0. Paper: 0.1.

    Raises:
        ValueError: for an argument out of its range.
    """

    def __init__(self, rate: float, boundaries: Sequence[int], factor: float = 0.1) -> None:
        _check_positive("Step", rate=rate, factor=factor)
        row = as_row(boundaries)
        known = row is not None and all(is_number(one) and one == int(one) <= _LAST_STEP for one in row)
        if not known or any(one <= before for before, one in zip((0, *row), row, strict=False)):
            raise ValueError(
                f"Step expects rising boundaries, whole numbers of 1 or more. Received boundaries={boundaries}. "
                "List the optimizer steps at which the rate falls, the earliest first."
            )
        with np.errstate(over="ignore"):
            last = np.float32(np.float64(rate) * np.float64(factor) ** len(row))
        if not np.isfinite(last):
            raise ValueError(
                f"Step expects rates that float32 can hold. Received rate={rate} and factor={factor} for {len(row)} "
                "boundaries. Write factor=0.1 to lower the rate."
            )
        self.rate, self.factor = float(rate), float(factor)
        self.boundaries = [int(boundary) for boundary in row]

    def rate_at(self, step: Any) -> Any:
        rates = self.rate * self.factor ** np.arange(len(self.boundaries) + 1)
        return ops.take(rates.astype("float32"), _passed(step, self.boundaries))

    def get_config(self) -> dict[str, Any]:
        return {"rate": self.rate, "boundaries": self.boundaries, "factor": self.factor}


@keras.saving.register_keras_serializable(package="recipes")
class Cosine(Schedule):
    """Half a cosine from `rate` down to `final`, and `final` from step `steps` on.

    Source: Loshchilov and Hutter 2017, equation 5 with a single period, https://arxiv.org/abs/1608.03983. In a run of
    `steps` steps the last one is still just above `final`, so none is spent at a rate of zero.

    Args:
        rate: Rate at step 0, > 0 (eta_max in the paper).
        steps: Optimizer steps until `final`, >= 1.
        final: Rate to end at, from 0 to `rate` (eta_min in the paper).

    Raises:
        ValueError: for an argument out of its range.
    """

    def __init__(self, rate: float, steps: int, final: float = 0.0) -> None:
        _check_positive("Cosine", rate=rate)
        _check_positive("Cosine", whole=True, steps=steps)
        _check_final("Cosine", final, rate)
        self.rate, self.steps, self.final = float(rate), int(steps), float(final)

    def rate_at(self, step: Any) -> Any:
        return _half_cosine(self.rate, self.final, ops.cast(step, "float32") / self.steps)

    def get_config(self) -> dict[str, Any]:
        return {"rate": self.rate, "steps": self.steps, "final": self.final}


@keras.saving.register_keras_serializable(package="recipes")
class Linear(Schedule):
    """A straight line from `rate` down to `final`, and `final` from step `steps` on.

    Source: Goodfellow et al. 2016, equation 8.14, https://www.deeplearningbook.org/contents/optimization.html

    Args:
        rate: Rate at step 0, > 0.
        steps: Optimizer steps until `final`, >= 1 (tau in the book).
        final: Rate to end at, from 0 to `rate`. The book advises 1 % of `rate`.

    Raises:
        ValueError: for an argument out of its range.
    """

    def __init__(self, rate: float, steps: int, final: float = 0.0) -> None:
        _check_positive("Linear", rate=rate)
        _check_positive("Linear", whole=True, steps=steps)
        _check_final("Linear", final, rate)
        self.rate, self.steps, self.final = float(rate), int(steps), float(final)

    def rate_at(self, step: Any) -> Any:
        left = 1 - ops.minimum(ops.cast(step, "float32") / self.steps, 1.0)
        return self.final + (self.rate - self.final) * left

    def get_config(self) -> dict[str, Any]:
        return {"rate": self.rate, "steps": self.steps, "final": self.final}


@keras.saving.register_keras_serializable(package="recipes")
class InverseSquareRoot(Schedule):
    """`rate * sqrt(timescale / (timescale + step))`: falls for ever and knows no end of the run.

    `Warmup(InverseSquareRoot(peak, timescale=steps), steps)` is equation 3 of Vaswani et al. 2017,
    https://arxiv.org/abs/1706.03762, with `peak = 1 / sqrt(d_model * steps)`.

    Args:
        rate: Rate at step 0, > 0.
        timescale: Optimizer steps, > 0: the rate has halved after three times as many. The paper's is its warm-up,
            4000.

    Raises:
        ValueError: for an argument out of its range.
    """

    def __init__(self, rate: float, timescale: float) -> None:
        _check_positive("InverseSquareRoot", rate=rate, timescale=timescale)
        if timescale < 1e-30:  # below that float32 has no number to divide by
            raise ValueError(
                f"InverseSquareRoot expects timescale in optimizer steps. Received timescale={timescale!r}. "
                "Give for example the steps of the warm-up, timescale=4000."
            )
        self.rate, self.timescale = float(rate), timescale

    def rate_at(self, step: Any) -> Any:
        return self.rate / ops.sqrt(1 + ops.cast(step, "float32") / self.timescale)

    def get_config(self) -> dict[str, Any]:
        return {"rate": self.rate, "timescale": self.timescale}


@keras.saving.register_keras_serializable(package="recipes")
class Triangle(Schedule):
    """Up from `low` to `high` and down again in straight lines, once, and `low` from step `steps` on.

    Source: Smith 2017, section 3, https://arxiv.org/abs/1506.01186: a single cycle of it. `Cyclic` repeats for ever.

    Args:
        low: Rate at step 0 and from step `steps` on, >= 0 (base_lr in the paper).
        high: Rate half-way, > `low` (max_lr in the paper).
        steps: Optimizer steps from `low` back to `low`, >= 1 (two stepsizes in the paper).

    Raises:
        ValueError: for an argument out of its range.
    """

    def __init__(self, low: float, high: float, steps: int) -> None:
        _check_positive("Triangle", whole=True, steps=steps)
        _check_low("Triangle", low, high)
        self.low, self.high, self.steps = float(low), float(high), int(steps)

    def rate_at(self, step: Any) -> Any:
        place = ops.cast(ops.minimum(step, self.steps), "float32") / (self.steps / 2)
        return self.low + (self.high - self.low) * _triangle(place)

    def get_config(self) -> dict[str, Any]:
        return {"low": self.low, "high": self.high, "steps": self.steps}


@keras.saving.register_keras_serializable(package="recipes")
class Cyclic(Schedule):
    """Up from `low` to `high` and down again in straight lines, for ever.

    Source: Smith 2017, section 3, https://arxiv.org/abs/1506.01186. `exp_range` follows the words of section 3.2:
    both boundaries decline by `gamma ** step`; some libraries shrink only the distance from `low`.

    Args:
        low: Rate at both ends of a cycle, >= 0 (base_lr in the paper).
        high: Rate in the middle of a cycle, > `low` (max_lr in the paper).
        half_cycle: Optimizer steps from `low` to `high`, >= 1 (stepsize in the paper: 2 to 10 epochs' worth).
        mode: `"triangular"`; `"triangular2"`: the distance from `low` to `high` is halved after each cycle; or
            `"exp_range"`.
        gamma: For `exp_range`, in (0, 1]. Paper: 0.99994 with a half cycle of 2000.

    Raises:
        ValueError: for an argument out of its range.
    """

    MODES = ("triangular", "triangular2", "exp_range")

    def __init__(
        self,
        low: float,
        high: float,
        half_cycle: int,
        mode: Literal["triangular", "triangular2", "exp_range"] = "triangular",
        gamma: float = 0.99994,
    ) -> None:
        _check_positive("Cyclic", whole=True, half_cycle=half_cycle)
        _check_positive("Cyclic", gamma=gamma)
        _check_low("Cyclic", low, high)
        if mode not in self.MODES:
            raise ValueError(
                f"Cyclic expects mode to be one of {self.MODES}. Received mode={mode!r}. Give one of these names."
            )
        if gamma > 1:
            raise ValueError(
                f"Cyclic expects gamma in (0, 1]. Received gamma={gamma}. Give for example the paper's 0.99994: above "
                "1 the rate would grow for ever."
            )
        self.low, self.high, self.half_cycle = float(low), float(high), int(half_cycle)
        self.mode, self.gamma = mode, float(gamma)

    def rate_at(self, step: Any) -> Any:
        period = 2 * self.half_cycle
        place = ops.cast(step % period, "float32") / self.half_cycle
        rise = (self.high - self.low) * _triangle(place)
        if self.mode == "triangular2":
            rise = rise * 0.5 ** ops.cast(step // period, "float32")
        rate = self.low + rise
        if self.mode == "exp_range":
            rate = rate * ops.exp(math.log(self.gamma) * ops.cast(step, "float32"))
        return rate

    def get_config(self) -> dict[str, Any]:
        bounds = {"low": self.low, "high": self.high, "half_cycle": self.half_cycle}
        return {**bounds, "mode": self.mode, "gamma": self.gamma}


@keras.saving.register_keras_serializable(package="recipes")
class CosineRestarts(Schedule):
    """Half cosines one after the other, each restarting at the top (SGDR).

    Source: Loshchilov and Hutter 2017, equation 5, https://arxiv.org/abs/1608.03983. Restarts are found in whole
    numbers, so they fall on their step also where a float32 logarithm would miss it.

    Args:
        rate: Rate at the first restart, > 0 (eta_max in the paper).
        steps: Optimizer steps of the first period, >= 1 (T_0 in the paper).
        growth: How much longer each period is than the one before, >= 1 (T_mult in the paper, 1 or 2 there).
        decay: What the top is multiplied by at each restart, in (0, 1]. Paper: 1.
        final: Rate at the bottom, from 0 to `rate`, and never above the top (eta_min in the paper).

    Raises:
        ValueError: for an argument out of its range.
    """

    def __init__(
        self, rate: float, steps: int, growth: float = 1, decay: float = 1.0, final: float = 0.0
    ) -> None:
        _check_positive("CosineRestarts", rate=rate, decay=decay)
        _check_positive("CosineRestarts", whole=True, steps=steps)
        _check_final("CosineRestarts", final, rate)
        if not is_number(growth) or growth < 1 or decay > 1:
            raise ValueError(
                f"CosineRestarts expects growth >= 1 and decay <= 1. Received growth={growth}, decay={decay}. "
                "Give a growth of 1 or more and a decay of 1 or less."
            )
        self.rate, self.steps, self.final = float(rate), int(steps), float(final)
        self.growth, self.decay = growth, float(decay)
        self._restarts = _restarts(self.steps, growth)

    def rate_at(self, step: Any) -> Any:
        if self.growth == 1:
            period, place = step // self.steps, ops.cast(step % self.steps, "float32") / self.steps
        else:
            period = _passed(step, self._restarts[1:])
            starts, lengths = self._restarts[:-1], np.diff(self._restarts)
            period = ops.minimum(period, len(lengths) - 1)
            place = ops.cast(step - ops.take(starts, period), "float32") / ops.cast(
                ops.take(lengths, period), "float32"
            )
        top = self.rate * self.decay ** ops.cast(period, "float32")
        return _half_cosine(ops.maximum(top, self.final), self.final, place)

    def get_config(self) -> dict[str, Any]:
        shape = {"rate": self.rate, "steps": self.steps, "growth": self.growth}
        return {**shape, "decay": self.decay, "final": self.final}


@keras.saving.register_keras_serializable(package="recipes")
class OneCycle(Schedule):
    """One triangle up to `peak` and down to `start`, then a short tail to almost nothing.

    Source: Smith and Topin 2018, section 3, https://arxiv.org/abs/1708.07120: one cycle a little shorter than the
    run, the rest far below the rate it began with. Straight lines as in the paper. Momentum, which the authors cycle
    the other way round, is left alone.

    Args:
        peak: Highest rate, > 0, from a range test.
        steps: Optimizer steps of the whole run, >= 4.
        start: Rate at step 0 and after the triangle, from `final` to `peak`. Default `peak / 25`.
        final: Rate at step `steps - 1` and after it, >= 0. Default `start / 1000`.
        tail: Part of the run left for the descent to `final`, in [0, 1). The triangle's sides share the rest equally.

    Raises:
        ValueError: for an argument out of its range.
    """

    def __init__(
        self,
        peak: float,
        steps: int,
        start: float | None = None,
        final: float | None = None,
        tail: float = 0.1,
    ) -> None:
        _check_positive("OneCycle", peak=peak)
        _check_positive("OneCycle", whole=True, steps=steps)
        start = peak / 25 if start is None else start
        final = (start / 1000 if is_number(start) else 0.0) if final is None else final
        known = all(is_number(value) for value in (start, final, tail))
        if not known or not (0 <= final <= start <= peak and 0 <= tail < 1 and steps >= 4):
            raise ValueError(
                "OneCycle expects 0 <= final <= start <= peak, tail in [0, 1) and 4 steps or more. "
                f"Received start={start}, final={final}, peak={peak}, tail={tail}, steps={steps}. "
                "Leave start, final and tail out to get the usual shape."
            )
        self.peak, self.steps, self.tail = float(peak), int(steps), float(tail)
        self.start, self.final = float(start), float(final)

    def rate_at(self, step: Any) -> Any:
        last = self.steps - 1
        top = max(1, round(last * (1 - self.tail) / 2))
        step = ops.cast(ops.minimum(step, last), "float32")
        triangle = self.start + (self.peak - self.start) * _triangle(step / top)
        left = (last - step) / max(last - 2 * top, 1)
        return ops.where(step <= 2 * top, triangle, self.final + (self.start - self.final) * left)

    def get_config(self) -> dict[str, Any]:
        rates = {"peak": self.peak, "start": self.start, "final": self.final}
        return {**rates, "steps": self.steps, "tail": self.tail}


def _half_cosine(top, bottom, place):
    """From `top` at place 0 to `bottom` at place 1 and after."""
    return bottom + (top - bottom) * 0.5 * (1 + ops.cos(math.pi * ops.minimum(place, 1.0)))


def _triangle(place):
    """From 0 at place 0 up to 1 at place 1 and down to 0 at place 2, in straight lines."""
    return 1 - ops.abs(place - 1)


def _passed(step, boundaries):
    """How many of the rising `boundaries` each step has reached, int32 of step's shape."""
    if not len(boundaries):
        return ops.zeros_like(step)
    reached = ops.expand_dims(step, -1) >= np.asarray(boundaries, "int32")
    return ops.sum(ops.cast(reached, "int32"), axis=-1)


def _restarts(first, growth):
    """The steps at which the periods begin, up to the last step an int32 can count."""
    starts, length = [0], float(first)
    while growth > 1 and starts[-1] + round(length) <= _LAST_STEP:
        starts.append(starts[-1] + round(length))
        length *= growth
    return np.asarray([*starts, _LAST_STEP] if growth > 1 else starts, "int32")


def _as_schedule(name, schedule):
    if is_number(schedule):
        return Step(schedule, boundaries=())
    if not isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        raise TypeError(
            f"{name} expects a keras LearningRateSchedule or a constant rate. Received {schedule!r}. "
            "Write a function of the step as a LearningRateSchedule, so that it can be saved."
        )
    return schedule


def _check_low(name, low, high):
    _check_positive(name, high=high)
    if not is_number(low) or not 0 <= low < high:
        raise ValueError(
            f"{name} expects 0 <= low < high. Received low={low}, high={high}. "
            "Read both from a learning-rate range test, or give low as a quarter of high."
        )


def _check_positive(name, *, whole=False, **arguments):
    for argument, value in arguments.items():
        if not is_number(value) or value <= 0 or (whole and (value != int(value) or value > _MOST_STEPS)):
            kind = f"a whole number from 1 to {_MOST_STEPS:,}" if whole else "a number above 0"
            raise ValueError(
                f"{name} expects {argument} to be {kind}. Received {argument}={value!r}. "
                + ("Count it in optimizer steps." if whole else "Give a positive number.")
            )


def _check_final(name, final, rate):
    if not is_number(final) or not 0 <= final <= rate:
        raise ValueError(
            f"{name} expects final between 0 and rate={rate:g}. Received final={final}. "
            "Give final as a rate, not as a fraction of it; 0 ends at zero."
        )
