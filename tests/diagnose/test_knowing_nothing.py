"""What an answer that ignores the inputs costs, under any loss and at any place, and what overfitting is beside it."""

import keras
import numpy as np
import pytest

from recipes import diagnose
from recipes.callbacks import TrainingDoctor
from recipes.diagnose.checks.output_task import task_of
from recipes.diagnose.rules.curve_rules import Curves, HeldOut
from recipes.diagnose.rules.data_facts import label_facts
from recipes.diagnose.rules.finding_log import Casebook
from recipes.diagnose.rules.label_association import association, association_by_place
from recipes.diagnose.rules.read_curves import curve_findings
from recipes.diagnose.rules.remedies import lower_rate, usual_rate
from recipes.diagnose.rules.run_facts import describe
from recipes.diagnose.rules.shuffled_labels import shuffled_labels
from recipes.diagnose.rules.words import part_of

L, ops = keras.layers, keras.ops
RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 4)).astype("float32")
FAR = (50000 + 9000 * RNG.normal(size=(300, 1))).astype("float32")
NEAR = (0.02 * RNG.normal(size=(300, 1))).astype("float32")
CLASSES = RNG.choice(3, 300, p=[0.6, 0.3, 0.1]).astype("int32")


def pinball(true, guess):
    at = np.array([0.1, 0.5, 0.9], "float32")
    return ops.mean(ops.maximum(at * (true - guess), (at - 1) * (true - guess)), axis=-1)


def likelihood(true, guess):
    return guess[:, 1] + 0.5 * ops.square((true[:, 0] - guess[:, 0]) / ops.exp(guess[:, 1]))


def own_entropy(true, guess):
    return -ops.sum(
        ops.one_hot(ops.reshape(ops.cast(true, "int32"), (-1,)), 3) * ops.log(guess + 1e-7), axis=-1
    )


def quantile_loss():
    cost = 0.0
    for at in (0.1, 0.5, 0.9):
        error = FAR[:, 0] - np.quantile(FAR[:, 0], at)
        cost += np.mean(np.maximum(at * error, (at - 1) * error)) / 3
    return cost


def floors(units, activation, loss, labels, validation=None):
    model = keras.Sequential([keras.Input((4,)), L.Dense(units, activation)])
    model.compile("adam", loss)
    before = [np.array(variable) for variable in model.variables]
    facts = describe(model, (X, labels), validation)
    assert all(np.array_equal(old, new) for old, new in zip(before, model.variables, strict=True))
    return facts


@pytest.mark.parametrize(
    ("units", "activation", "loss", "labels", "expected"),
    [
        (3, None, pinball, FAR, quantile_loss()),
        (2, None, likelihood, NEAR, np.log(NEAR.std()) + 0.5),
        (3, "softmax", own_entropy, CLASSES, -np.mean(np.log(np.bincount(CLASSES) / 300)[CLASSES])),
    ],
)
def test_the_best_constant_answer_is_found_under_a_loss_of_the_users_own(
    units, activation, loss, labels, expected
):
    assert floors(units, activation, loss, labels)["baseline"] == pytest.approx(expected, rel=0.02)


def test_a_loss_that_falls_for_ever_has_no_best_constant_answer():
    assert "baseline" not in floors(1, None, lambda true, guess: ops.mean(guess, axis=-1), FAR)


def test_a_loss_of_the_batch_as_a_whole_has_no_best_constant_answer():
    def spread(true, guess):
        return ops.abs(ops.std(true) - 0.5 * true[:, 0]) + 0 * guess[:, 0]

    assert "baseline" not in floors(1, None, spread, FAR)


def test_knowing_nothing_of_validation_is_the_training_mean_there():
    facts = floors(1, None, "mse", FAR[:, 0], (X[:40], FAR[:40, 0] + 5000))
    there = np.mean((FAR[:40, 0] + 5000 - FAR.mean()) ** 2)
    assert facts["baseline_validation"] == pytest.approx(there, rel=1e-3)


