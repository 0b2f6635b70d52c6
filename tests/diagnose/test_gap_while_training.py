"""What is said of validation while a run goes on: nothing that its next epochs take back, and all that stays."""

import numpy as np
import pytest

from recipes.diagnose.rules.average_rules import judge_averages, started_with
from recipes.diagnose.rules.curve_rules import Curves, HeldOut
from recipes.diagnose.rules.finding_log import Casebook
from recipes.diagnose.rules.gap_rules import judge_gap

# 162 crops of three photos at 64 pixels, a residual network with batch normalization, 11 steps per epoch.
PHOTOS = {
    "loss": [0.892, 0.843, 0.1229, 0.3055, 0.1052, 0.0978],
    "accuracy": [0.7099, 0.8395, 0.9444, 0.9074, 0.9691, 0.9568],
    "val_loss": [8.013, 2.875, 1.863, 1.612, 0.2973, 0.0324],
    "val_accuracy": [0.5556, 0.8889, 0.7222, 0.7778, 0.8889, 1.0],
}
# Twenty photos of each of four kinds of flowers, the same network, 5 steps per epoch.
FLOWERS = {
    "loss": [1.67, 2.1, 1.09, 0.966, 0.406, 0.294, 0.341, 0.229, 0.135, 0.0581, 0.0884, 0.116],
    "accuracy": [0.389, 0.625, 0.694, 0.75, 0.806, 0.917, 0.889, 0.917, 0.958, 0.972, 0.972, 0.986],
    "val_loss": [5.82, 3.71, 6.64, 2.53, 6.41, 10.9, 0.228, 0.891, 0.185, 0.0853, 0.101, 0.0776],
    "val_accuracy": [0.5, 0.625, 0.5, 0.375, 0.25, 0.25, 0.875, 0.875, 0.875, 1.0, 0.875, 1.0],
}
OTHER_LABELS = {**FLOWERS, "val_loss": list(np.linspace(2.2, 6, 12)), "val_accuracy": [0.2] * 12}
NORMALIZED = {"name": "norm", "momentum": 0.99, "trainable": True}


def followed(history, per_epoch):
    """The codes of what is said after each epoch, and at the end."""
    book, epochs = Casebook({}), len(history["loss"])
    book.update(None, None)
    said = []
    for epoch in [*range(1, epochs + 1), epochs]:
        so_far = {name: values[:epoch] for name, values in history.items()}
        last = len(said) == epochs
        found = book.update(so_far, None, last=last, planned=epochs, steps=per_epoch * epoch)
        said.append([finding.code for finding in found])
    return said


def so_far(history, epochs, planned, *, steps=None):
    values = {name: np.asarray(one[:epochs], "float64") for name, one in history.items()}
    held_out = HeldOut(examples=60, rarest=15)
    return Curves(values, 1.386, 0.25, planned=planned, held_out=held_out, steps=steps)


@pytest.mark.parametrize(("history", "per_epoch"), [(PHOTOS, 11), (FLOWERS, 5)])
def test_averages_on_their_way_are_no_mismatch(history, per_epoch):
    assert not any(followed(history, per_epoch))


@pytest.mark.parametrize(("per_epoch", "first"), [(200, 6), (5, 13)])
def test_labels_of_others_in_validation_are_told_at_the_end_at_the_latest(per_epoch, first):
    said = followed(OTHER_LABELS, per_epoch)
    assert "train_validation_mismatch" in said[first - 1] and not any(said[: first - 1])
    assert sum("train_validation_mismatch" in one for one in said) == 1


def test_a_validation_loss_on_its_way_down_is_waited_for():
    behind = {**FLOWERS, "val_loss": list(np.linspace(9, 5, 12)), "val_accuracy": [0.25] * 12}
    assert not judge_gap(so_far(behind, 6, 12))
    assert [finding.code for finding in judge_gap(so_far(behind, 6, 6))] == ["train_validation_mismatch"]


@pytest.mark.parametrize(("steps", "told"), [(60, False), (600, True)])
def test_few_steps_are_waited_for_whatever_the_momentum(steps, told):
    lagging = {**FLOWERS, "val_accuracy": [0.25] * 12}
    assert bool(judge_gap(so_far(lagging, 6, 12, steps=steps))) == told


def test_answers_far_above_guessing_are_waited_for():
    known = {**OTHER_LABELS, "val_accuracy": [0.5] * 12}
    assert "train_validation_mismatch" in {one.code for one in judge_gap(so_far(OTHER_LABELS, 6, 12))}
    assert "train_validation_mismatch" not in {one.code for one in judge_gap(so_far(known, 6, 12))}


def test_a_mismatch_gives_the_accuracies_that_the_log_shows():
    known = {**OTHER_LABELS, "val_accuracy": [0.4667] * 12}
    evidence = judge_gap(so_far(known, 12, 12))[0].evidence
    assert "in epoch 12, 99% of the answers are right in training and 47% in validation" in evidence
    assert "single" not in evidence


def test_the_slowest_average_that_training_changes_counts():
    layers = [
        NORMALIZED,
        NORMALIZED | {"momentum": 0.9},
        NORMALIZED | {"momentum": 0.999, "trainable": False},
    ]
    assert started_with({"layers": layers}, None, 50) == pytest.approx(0.99**50)
    assert started_with({"layers": [NORMALIZED | {"momentum": None}]}, None, 50) == 0
    assert started_with({}, None, None) == 0


@pytest.mark.parametrize(
    ("momentum", "epochs", "told"), [(0.99, 6, False), (0.99, 7, True), (0.9999, 6, True)]
)
def test_averages_are_told_early_only_where_the_plan_is_too_short_for_them(momentum, epochs, told):
    facts = {"layers": [NORMALIZED | {"momentum": momentum}], "steps": 9 * epochs}
    far = so_far({**FLOWERS, "val_loss": [8.0] * 12}, epochs, 12 if epochs < 7 else 7)
    record = [None]
    assert bool(judge_averages(far, record, facts)) == told


def test_a_run_of_an_unknown_model_that_ends_early_is_judged_by_its_curves():
    history = {
        "loss": [2.3, 1.0, 0.1, 0.01] * 3,
        "val_loss": [2.3, 2.4, 3.0, 4.0] * 3,
        "accuracy": [0.1, 0.5, 0.9, 1.0] * 3,
        "val_accuracy": [0.1] * 12,
    }
    whole, ended = Casebook({}), Casebook({})
    whole.update(history, None, last=True, planned=12, steps=300)
    ended.update(history, None, last=True, planned=50, steps=300)
    assert [one.code for one in ended.findings] == [one.code for one in whole.findings] != []
