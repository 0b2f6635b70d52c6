"""The callbacks that `recipes.train` adds for its arguments: stopping, rate, averages, monitors."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from recipes import callbacks as ours
from recipes import diagnose
from recipes.callbacks.monitor import Monitor
from recipes.callbacks.step_margins import StepMargins
from recipes.common.datasets import files_in_order
from recipes.common.optimizers import innermost, is_scheduled
from recipes.common.types import Data
from recipes.diagnose.margins.example_history import ExampleHistory
from recipes.training.numbering import example_numbers
from recipes.training.run_folder import RunFolder
from recipes.training.settings import Settings
from recipes.training.training_data import TrainingData

CONSTANT = "constant"  # the rate, in words
_RATE_CALLBACKS = (
    ours.RateDriver,
    keras.callbacks.LearningRateScheduler,
    keras.callbacks.ReduceLROnPlateau,
)


def training_callbacks(
    model: keras.Model, data: TrainingData, settings: Settings, folder: RunFolder | None
) -> TrainingCallbacks:
    """The callbacks that act on the training: averages, stopping, the rate, and the user's own."""
    rate, schedule = _rate_callbacks(model, settings, folder)
    average = settings.average
    if average == "auto":
        stays = schedule == CONSTANT and first_of(settings.callbacks, _RATE_CALLBACKS) is None
        average = "ema" if stays else None
        schedule += f" (so average='auto' is {average or 'none'})"
    callbacks = [
        *_averaging(data, average, settings.epochs),
        *_stopping(data, settings),
        *rate,
        *settings.callbacks,
    ]
    return TrainingCallbacks(callbacks, schedule)


@dataclass(frozen=True)
class TrainingCallbacks:
    """What acts on the training, in the order `fit` gets it, and what drives the rate, in words."""

    callbacks: list[keras.callbacks.Callback]
    schedule: str

    @property
    def snapshots(self) -> ours.SnapshotEnsemble | None:
        """The callback that keeps snapshots, if any."""
        return first_of(self.callbacks, ours.SnapshotEnsemble)


def first_of(callbacks: Sequence[keras.callbacks.Callback], kind: type | tuple[type, ...]) -> Any:
    """The first callback of a class, or None."""
    return next((callback for callback in callbacks if isinstance(callback, kind)), None)


def _stopping(data, settings):
    stopping = settings.early_stopping
    if stopping is None:
        return []
    if isinstance(stopping, keras.callbacks.Callback):
        return [stopping]
    return [ours.EarlyStopping("loss" if data.validation is None else "val_loss", patience=stopping)]


def _rate_callbacks(model, settings, folder):
    """The callback that sets the rate, if any, and the name of its schedule."""
    schedule, given = settings.schedule, "schedule" in settings.given
    if settings.snapshots:
        if not given and settings.verbose != 0:
            print(
                f"recipes.train: the cyclic rate of snapshots={settings.snapshots} replaces schedule={schedule!r}."
            )
        where = folder.path / "snapshots" if folder is not None else None
        cycles = ours.SnapshotEnsemble(settings.snapshots, folder=where, overwrite=bool(settings.resume))
        return [cycles], f"{settings.snapshots} cosine cycles"
    if schedule is None:
        return [], "the optimizer's own" if is_scheduled(model.optimizer) else CONSTANT
    if not given and is_scheduled(model.optimizer):
        return [], "the optimizer's own"
    if not given and type(innermost(model.optimizer)).__name__ == "ScheduleFreeAdamW":
        return [], "none: ScheduleFreeAdamW keeps its own rate"
    if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        return [ours.LearningRate(schedule)], type(schedule).__name__
    if settings.average == "swa" and not given:
        # Izmailov et al. 2018: the weights only differ, and averaging only helps, while the rate stays high.
        high = ours.WarmupDecay(warmup=settings.warmup, decay="cosine", until=0.75, final=0.3)
        return [high], "cosine, then high for swa"
    return [ours.WarmupDecay(warmup=settings.warmup, decay=schedule)], schedule