def test_validation_is_held_against_what_knowing_nothing_costs_there():
    values = {"loss": np.array([1.0, 0.9, 0.8, 0.7, 0.65]), "val_loss": np.full(5, 0.9)}
    assert Curves(values, 1.0, held_out=HeldOut(initial=1.2)).held
    assert not Curves(values, 1.0, held_out=HeldOut(initial=0.9)).held


def test_a_likelihood_below_zero_is_measured_from_its_own_floor():
    values = {"loss": np.array([-0.5, -0.58, -0.6, -0.61]), "val_loss": np.array([-0.5, -0.55, -0.5, -0.45])}
    assert not Curves(values, -0.6).better_than_nothing
    assert Curves({"loss": np.array([-0.5, -1.0, -1.5, -1.6])}, -0.6).strong


def test_a_loss_of_exactly_zero_has_learned_nothing_whatever_knowing_nothing_costs():
    found = curve_findings(Curves({"loss": np.zeros(3)}, 0.69, steps=39))
    assert [(finding.code, finding.severity) for finding in found] == [("not_learning", "warning")]


def test_a_validation_loss_that_is_nan_throughout_is_not_held_against_anything():
    curves = Curves({"loss": np.array([1.0, 0.9, 0.8]), "val_loss": np.full(3, np.nan)}, 1.0)
    assert not curves.held and not curves.better_than_nothing and not curves.memorized


GRID = RNG.integers(0, 2, (200, 6, 6))
PICTURES = RNG.normal(size=(200, 6, 6, 1)).astype("float32")


