"""Folds keep classes and groups apart; the interval is Nadeau and Bengio's."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from sklearn.model_selection import StratifiedKFold

import recipes
from recipes.training.cross_validation import fold_numbers

random = np.random.default_rng(0)
OPTIONS = {"epochs": 1, "batch_size": 16, "augment": None, "preflight": False, "monitor": False, "verbose": 0}


def build():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="softmax")])
    model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def test_folds_hold_each_class_as_scikit_learns_do():
    labels = random.choice(4, 203, p=[0.5, 0.3, 0.15, 0.05])
    ours = fold_numbers(labels, 5, seed=1)
    theirs = np.zeros(203, int)
    for fold, (_, held) in enumerate(StratifiedKFold(5).split(labels, labels)):
        theirs[held] = fold
    counts = [
        np.stack([np.bincount(labels[part == f], minlength=4) for f in range(5)]) for part in (ours, theirs)
    ]
    assert (abs(counts[0] - np.bincount(labels) / 5) < 1).all()
    assert sorted(counts[0].sum(1)) == sorted(counts[1].sum(1))
    np.testing.assert_array_equal(ours, fold_numbers(labels, 5, seed=1))
    assert (ours != fold_numbers(labels, 5, seed=2)).any()


def test_a_group_stays_in_one_fold():
    groups = random.integers(0, 23, 300)
    part = fold_numbers(np.zeros(300), 4, groups=groups)
    assert all(len(set(part[groups == group])) == 1 for group in range(23))
    assert np.bincount(part).min() > 60
    with pytest.raises(ValueError, match="fewer folds"):
        fold_numbers(np.zeros(300), 24, groups=groups)


@pytest.mark.parametrize("kind", ["arrays", "dataset"])
def test_every_example_is_held_out_once(kind, monkeypatch):
    images = random.normal(0, 1, (60, 3)).astype("float32")
    labels = (images[:, 0] > 0).astype("int64")
    data = (images, labels)
    if kind == "dataset":
        data = tf.data.Dataset.from_tensor_slices(data)
    seen = []

    def spy(model, train, validation, **options):
        parts = [
            np.concatenate([np.atleast_2d(x) for x, *_ in part]) if kind == "dataset" else part[0]
            for part in (train, validation)
        ]
        seen.append(parts)
        accuracy = 0.5 + 0.1 * len(seen)
        return recipes.Run(model, {"val_accuracy": [0.1, accuracy], "loss": [1.0, 1.0]})

    monkeypatch.setattr("recipes.training.cross_validation.train_one", spy)
    found = recipes.cross_validate(build, data, 3)
    assert all(len(train) == 40 and len(held) == 20 for train, held in seen)
    held = np.concatenate([held for _, held in seen])
    np.testing.assert_array_equal(np.sort(held, axis=0), np.sort(images, axis=0))
    for train, kept in seen:
        assert not {tuple(row) for row in train} & {tuple(row) for row in kept}
    np.testing.assert_allclose(found.scores["val_accuracy"], [0.6, 0.7, 0.8])
    half = stats.t.ppf(0.975, 2) * 0.1 * np.sqrt(1 / 3 + 1 / 2)
    np.testing.assert_allclose(found.interval(), [0.7 - half, 0.7 + half])
    assert set(found.scores) == {"val_accuracy"} and "3 folds" in str(found)


@pytest.mark.slow
def test_runs_are_kept_and_not_trained_again(tmp_path):
    images = random.normal(0, 1, (40, 3)).astype("float32")
    labels = (images[:, 0] > 0).astype("int64")
    first = recipes.cross_validate(build, (images, labels), 2, seeds=(3,), run_dir=tmp_path, **OPTIONS)
    assert {path.name for path in tmp_path.iterdir()} == {"seed3-fold1", "seed3-fold2"}
    again = recipes.cross_validate(
        build, (images, labels), 2, seeds=(3,), run_dir=tmp_path, resume=True, **OPTIONS
    )
    np.testing.assert_array_equal(first.scores["val_accuracy"], again.scores["val_accuracy"])


def test_what_cannot_be_folded_is_refused():
    images, labels = np.zeros((6, 3), "float32"), np.array([0, 0, 0, 0, 0, 1])
    with pytest.raises(ValueError, match="folds >= 2"):
        recipes.cross_validate(build, (images, labels), 1)
    with pytest.raises(ValueError, match="each class"):
        recipes.cross_validate(build, (images, labels), 2)
    shuffled = tf.data.Dataset.from_tensor_slices((np.zeros((99, 3)), np.arange(99) % 2)).shuffle(99)
    with pytest.raises(ValueError, match="same order"):
        recipes.cross_validate(build, shuffled, 2)
