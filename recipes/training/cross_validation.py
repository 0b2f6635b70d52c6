"""cross_validate: how well a recipe does, with an interval that holds for other data and other seeds."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from scipy import stats

from recipes.common.backends import require_tensorflow
from recipes.common.datasets import as_batches, pairs_of
from recipes.common.types import Data, FloatArray
from recipes.training.run import Run
from recipes.training.train import train as train_one


@dataclass(frozen=True)
class CrossValidation:
    """The runs of all folds and seeds.

    Attributes:
        scores: What the last epoch of each run logged: `{"val_accuracy": float64 (folds * seeds,), ...}`.
        folds: Number of folds.
        seeds: The seeds.
        runs: The `recipes.Run`s, fold by fold within each seed.
        fold_of: The fold that each example was held out in, for the first seed, int64 `(n,)`.
    """

    scores: dict[str, FloatArray]
    folds: int
    seeds: tuple[int, ...]
    runs: tuple[Run, ...] = field(repr=False)
    fold_of: np.ndarray = field(repr=False)

    def mean(self, metric: str = "val_accuracy") -> float:
        """The mean over all runs."""
        return float(self.scores[metric].mean())

    def interval(self, metric: str = "val_accuracy") -> tuple[float, float]:
        """95 % confidence interval `(low, high)` of the mean, by Student's t, corrected for training sets that overlap.

        The variance over n runs is multiplied by `1 / n + 1 / (folds - 1)`, where the second term is the ratio of test
        to training examples.
        Source: Nadeau & Bengio 2003, section 4.5, https://doi.org/10.1023/A:1024068626366
        """
        values = self.scores[metric]
        count = len(values)
        width = np.sqrt(values.var(ddof=1) * (1 / count + 1 / (self.folds - 1)))
        half = float(stats.t.ppf(0.975, count - 1) * width)
        return self.mean(metric) - half, self.mean(metric) + half

    def table(self) -> str:
        """One line per metric: mean, interval, lowest and highest."""
        width = max(6, *map(len, self.scores))
        lines = [f"{'metric':{width}}      mean  95 %                lowest   highest"]
        for name, values in self.scores.items():
            low, high = self.interval(name)
            middle = f"{values.mean():8.4f}  {low:8.4f} to {high:8.4f}"
            lines.append(f"{name:{width}}  {middle}  {values.min():8.4f}  {values.max():8.4f}")
        lines.append(f"{self.folds} folds, seeds {', '.join(map(str, self.seeds))}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()


def cross_validate(
    build: Callable[[], keras.Model],
    data: Data,
    folds: int = 5,
    *,
    seeds: Sequence[int] = (0,),
    groups: Any = None,
    run_dir: str | os.PathLike[str] | None = None,
    **options: Any,
) -> CrossValidation:
    """Train on all folds but one and validate on that one, for each fold and each seed.

    Folds keep the shares of the classes (stratified), each class dealt out in turn after shuffling by the seed.

    Args:
        build: function without arguments that returns a new `keras.Model`, compiled or not. It is called once per
            run, after `keras.utils.set_random_seed(seed)`.
        data: All examples, as arrays `(x, y)` or a `tf.data.Dataset` of `(image, label)`, batched or not. A data set
            must come in the same order each time; it is read again for every fold, without being held in memory.
        folds: Number of folds, >= 2.
        seeds: Integers; each gives folds, weights and augmentation of its own.
        groups: The group of each example, `(n,)`, such as the patient or the scene: examples of one group stay in one
            fold. Folds are then not stratified, and are as equal in size as the groups allow.
        run_dir: Folder; the run of a fold is kept in `run_dir/seed0-fold1`, and with `resume=True` not trained again.
        **options: Everything else goes to `recipes.train`: `epochs`, `info`, `verbose`, ...

    Returns:
        A `CrossValidation`: `print` it, or `.mean("val_accuracy")`, `.interval("val_accuracy")`, `.runs`.

    Raises:
        ValueError: for fewer than two folds, more folds than examples of a class or than groups, a `build` that returns
            the same model twice, or a data set that comes in another order at the second reading.
        RuntimeError: on another backend than TensorFlow.
    """
    require_tensorflow("recipes.cross_validate", "for tf.data")
    seeds = tuple(seeds)
    if not isinstance(folds, int) or folds < 2 or not seeds:
        raise ValueError(
            f"recipes.cross_validate expects folds >= 2 and at least one seed. Received folds={folds!r}, "
            f"seeds={seeds!r}. Five folds are the usual number."
        )
    data = pairs_of(data)
    models: list[keras.Model] = []
    labels, part = None, None
    scores: dict[str, list[float]] = {}
    runs: list[Run] = []
    first = np.zeros(0, np.int64)
    for seed in seeds:
        for fold in range(folds):
            keras.utils.set_random_seed(seed)
            model = build()
            if any(model is before for before in models):
                raise ValueError(
                    "recipes.cross_validate expects build to make a new model each time. Received the same one twice. "
                    "Move the construction of the model into build."
                )
            models.append(model)
            if labels is None:
                labels = _labels(data, model)
            if fold == 0:
                part = fold_numbers(labels, folds, seed=seed, groups=groups)
                first = first if len(first) else part
            kept, held = (_chosen(data, rows, model) for rows in (part != fold, part == fold))
            folder = None if run_dir is None else Path(run_dir) / f"seed{seed}-fold{fold + 1}"
            run = train_one(model, kept, held, seed=seed, run_dir=folder, **options)
            runs.append(run)
            for name, values in run.history.items():
                if name.startswith("val_"):
                    scores.setdefault(name, []).append(values[-1])
    return CrossValidation(
        {name: np.array(values) for name, values in scores.items()}, folds, seeds, tuple(runs), first
    )


def fold_numbers(labels: np.ndarray, folds: int, *, seed: int = 0, groups: Any = None) -> np.ndarray:
    """The fold of each example, int64 `(n,)`, in 0..folds-1.

    Args:
        labels: Class numbers `(n,)` or rows `(n, classes)`; rows of several labels are not stratified.
        folds: Number of folds, >= 2.
        seed: Integer that fixes the order.
        groups: As in `cross_validate`.

    Raises:
        ValueError: for more folds than examples of a class, or than groups.
    """
    random, count = np.random.default_rng(seed), len(labels)
    numbers = np.zeros(count, np.int64)
    if groups is not None:
        names, place = np.unique(np.asarray(groups), return_inverse=True)
        if len(place) != count or len(names) < folds:
            raise ValueError(
                f"recipes.cross_validate expects a group for each of {count} examples, and at least {folds} groups. "
                f"Received groups for {len(place)} examples, {len(names)} different ones. Take fewer folds."
            )
        sizes, held = np.bincount(place), np.zeros(folds)
        order = random.permutation(len(names))
        chosen = np.zeros(len(names), np.int64)
        for group in order[
            np.argsort(-sizes[order], kind="stable")
        ]:  # the largest first, into the emptiest fold
            chosen[group] = held.argmin()
            held[chosen[group]] += sizes[group]
        return chosen[place]
    single = labels.ndim == 1 or (labels.shape[1] > 1 and bool(np.all(labels.sum(1) == 1)))
    kinds = (labels if labels.ndim == 1 else labels.argmax(1)) if single else np.zeros(count, int)
    start = 0
    for kind, size in zip(*np.unique(kinds, return_counts=True), strict=True):
        if size < folds:
            raise ValueError(
                f"recipes.cross_validate expects at least {folds} examples of each class, one per fold. "
                f"Received {size} of class {kind}. Take fewer folds, or leave that class out."
            )
        rows = random.permutation(np.flatnonzero(kinds == kind))
        numbers[rows] = (np.arange(size) + start) % folds  # where one class ends the next goes on
        start += size
    return numbers


def _labels(data, model):
    """All labels in order; a data set is read twice, and has to agree with itself."""
    if not isinstance(data, tf.data.Dataset):
        labels = np.asarray(data[1])
        return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    reading = {"batch_size": 64, "caller": "recipes.cross_validate"}
    first, second = (
        np.concatenate([np.asarray(batch[1]) for batch in as_batches(data, model, **reading)])
        for _ in range(2)
    )
    if not np.array_equal(first, second):
        raise ValueError(
            "recipes.cross_validate expects data to come in the same order every time, so that folds stay apart. "
            "Received another order at the second reading. Leave shuffle out; training shuffles."
        )
    return first


def _chosen(data, rows, model):
    """The examples whose place in `rows` is True."""
    if not isinstance(data, tf.data.Dataset):
        return tuple(np.asarray(array)[rows] for array in data)
    flags = tf.data.Dataset.from_tensor_slices(rows)
    examples = as_batches(data, model, batch_size=64, caller="recipes.cross_validate").unbatch()
    kept = tf.data.Dataset.zip(examples, flags).filter(lambda _, wanted: wanted)
    kept = kept.map(lambda example, _: example)
    return kept.apply(tf.data.experimental.assert_cardinality(int(rows.sum())))