def segmenter():
    model = keras.Sequential([keras.Input((6, 6, 1)), L.Conv2D(2, 1, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def test_a_map_of_class_numbers_has_no_rows_of_several_ones():
    found = diagnose.diagnose(model=segmenter(), train=(PICTURES, GRID))
    assert [finding for finding in found if finding.severity == "error"] == []


@pytest.mark.parametrize("ignored", [255, -1])
def test_a_class_that_the_loss_leaves_out_is_no_label(ignored):
    labels = GRID.copy()
    labels[:, 0] = ignored
    model = segmenter()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(ignore_class=ignored))
    facts = describe(model, (PICTURES, labels))
    assert [f for f in diagnose.diagnose(model=model, facts=facts) if f.severity != "info"] == []
    kept = labels[labels != ignored]
    shares = np.bincount(kept) / kept.size
    assert facts["data"]["train"]["class_counts"] == {"0": (kept == 0).sum(), "1": (kept == 1).sum()}
    assert facts["baseline"] == pytest.approx(-np.sum(shares * np.log(shares)), rel=1e-4)


def test_chance_at_each_place_is_that_of_its_most_frequent_class():
    labels = GRID.copy()
    labels[:, :3] = 1
    facts = label_facts(labels, task_of(segmenter()))
    shares = labels.reshape(200, -1).mean(axis=0)
    assert facts["place_chance"] == pytest.approx(np.mean(np.maximum(shares, 1 - shares)))


def test_classes_at_places_are_seen_to_belong_to_their_inputs():
    task = task_of(segmenter())
    images = (GRID + 0.1 * RNG.normal(size=GRID.shape))[..., None].astype("float32")
    together = association_by_place(GRID, 36, task, [images])
    apart = association_by_place(GRID[RNG.permutation(200)], 36, task, [images])
    assert together["column_association"] > 5 > 1.5 > apart["column_association"]
    assert abs(apart["neighbor_agreement"] - apart["neighbor_chance"]) < 4 * apart["neighbor_error"]


def test_targets_of_several_numbers_are_seen_to_be_apart_from_their_inputs():
    targets = np.tanh(X @ RNG.normal(size=(4, 3)))
    curves = Curves({"loss": np.linspace(1, 0.5, 6), "val_loss": np.linspace(1, 1.2, 6)}, 1.0, steps=100)
    for rows, told in ((targets, 0), (RNG.permutation(targets), 1)):
        facts = {**association(rows, [X.copy()]), "examples": 300}
        assert len(shuffled_labels({"data": {"train": facts}}, curves)) == told


LOSS = np.geomspace(1.0, 0.02, 12)
RISING = np.array([1.0, 0.8, 0.7, 0.6, 0.62, 0.66, 0.71, 0.77, 0.82, 0.86, 0.91, 0.95])


def overfitting(held_out=None, **values):
    values = {"loss": LOSS, "val_loss": RISING, **values}
    found = curve_findings(Curves(values, 1.1, 1 / 3, held_out=held_out))
    return next(finding.severity for finding in found if finding.code == "overfitting")


def test_overfitting_is_a_warning_where_a_tenth_of_the_gain_is_lost_again():
    assert overfitting() == "warning"
    assert overfitting(val_loss=0.1 * RISING) == "info"  # 0.06 to 0.095, of 1.1 at first


def test_overfitting_is_no_warning_where_most_answers_stay_right():
    assert overfitting(HeldOut(accuracy=0.9)) == "info"
    assert overfitting(HeldOut(accuracy=0.5)) == "warning"


@pytest.mark.parametrize(("rarest", "told"), [(20, "info"), (2000, "warning")])
def test_a_score_that_falls_within_its_error_has_not_fallen(rarest, told):
    auc = np.array([0.7, 0.8, 0.85, 0.86, 0.86, 0.85, 0.84, 0.84, 0.83, 0.82, 0.81, 0.81])
    assert overfitting(HeldOut(examples=4000, rarest=rarest, initial=1.1), val_auc=auc) == told


def test_accuracy_in_validation_is_looked_up_where_the_logs_have_none():
    keras.utils.set_random_seed(0)
    centers = 2.0 * np.random.default_rng(1).normal(size=(3, 6))
    y = np.arange(330) % 3
    x = (centers[y] + 1.5 * np.random.default_rng(2).normal(size=(330, 6))).astype("float32")
    model = keras.Sequential([keras.Input((6,)), L.Dense(64, "relu"), L.Dense(3, "softmax")])
    model.compile(keras.optimizers.Adam(0.03), "sparse_categorical_crossentropy")
    train, validation = (x[:40], y[:40]), (x[40:], y[40:])
    doctor = TrainingDoctor(train=train, validation=validation, verbose=0, strict=True)
    model.fit(*train, validation_data=validation, epochs=25, batch_size=20, verbose=0, callbacks=[doctor])
    found = {finding.code: finding.severity for finding in doctor.findings}
    right = np.mean(model.predict(x[40:], verbose=0).argmax(-1) == y[40:])
    assert right > 2 / 3 and found["overfitting"] == "info" and doctor.said == []


def test_overfitting_is_said_at_the_end_alone_where_no_score_is_logged():
    book = Casebook(diagnose.preflight(segmenter(), (PICTURES, GRID), training=False, verbose=0).facts)
    history = {"loss": list(LOSS), "val_loss": list(RISING)}
    for epochs in range(5, 12):
        assert (
            book.update({name: values[:epochs] for name, values in history.items()}, None, planned=12) == []
        )
    assert [finding.code for finding in book.update(history, None, last=True)] == ["overfitting"]


def test_an_optimizer_of_the_users_own_has_no_usual_rate():
    assert usual_rate("MuonSGD") == 0.2 and usual_rate("MyOwn") is None
    assert "learning_rate=10 with" in lower_rate(100.0, {"name": "MyOwn"})
    assert "learning_rate=0.2, which is usual with MuonSGD" in lower_rate(100.0, {"name": "MuonSGD"})


def test_more_than_all_of_a_size_is_told_in_times():
    assert [part_of(v, "its size") for v in (0.3, 1.5, 0.0)] == [
        "30 % of its size",
        "1.5 times its size",
        "0 % of its size",
    ]