def _averaging(data, average, epochs):
    if average is None:
        return []
    if average == "ema":
        steps = data.steps * epochs
        return [ours.ExponentialMovingAverage(1 - 1 / min(1000, max(10, steps / 10)))]
    return [ours.StochasticWeightAveraging(data=data.for_statistics())]


def watching_callbacks(
    model: keras.Model,
    others: Sequence[keras.callbacks.Callback],
    facts: Any,
    data: TrainingData,
    settings: Settings,
) -> list[keras.callbacks.Callback]:
    """The default monitors, the margins of the examples and a doctor, each unless the user brings one.

    An empty list without `monitor`.
    """
    if not settings.monitor:
        return []
    # Small initial weights and the end of a decay are outside its range in healthy runs too.
    ratios = [] if first_of(others, ours.UpdateRatioMonitor) else [ours.UpdateRatioMonitor(warn=False)]
    monitors = [*ratios, *ours.default_monitors(beside=[*others, *ratios])]
    numbers = example_numbers(data, settings, model)
    # On JAX the outputs would cost a forward pass at every step.
    if numbers is not None and keras.backend.backend() == "tensorflow":
        monitors.append(StepMargins(numbers))
    if first_of(others, ours.TrainingDoctor) is None:
        known = (
            {"train": data.preview(), "validation": data.validation_preview()}
            if facts is None
            else {"facts": facts}
        )
        monitors.append(ours.TrainingDoctor(verbose=int(settings.verbose != 0), budget=0.01, **known))
    return monitors


def clean_up(callbacks: Sequence[keras.callbacks.Callback]) -> None:
    """Put back the optimizer's rate and the train function after a `fit` that an exception ended."""
    for callback in callbacks:
        if isinstance(callback, ours.RateDriver):
            callback.release()
        elif isinstance(callback, Monitor):
            callback.leave()


def examples_of(callbacks: Sequence[keras.callbacks.Callback], train: Data) -> ExampleHistory | None:
    """The margins of each example in the steps of the run; None where they were not gathered.

    Args:
        callbacks: Of the run.
        train: The training data as it was given, whose files the examples are named by, where it knows them.
    """
    margins = first_of(callbacks, StepMargins)
    history = None if margins is None else margins.history_of_examples
    if history is not None:
        history.resize(int(np.flatnonzero(history.labels >= 0).max(initial=-1)) + 1)
        files = files_in_order(train)
        history.files = files[: len(history.labels)] if len(files) >= len(history.labels) > 0 else None
    return history


def times_of(callbacks: Sequence[keras.callbacks.Callback]) -> list[dict[str, float]]:
    """Where the time of each epoch went, in seconds, as the doctor noted it; empty without one."""
    doctor = first_of(callbacks, ours.TrainingDoctor)
    return [] if doctor is None else doctor.epoch_times


def rate_by_step(callbacks: Sequence[keras.callbacks.Callback], steps: int) -> dict[str, list[Any]]:
    """The learning rates of a run of so many steps, as `RateDriver.rate_by_step` gives them; empty without one."""
    driver = first_of(callbacks, ours.RateDriver)
    return {} if driver is None else driver.rate_by_step(steps)


def findings_of(
    callbacks: Sequence[keras.callbacks.Callback], history: dict[str, list[float]], model: keras.Model
) -> list[diagnose.Finding]:
    """What the doctor found; without one, what curves and model say."""
    doctor = first_of(callbacks, ours.TrainingDoctor)
    if doctor is not None:
        return doctor.findings
    try:
        return diagnose.diagnose(history, None, model)
    except Exception as error:
        # Hours of training must not be lost because judging them fails.
        warnings.warn(
            f"recipes.train expects a finished run that it can diagnose. Received {type(error).__name__}: {error}. The "
            "run itself is complete; please report this with the model.",
            stacklevel=3,
        )
        return []
