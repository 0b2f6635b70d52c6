"""Runs side by side: what differs, with intervals that come from the number of validation examples."""

import json

import keras
import numpy as np
import pytest
from PIL import Image
from scipy import stats

import recipes
from recipes import evaluate
from recipes.training.run import Run

random = np.random.default_rng(0)


def run_of(rate, accuracy, **settings):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, activation="softmax")])
    model.layers[-1].set_weights([rate * np.eye(2), np.zeros(2)])
    described = {
        "learning_rate": rate,
        "schedule": "cosine",
        "validation_data": {"kind": "arrays", "shapes": [[200, 2], [200]], "sha256": "ab"},
        "compiled": {"class": "SGD", "momentum": 0.9},
        "architecture": ["input", f"dense of {rate}"],
        "run_dir": f"runs/rate{rate}",
        **settings,
    }
    history = {"loss": [2.0, 1.0], "val_accuracy": [0.5, accuracy], "monitor/x": [1.0, 1.0]}
    return Run(model, history, settings=described, class_names=("no", "yes"))


def test_only_settings_that_differ_are_listed():
    compared = recipes.compare(
        [run_of(0.1, 0.8), run_of(-0.2, 0.9, compiled={"class": "SGD", "momentum": 0.5})]
    )
    assert compared.names == ("rate0.1", "rate-0.2")
    assert compared.settings == {
        "learning_rate": (0.1, -0.2),
        "optimizer momentum": (0.9, 0.5),
        "layers": ("dense of 0.1", "dense of -0.2"),
    }
    assert compared.metrics == {"loss": (1.0, 1.0), "val_accuracy": (0.8, 0.9)}
    expected = stats.binomtest(160, 200).proportion_ci(method="wilson")
    np.testing.assert_allclose(compared.intervals["val_accuracy"][0], [expected.low, expected.high])
    assert "80.00% (73.91% to 84.95%)" in compared.table() and "schedule" not in compared.table()
    assert json.loads(compared.to_json())["settings"]["learning_rate"] == [0.1, -0.2]


def test_a_test_set_adds_the_paired_comparison(tmp_path):
    images = random.normal(0, 1, (100, 2)).astype("float32")
    labels = (images[:, 1] > images[:, 0]).astype(int)
    labels[:10] = 1 - labels[:10]
    compared = recipes.compare([run_of(1.0, 0.8), run_of(-1.0, 0.8)], (images, labels), names=["a<b", "c"])
    assert compared.paired[0].accuracies == (0.9, pytest.approx(0.1))
    page = compared.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == page and "a&lt;b" in page and "a<b" not in page
    assert page.count("<svg") == 1 and "McNemar" in page


def test_runs_of_folders_have_intervals_and_words_in_place_of_objects():
    files = {"validation_data": {"kind": "files", "count": 15}}
    adam = {"class": "Adam", "learning_rate": 1e-3, "beta_1": 0.9, "factors": [0.5] * 60}
    sgd = {"class": "SGD", "learning_rate": 0.1, "momentum": 0.9}
    unfreeze = ["<recipes.callbacks.unfreeze.Unfreeze object>"]
    many = [f"conv{number}: Conv2D(filters=8, kernel_size=[3, 3])" for number in range(9)]
    compared = recipes.compare(
        [
            run_of(0.1, 0.8, compiled=sgd, callbacks=[], architecture=["input", *many], **files),
            run_of(
                0.2, 1.0, compiled=adam, callbacks=unfreeze, architecture=["input", "dense: Dense()"], **files
            ),
        ]
    )
    expected = [stats.binomtest(right, 15).proportion_ci(method="wilson") for right in (12, 15)]
    np.testing.assert_allclose(compared.intervals["val_accuracy"], [(e.low, e.high) for e in expected])
    rows = {line.split("  ")[0]: line.split()[1:] for line in compared.table().splitlines()}
    assert rows["callbacks"] == ["none", "Unfreeze"]
    assert rows["optimizer learning_rate"] == ["learning_rate", "0.1", "0.001"]
    assert not {"optimizer momentum", "optimizer beta_1", "optimizer factors"} & set(rows)
    assert "9 of its own, conv0 to conv8" in compared.table() and "dense: Dense()" in compared.table()


