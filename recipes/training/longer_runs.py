"""Runs that are given more epochs when they go on: the rest of the schedule is stretched over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from recipes.callbacks import WarmupDecay
from recipes.training.callbacks import first_of
from recipes.training.run_backup import Progress
from recipes.training.run_folder import RunFolder
from recipes.training.settings import Settings


def go_on_longer(
    folder: RunFolder,
    callbacks: Sequence[keras.callbacks.Callback],
    progress: Progress,
    steps: int,
    settings: Settings,
) -> dict[str, Any]:
    """Stretch the schedule of a run that is given more epochs, and say so.

    Args:
        folder: The folder of the run.
        callbacks: The callbacks of the run.
        progress: How far the run has come.
        steps: Batches per epoch.
        settings: The arguments of `recipes.train`.

    Returns:
        A dict of entries for `run.json`; empty where the schedule is not stretched.
    """
    before, decay = folder.before or {}, first_of(callbacks, WarmupDecay)
    if progress.file is None or decay is None:
        return {}
    known = before.get("schedule_points"), before.get("schedule_epochs")
    epochs = before.get("epochs", settings.epochs)
    base, points = (known[1], known[0]) if all(known) else (epochs, [])
    if settings.epochs > epochs:
        position = progress.epoch * steps + progress.batch
        base, points = stretched(base, points, position, epochs * steps, settings.epochs * steps, steps)
        if settings.verbose != 0:
            how = "stretched over the rest" if points else "the longer run's from here on"
            print(f"recipes.train: {settings.epochs} epochs instead of {epochs}; the schedule is {how}.")
    if points:
        decay.stretch(base, points)
    return {"schedule_points": points, "schedule_epochs": base} if points else {}


def stretched(
    base: int, points: Sequence[Sequence[float]], position: int, end: int, new_end: int, steps: int
) -> tuple[int, list[list[float]]]:
    """Where the steps of a longer run are in the schedule of the original run.

    Args:
        base: Epochs of the run whose schedule is followed.
        points: The points that an earlier call returned; empty for the first call.
        position: Batches that are finished.
        end: Batches that the run was planned to have.
        new_end: Batches that it is to have now.
        steps: Batches per epoch.

    Returns:
        `(base, points)`. `points` is empty for a run that had come to its end: it follows the schedule of the longer
        run.
    """
    if position >= end:
        return new_end // steps, []
    points = [list(point) for point in points] or [[0, 0], [end, base * steps]]
    here, there = np.transpose(points)
    place = float(np.interp(position, here, there))
    kept = [point for point in points if point[0] < position]
    return base, [*kept, [position, place], [new_end, base * steps]]
