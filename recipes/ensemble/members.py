"""Independent members: the same recipe from several seeds."""

from __future__ import annotations

import os
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import keras

from recipes.common.types import Data
from recipes.training.run_folder import check_folder
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
    """Train several networks that differ only by the seed: initial weights, order of the data, augmentation.

    Source: Lakshminarayanan et al. 2017, algorithm 1 without its adversarial step, https://arxiv.org/abs/1612.01474

    Args:
        build: function without arguments that returns a new `keras.Model`, compiled or not. It is called once per
            member, after `keras.utils.set_random_seed(seed + number)`, all before the first training.
        train: Training data as in `recipes.train`.
        validation: Validation data as in `recipes.train`.
        members: Number of networks, >= 1.
        seed: Seed of the first member; the others count up from it. The global seeds of Python, NumPy and the
            backend are left at the last member's.
        run_dir: Folder; member `i`, from 1, gets `run_dir/member<i>` (see `recipes.train`). With `resume=True`
            members that are finished are loaded from there instead of trained.
        **options: Everything else goes to `recipes.train`: `epochs`, `augment`, ...

    Returns:
        List of trained `keras.Model`s, ready for `ensemble.average`. All of them are in memory.

    Raises:
        ValueError: before the first training, when `members` is below 1, two calls of `build` return the same model
            or models that share trainable weights, or a member's folder holds another run or files that are not a
            run's.
    """
    if not isinstance(members, int) or members < 1:
        raise ValueError(
            f"train_members expects members >= 1. Received members={members}. Five are the usual number."
        )
    folders = [
        None if run_dir is None else Path(run_dir) / f"member{number + 1}" for number in range(members)
    ]
    for folder in folders:
        _check(folder, resume=bool(options.get("resume", False)))
    models = []
    for number in range(members):
        keras.utils.set_random_seed(seed + number)
        models.append(build())
        _check_own(models)
    for number, folder in enumerate(folders):
        keras.utils.set_random_seed(seed + number)
        run = train_one(models[number], train, validation, seed=seed + number, run_dir=folder, **options)
        models[number] = run.model
        _check_own(models)  # again, because some models make their weights at their first batch only
    return models


def _check(folder, *, resume):
    if folder is None:
        return
    if os.path.lexists(folder) and not folder.is_dir():
        raise ValueError(
            f"train_members expects a folder per member. Received {folder}, where a file of that name is. "
            "Move it away, or give another run_dir."
        )
    check_folder(folder, resume=resume)


def _check_own(models):
    """Refuse members that are trained through one another."""
    owner = {}
    for number, model in enumerate(models):
        for variable in [model, *getattr(model, "trainable_variables", ())]:
            if owner.setdefault(id(variable), number) != number:
                raise ValueError(
                    "train_members expects build to make a new model each time, with trainable weights of its own. "
                    f"Received {getattr(model, 'name', model)!r} twice, or two models that share a layer. "
                    "Move the construction of the model, with all layers that are trained, into build."
                )
