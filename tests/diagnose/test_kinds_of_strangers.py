"""Kinds of fault that programs of strangers showed: each told by its cause, with a remedy that fits."""

import keras
import numpy as np
import pytest

from recipes import diagnose
from recipes.callbacks import TrainingDoctor
from recipes.diagnose.checks.differences import Differences
from recipes.diagnose.checks.sample import hashes_of, read_sample
from recipes.diagnose.finding import Finding
from recipes.diagnose.remedies.try_remedies import RemedyTrial, Trials
from recipes.diagnose.rules.curve_rules import Curves
from recipes.diagnose.rules.data_rules import _leak
from recipes.diagnose.rules.label_association import association, column_association
from recipes.diagnose.rules.read_curves import read_curves
from recipes.diagnose.rules.recall_rules import judge_recall
from recipes.diagnose.rules.remedies import higher_rate
from recipes.diagnose.rules.run_facts import _shares_by_place
from recipes.diagnose.rules.shuffled_labels import shuffled_labels
from recipes.diagnose.rules.words import share, times

L = keras.layers
SORTED = np.repeat(np.arange(4), 80)
X = (np.eye(4)[SORTED] + 0.3 * np.random.default_rng(0).normal(size=(320, 4))).astype("float32")


def doctored(model, x, y, validation=None, **options):
    doctor = TrainingDoctor(train=(x, y), validation=validation, verbose=0, every_steps=1, strict=True)
    model.fit(x, y, verbose=0, callbacks=[doctor], **options)
    return {finding.code: finding for finding in doctor.findings}


def classifier(*body):
    model = keras.Sequential([keras.Input((4,)), *body, L.Dense(4, "softmax")])
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    return model


@pytest.mark.parametrize(("shuffle", "told"), [(False, "warning"), (True, None)])
def test_arrays_in_order_are_named_by_the_batches_that_fit_was_given(shuffle, told):
    found = doctored(classifier(), X, SORTED, shuffle=shuffle, epochs=2)
    assert getattr(found.get("missing_shuffle"), "severity", None) == told


@pytest.mark.parametrize(("batch", "told"), [(1, "error"), (32, None)])
def test_batch_normalization_of_single_vectors_is_the_cause_of_dead_units(batch, told):
    keras.utils.set_random_seed(0)
    model = classifier(L.BatchNormalization(), L.Dense(8, "relu"))
    found = doctored(model, X[::4], SORTED[::4], batch_size=batch, epochs=1)
    assert getattr(found.get("batch_too_small"), "severity", None) == told
    assert "dead_at_start" not in found


def test_a_model_with_nothing_to_train_is_an_error_in_words():
    model = classifier(L.Dense(8, "relu"))
    model.trainable = False
    model.compile("adam", "sparse_categorical_crossentropy")
    doctor = TrainingDoctor(train=(X, SORTED), verbose=0, strict=True)
    with pytest.warns(UserWarning, match="does not have any trainable weights"):
        model.fit(X, SORTED, epochs=1, verbose=0, callbacks=[doctor])
    assert [(f.code, f.severity) for f in doctor.findings if f.severity != "info"] == [("frozen", "error")]
    assert "compile again" in doctor.findings[0].remedy


def test_an_optimizer_with_a_rate_for_each_group_passes_all_checks_untouched():
    model = keras.Sequential([keras.Input((4,)), L.Dense(8, "relu", name="low"), L.Dense(4, "softmax")])
    rates = keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.5), {"low/.*": keras.optimizers.SGD(0.05)})
    optimizer = keras.optimizers.MultiOptimizer(rates)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    before = [np.array(v) for v in model.variables]
    done = diagnose.preflight(model, (X, SORTED), seconds=10, verbose=0)
    assert (
        done["overfit_small_sample"].outcome == "learned"
        and "yours is 0.5" in done["learning_rate_range_test"].result
    )
    for old, new in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, new)
    assert [float(one.learning_rate) for one in optimizer.optimizers] == [np.float32(0.05), 0.5]


def test_a_bend_under_float32_steps_is_no_wrong_gradient():
    differences = Differences("float32", 1.0)
    assert differences.compare(lambda s: np.sqrt(max(s - 0.002, 0) + 1e-3), 0.0).error == 0
    assert differences.compare(lambda s: np.sin(1 + s), -np.cos(1)).error > 1.9
    assert differences.compare(lambda s: np.sin(1 + s), 1.3 * np.cos(1)).error > 0.2


