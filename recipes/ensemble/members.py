"""Independent members: the same recipe from several seeds."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import keras

from recipes.common.types import Data
from recipes.training.train import train as train_one


def train_members(
    build: Callable[[], keras.Model],
    train: Data,
    validation: Data | None = None,
    *,
    members: int = 5,
    seed: int = 0,
    run_dir: str | PathLike[str] | None = None,
    **options: Any,
) -> list[keras.Model]:
    """Train several networks that differ by seed alone: initial weights, order of the data, augmentation.

    Source: Lakshminarayanan et al. 2017, algorithm 1 without its adversarial step, https://arxiv.org/abs/1612.01474

    Args:
        build: function without arguments that returns a new `keras.Model`, compiled or not. It is called once per
            member, after `keras.utils.set_random_seed(seed + number)`.
        train: Training data as in `recipes.train`.
        validation: Validation data as in `recipes.train`.
        members: How many, >= 1.
        seed: Seed of the first member; the others count up from it. The global seeds of Python, NumPy and the
            backend are left at the last member's.
        run_dir: Folder; member `i`, from 1, gets `run_dir/member<i>` (see `recipes.train`). With `resume=True`
            members that are finished are loaded from there instead of trained.
        **options: Everything else goes to `recipes.train`: `epochs`, `augment`, ...

    Returns:
        List of trained `keras.Model`s, ready for `ensemble.average`. All of them are in memory.

    Raises:
        ValueError: when `members` is below 1 or two calls of `build` return the same model.
    """
    if not isinstance(members, int) or members < 1:
        raise ValueError(
            f"train_members expects members >= 1. Received members={members}. Five are the usual number."
        )
    models = []
    for number in range(members):
        keras.utils.set_random_seed(seed + number)
        model = build()
        if any(model is before for before in models):
            raise ValueError(
                f"train_members expects build to make a new model each time. Received {model.name!r} twice. "
                "Move the construction of the model into build."
            )
        folder = None if run_dir is None else Path(run_dir) / f"member{number + 1}"
        run = train_one(model, train, validation, seed=seed + number, run_dir=folder, **options)
        models.append(run.model)
    return models