def test_a_long_cell_is_broken_into_lines_of_which_none_is_lost():
    long = " ".join(f"word{number}" for number in range(30))
    table = recipes.compare([run_of(0.1, 0.8, loss=long), run_of(0.1, 0.8, loss="mse")], names="ab").table()
    assert [word in table for word in long.split()] == [True] * 30
    assert max(map(len, table.splitlines())) < 100


def test_runs_whose_images_have_other_sizes_are_not_scored_on_the_same_examples():
    other = run_of(0.2, 0.9)
    other.model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="softmax")])
    runs = [run_of(0.1, 0.8), other]
    assert recipes.compare(runs).names == ("rate0.1", "rate0.2")
    with pytest.raises(ValueError, match=r"one shape .* \(2,\), \(3,\)\. Give the folder"):
        recipes.compare(runs, (np.zeros((4, 2)), np.zeros(4, int)))


def test_each_run_reads_a_folder_at_its_own_size(tmp_path):
    levels = random.integers(0, 256, 30)
    for number, level in enumerate(levels):
        name = "yes" if level > 127 else "no"
        (tmp_path / name).mkdir(exist_ok=True)
        Image.fromarray(np.full((20, 20, 3), level, "uint8")).save(tmp_path / name / f"{number}.png")

    def run_at(size, sign):
        model = keras.Sequential(
            [
                keras.Input((size, size, 3)),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Rescaling(1 / 255, offset=-0.5),
                keras.layers.Dense(2, activation="softmax", kernel_initializer="zeros"),
            ]
        )
        model.layers[-1].set_weights([np.array([[-sign, sign]] * 3, float), np.zeros(2)])
        settings = {"image_shape": [size, size, 3], "run_dir": f"runs/{size}"}
        return Run(model, {"loss": [1.0]}, settings=settings, class_names=("no", "yes"))

    compared = recipes.compare([run_at(8, 1), run_at(16, -1)], tmp_path)
    assert compared.paired[0].accuracies == (1.0, 0.0) and compared.paired[0].only_first == 30
    assert [one.accuracy for one in compared.evaluations] == [1.0, 0.0]


def test_folders_are_loaded(tmp_path):
    for name, rate in (("one", 0.5), ("two", 0.25)):
        run_of(rate, 0.8).save(tmp_path / name)
    compared = recipes.compare([tmp_path / "one", str(tmp_path / "two")])
    assert compared.names == ("one", "two") and compared.settings["learning_rate"] == (0.5, 0.25)
    with pytest.raises(ValueError, match="list of runs"):
        recipes.compare(tmp_path / "one")
    with pytest.raises(ValueError, match="at least two"):
        recipes.compare([tmp_path / "one"])


def test_mcnemar_is_the_binomial_test_of_the_examples_apart():
    first, second = random.random(500) < 0.8, random.random(500) < 0.75
    compared = evaluate.mcnemar(first, second)
    apart = (compared.only_first, compared.only_second)
    assert apart == ((first & ~second).sum(), (second & ~first).sum())
    lower = sum(stats.binom.pmf(k, sum(apart), 0.5) for k in range(min(apart) + 1))
    assert compared.p_value == pytest.approx(min(1, 2 * lower))
    resampled = random.integers(0, 500, (4000, 500))
    differences = second[resampled].mean(1) - first[resampled].mean(1)
    np.testing.assert_allclose(compared.interval, np.quantile(differences, [0.025, 0.975]), atol=4e-3)
    assert compared.difference == pytest.approx(second.mean() - first.mean())
    assert evaluate.mcnemar([True, False], [True, False]).p_value == 1
    with pytest.raises(ValueError, match="the same length"):
        evaluate.mcnemar([True], [True, False])
