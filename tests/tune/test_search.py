"""tune.search: Optuna's own study, narrowed, stopped by findings, shared by processes."""

import gc
import json

import keras
import numpy as np
import pytest
from fresh_process import FreshProcess

from recipes import plot, tune
from recipes.tune.space import Choice, Range, parse

pytest.importorskip("optuna")


@pytest.fixture(scope="module", autouse=True)
def _earlier_objects_are_left_alone():
    """Each trial ends with a collection of all garbage, also among what other tests in this process have left."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def blobs():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 192)
    x = (np.eye(3)[labels] * 2 + 0.5 * rng.normal(size=(192, 3))).astype("float32")
    return (x[:128], labels[:128]), (x[128:], labels[128:])


def build(learning_rate, units=4, optimizer="sgd"):
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(units, "relu"), keras.layers.Dense(3, "softmax")]
    )
    made = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}[optimizer](learning_rate)
    model.compile(made, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def test_ranges_are_log_unless_said_otherwise_and_whole_for_two_ints():
    ranges = parse(
        {"a": (1e-4, 1.0), "b": (0.0, 1.0), "c": (8, 64), "d": (0.1, 0.9, "linear"), "e": ["x", "y"]}
    )
    assert [ranges[name].log for name in "abcd"] == [True, False, True, False]
    assert ranges["c"].whole and not ranges["a"].whole
    assert ranges["e"] == Choice(("x", "y"))


def test_draws_in_log_space_have_as_many_values_in_each_decade():
    draw = np.random.default_rng(0)
    values = np.array([Range(1e-4, 1.0, True, False).draw(draw) for _ in range(4000)])
    shares = np.histogram(np.log10(values), bins=[-4, -3, -2, -1, 0])[0] / 4000
    np.testing.assert_allclose(shares, 0.25, atol=4 * np.sqrt(0.25 * 0.75 / 4000))


def test_a_range_narrows_to_the_best_values_and_an_eighth_more_on_both_sides():
    narrow = Range(1e-4, 1.0, True, False).around([1e-3, 1e-2])
    # An eighth of four decades is half a decade.
    np.testing.assert_allclose([narrow.low, narrow.high], [10**-3.5, 10**-1.5], rtol=1e-12)
    edge = Range(1e-4, 1.0, True, False).around([1e-4, 1.0])
    assert (edge.low, edge.high) == (1e-4, 1.0)


@pytest.mark.parametrize("space", [{}, {"a": (1, 0)}, {"a": []}, {"a": (0.0, 1.0, "log")}, {"a": 3}])
def test_a_space_that_is_none_is_refused_with_what_to_write(space):
    with pytest.raises(ValueError, match="Write|Give for example"):
        parse(space)


def test_search_goes_fine_within_what_was_best_and_ends_hopeless_trials_by_a_finding(blobs):
    study = tune.search(
        build,
        *blobs,
        {"learning_rate": (1e-2, 1e30), "optimizer": ["sgd", "adam"]},
        coarse={"trials": 6, "epochs": 2},
        fine={"trials": 2, "epochs": 3},
        batch_size=32,
        verbose=0,
    )
    stages = [trial.user_attrs["stage"] for trial in study.trials]
    assert stages == ["coarse"] * 6 + ["fine"] * 2
    complete = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    coarse = sorted((t for t in complete if t.user_attrs["stage"] == "coarse"), key=lambda t: -t.value)
    best = [trial.params["learning_rate"] for trial in coarse[:2]]
    for trial in study.trials[6:]:
        assert min(best) * 1e-4 <= trial.params["learning_rate"] <= max(best) * 1e4
    ended = [trial for trial in study.trials if "ended" in trial.user_attrs]
    # At rates of 1e10 and more the first epoch overflows; those trials say so in words.
    assert ended and all(trial.state.name == "PRUNED" for trial in ended)
    assert any(finding["severity"] == "error" for trial in ended for finding in trial.user_attrs["findings"])
    assert all(len(trial.user_attrs["history"]["loss"]) <= 3 for trial in study.trials)
    assert study.best_value == max(trial.value for trial in complete)
    json.dumps([trial.user_attrs for trial in study.trials])

    figure = plot.search_trials(study)
    lines = [line for line in figure.axes[0].lines if len(line.get_ydata()) == 3]
    assert len(lines) == len(complete)


def test_the_same_seed_draws_the_same_settings(blobs):
    def settings(seed):
        study = tune.search(
            build,
            *blobs,
            {"learning_rate": (1e-3, 1e-1)},
            coarse={"trials": 2, "epochs": 1},
            fine={"trials": 0},
            seed=seed,
            batch_size=128,
            verbose=0,
        )
        return [trial.params["learning_rate"] for trial in study.trials]

    assert settings(3) == settings(3) != settings(4)


def test_a_model_that_is_not_compiled_and_a_metric_that_is_not_there_are_refused(blobs):
    small = {"coarse": {"trials": 1, "epochs": 1}, "verbose": 0}
    with pytest.raises(ValueError, match="model.compile"):
        tune.search(
            lambda units: keras.Sequential([keras.layers.Dense(3)]), *blobs, {"units": (1, 3)}, **small
        )
    with pytest.raises(ValueError, match="val_loss"):
        tune.search(build, *blobs, {"learning_rate": (1e-3, 1e-1)}, metric="val_auc", **small)
    with pytest.raises(ValueError, match="whole numbers"):
        tune.search(build, *blobs, {"learning_rate": (1e-3, 1e-1)}, coarse={"trial": 3})


WORKER = """
import os, sys, time
import numpy as np
import keras
from recipes import tune

def build(rate):
    if os.environ.get("HANG") and trials.append(1) is None and len(trials) == 2:
        print("hanging", flush=True)
        time.sleep(600)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, "softmax")])
    model.compile(keras.optimizers.SGD(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model

trials = []
x = np.eye(3, dtype="float32").repeat(8, axis=0)
y = np.arange(3).repeat(8)
study = tune.search(build, (x, y), (x, y), {"rate": (1e-3, 1e-1)}, coarse={"trials": 4, "epochs": 1},
                    fine={"trials": 0}, storage=sys.argv[1], verbose=1)
"""


@pytest.mark.slow
def test_two_processes_share_a_journal_and_one_that_is_killed_leaves_the_study_to_the_other(tmp_path):
    import optuna

    script, journal = tmp_path / "worker.py", tmp_path / "study.journal"
    script.write_text(WORKER, encoding="utf-8")
    hanging = FreshProcess(script, journal, folder=tmp_path, HANG="1")
    try:
        hanging.wait_for("hanging")  # it does one trial, and hangs in its second
        other = FreshProcess(script, journal, folder=tmp_path)
        hanging.kill()
        assert other.wait() == 0, other.complained[-2000:]
    finally:
        hanging.kill()
    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    study = optuna.load_study(study_name="search", storage=optuna.storages.JournalStorage(backend))
    states = [trial.state.name for trial in study.trials]
    assert sum(state in ("COMPLETE", "PRUNED") for state in states) == 4
    assert states.count("RUNNING") == 1  # what the killed one left behind