def test_one_column_shows_that_labels_of_noisy_data_belong_to_it():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 5)).astype("float32")
    labels = (0.5 * x[:, 0] + rng.logistic(size=1000) > 0).astype(int)
    assert column_association(x, labels) > 1.5
    by_chance = [column_association(x, rng.permutation(labels)) for _ in range(50)]
    assert max(by_chance) < 1.5
    r = abs(np.corrcoef(x[:, 0], labels)[0, 1])
    assert column_association(x[:, :1], labels) == pytest.approx(
        r * 1000**0.5 - (2 * np.log(2)) ** 0.5, abs=1e-3
    )


@pytest.mark.parametrize(("right", "told"), [(6, ["imbalanced"]), (29, [])])
def test_a_rare_class_that_is_hardly_found_is_a_warning(right, told):
    counts = {"train": {"class_counts": {"0": 690, "1": 30}}}
    recall = {"0": {"examples": 690, "right": 688}, "1": {"examples": 30, "right": right}}
    found = judge_recall({"data": counts, "recall": recall})
    assert [f.code for f in found] == told and all("{0: 1, 1: 23}" in f.remedy for f in found)


def test_the_doctor_counts_what_a_model_finds_of_each_class():
    y = np.zeros(320, int)
    y[:20] = 1
    model = keras.Sequential([keras.Input((4,)), L.Dense(1, "sigmoid", kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(1e-9), "binary_crossentropy")
    model.layers[-1].bias.assign([-1.0])  # never says 1
    found = doctored(model, np.random.default_rng(1).normal(size=(320, 4)).astype("float32"), y, epochs=1)
    assert "finds 0 of 20 examples of class 1 (0%) and 100% of class 0" in found["imbalanced"].evidence


def test_a_rate_far_below_what_is_usual_is_raised_to_that():
    assert "learning_rate=0.001, which is usual with Adam" in higher_rate(1e-8, 5e-8, {"name": "Adam"})
    assert "learning_rate=0.02;" in higher_rate(2e-4, 1e-5, {"name": "Adam"})
    # Large gradients, as of targets in the thousands: the usual rate would be far too high.
    assert "learning_rate=0.0001;" in higher_rate(1e-6, 1e-5, {"name": "SGD"})


def test_numbers_are_told_as_a_reader_says_them():
    assert [times(v) for v in (0.00012, 2.24, 340.4, 2249, 1.92e7, 3e13)] == [
        "0.00012", "2.2", "340", "2,200", "19 million", "30 trillion"
    ]  # fmt: skip
    assert [share(v) for v in (0.0, 5.2e-8, 0.001, 0.5, 2200)] == [
        "0 %", "one part in 19 million", "0.1 %", "50 %", "2,200 times"
    ]  # fmt: skip


def test_what_a_trial_refuted_is_not_offered_first():
    def trial(name, code, gain):
        return RemedyTrial(name, code, "rate_too_high", True, gains=np.full(2, gain), measure="loss")

    finding = Finding(
        "rate_too_high", "error", None, 1, "Big.", "Try learning_rate=0.1 with warm-up. Or clip."
    )
    refuted = trial("learning rate 0.1", "model.optimizer.learning_rate = 0.1", -0.2)
    (told,) = Trials([refuted], [], 40, (0, 1), 1.0).apply([finding])
    assert told.remedy == "Or clip. Tried without gain: learning rate 0.1."
    helps = trial("clip gradients", "keras.optimizers.SGD(1, clipnorm=1.0)", 0.6)
    (told,) = Trials([helps, refuted], [], 40, (0, 1), 1.0).apply([finding])
    assert told.remedy.startswith("keras.optimizers.SGD(1, clipnorm=1.0) - tried for 40 steps: loss +60%")
    assert "learning_rate=0.1" not in told.remedy


def test_a_loss_of_zero_from_the_start_is_no_explosion():
    model = keras.Sequential([keras.Input((4,)), L.Dense(1, kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    check = diagnose.overfit_small_sample(model, (X, np.zeros((320, 1), "float32")), batches=1, steps=5)
    assert check.outcome == "unknown" and check.findings == []


def test_an_example_is_all_of_its_inputs():
    left, right = X[:4], X[4:8]
    pairs = [
        hashes_of({"a": left, "b": right}),
        hashes_of({"a": right, "b": left}),
        hashes_of({"a": left, "b": left}),
    ]
    assert len(np.unique(pairs)) == 12
    np.testing.assert_array_equal(
        hashes_of({"a": left, "b": right})[1:], hashes_of({"a": left[1:], "b": right[1:]})
    )


@pytest.mark.parametrize(
    ("different", "same", "told"), [(536, 5, "info"), (540, 5, "warning"), (536, 60, "warning")]
)
def test_examples_that_repeat_in_training_as_often_are_no_leak(different, same, told):
    train = {"examples": 540, "different_examples": different}
    (finding,) = _leak({"examples": 180, "same": same, "whole": True}, train)
    assert finding.severity == told


def test_pairs_of_numbers_that_come_together_again_are_no_leak_but_copied_pictures_are():
    repeated = {"examples": 1440, "different_examples": 1080, "input_dtype": "int32", "input_shape": [1]}
    pictures = {**repeated, "input_dtype": "uint8", "input_shape": [8, 8, 1]}
    found = [_leak({"examples": 480, "same": 245, "whole": True}, train)[0] for train in (repeated, pictures)]
    assert [finding.severity for finding in found] == ["info", "warning"]


def test_validation_that_ends_above_its_first_epoch_does_not_hold_without_a_floor():
    loss = np.array([0.33, 0.24, 0.2, 0.15, 0.12, 0.1])
    rising = Curves({"loss": loss, "val_loss": np.array([0.27, 0.28, 0.29, 0.3, 0.31, 0.32])})
    falling = Curves({"loss": loss, "val_loss": np.array([0.27, 0.25, 0.24, 0.23, 0.23, 0.23])})
    assert falling.held and not rising.held


def test_a_py_dataset_is_read_by_its_numbers():
    class Pages(keras.utils.PyDataset):
        def __len__(self):
            return 10

        def __getitem__(self, i):
            return X[32 * i : 32 * i + 32], SORTED[32 * i : 32 * i + 32]

    pages = Pages()
    sample = read_sample(pages, classifier(), batch_size=64, batches=64)
    assert sample.whole and sample.ordered and sample.batch == 32
    np.testing.assert_array_equal(np.concatenate([x for x, _, _ in sample.batches]), X)
    assert "missing_shuffle" in {f.code for f in diagnose.diagnose(model=classifier(), train=pages)}


def test_targets_apart_from_their_inputs_are_told_under_any_loss():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 5)).astype("float32")
    y = np.exp(x[:, 0] + np.abs(x[:, 1]))
    curves = Curves(
        {"loss": np.array([1.0, 0.9, 0.85, 0.8]), "val_loss": np.array([1.0, 1.1, 1.2, 1.3])}, steps=100
    )
    for targets, told in ((y, 0), (rng.permutation(y), 1)):
        facts = association(targets, [x.copy()])
        found = shuffled_labels({"data": {"train": {**facts, "examples": 600}}}, curves)
        assert len(found) == told
    ranks = np.argsort(np.argsort(y))
    expected = abs(np.corrcoef(x[:, 0], ranks)[0, 1]) * 600**0.5 - (2 * np.log(5)) ** 0.5
    assert association(y, [x.copy()])["target_association"] == pytest.approx(expected, abs=1e-3)


def test_knowing_nothing_of_a_sequence_is_the_share_at_each_place():
    labels = np.tile([0, 1, 2], (100, 1))
    labels[:50, 2] = 0
    shares = _shares_by_place(labels, np.zeros((4, 3, 3), "float32"))
    np.testing.assert_allclose(shares, [[1, 1e-7, 1e-7], [1e-7, 1, 1e-7], [0.5, 1e-7, 0.5]])
    assert _shares_by_place(labels[:40], np.zeros((4, 3, 3), "float32")) is None


def test_a_validation_loss_that_jumps_as_far_from_epoch_to_epoch_has_no_trend_yet():
    loss = list(np.linspace(1.0, 0.2, 12))
    jumps = [1.2, 0.8, 1.1, 0.7, 1.0, 0.6, 0.9, 0.55, 0.4, 0.6, 0.75, 0.8]
    quiet = [1.2, 1.0, 0.85, 0.72, 0.62, 0.55, 0.5, 0.46, 0.4, 0.6, 0.75, 0.8]
    severity = {f.code: f.severity for f in read_curves({"loss": loss, "val_loss": jumps})}
    assert severity["overfitting"] == "info"
    severity = {f.code: f.severity for f in read_curves({"loss": loss, "val_loss": quiet})}
    assert severity["overfitting"] == "warning"


def test_a_straight_line_that_validation_does_not_follow_is_no_low_rate():
    loss = list(np.linspace(1.0, 0.9, 12))
    assert "rate_too_low" in {f.code for f in read_curves({"loss": loss, "val_loss": loss})}
    rising = list(np.linspace(1.0, 1.2, 12))
    assert "rate_too_low" not in {f.code for f in read_curves({"loss": loss, "val_loss": rising})}
