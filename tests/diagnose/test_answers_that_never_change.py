"""Answers that are the same for every example, shares taken for logits, texts by their words, rates between looks."""

import types

import keras
import numpy as np
import pytest
from keras import layers, ops

from recipes.diagnose.checks.learning_rate_range_test import _result
from recipes.diagnose.rules.average_rules import judge_averages
from recipes.diagnose.rules.curve_rules import Curves
from recipes.diagnose.rules.diagnose import judge
from recipes.diagnose.rules.label_association import words_agreement
from recipes.diagnose.rules.lost_signal import lost_signal
from recipes.diagnose.rules.model_rules import judge_model
from recipes.diagnose.rules.read_curves import read_curves
from recipes.diagnose.rules.run_facts import describe, describe_model
from recipes.diagnose.rules.schedule_rules import judge_schedule
from recipes.diagnose.rules.shuffled_labels import _apart

RNG = np.random.default_rng(0)
STANDING = Curves({"loss": np.full(8, 0.693)}, 0.693, steps=200)
LEARNED = Curves({"loss": np.geomspace(0.6, 0.1, 8)}, 0.693, steps=200)


def texts(rows=300, words=6, tokens=60):
    """Labels, and texts of a few words of their class behind which all is padding."""
    labels = RNG.integers(0, 2, rows)
    ids = np.zeros((rows, tokens), "int32")
    ids[:, :words] = RNG.integers(1, 20, (rows, words)) + 20 * labels[:, None]
    return ids, labels


def judged(model, x, y, loss):
    model.compile("sgd", loss)
    return {f.code: f for f in judge_model(describe(model, (x, y)))}


@pytest.mark.parametrize(
    ("masked", "curves", "told"), [(False, STANDING, True), (True, STANDING, False), (False, LEARNED, False)]
)
def test_a_recurrence_that_forgets_behind_padding_is_told_of_a_run_that_learned_nothing(masked, curves, told):
    keras.utils.set_random_seed(0)
    ids, labels = texts(64)
    body = [layers.Embedding(60, 8, mask_zero=masked), layers.LSTM(8), layers.Dense(1, "sigmoid")]
    model = keras.Sequential([keras.Input((60,), dtype="int32"), *body])
    model.compile("sgd", "binary_crossentropy")
    found = lost_signal(describe(model, (ids, labels[:, None])), curves)
    assert [f.code for f in found] == ["vanishing"] * told
    assert not told or (found[0].layer == "lstm" and "mask_zero=True" in found[0].remedy)


def test_labels_belong_to_texts_by_their_words_wherever_they_stand():
    ids, labels = texts()
    ids = np.stack(
        [np.roll(row, shift) for row, shift in zip(ids, RNG.integers(0, 50, len(ids)), strict=True)]
    )
    assert words_agreement(ids, labels)["neighbor_agreement"] > 0.95
    assert abs(words_agreement(ids, RNG.permutation(labels))["neighbor_agreement"] - 0.5) < 0.15
    model = keras.Sequential([keras.Input((60,), dtype="int32"), layers.Embedding(60, 2), layers.Flatten()])
    model.add(layers.Dense(1, "sigmoid"))
    model.compile("sgd", "binary_crossentropy")
    for given, told in ((labels, False), (RNG.permutation(labels), True)):
        facts = describe(model, (ids, given[:, None]))["data"]["train"]
        assert (_apart(facts) is not None) == told


@pytest.mark.parametrize(
    ("from_logits", "softmax", "told"), [(True, True, True), (False, True, False), (True, False, False)]
)
def test_a_mean_of_softmaxes_under_a_loss_of_logits_is_told(from_logits, softmax, told):
    image = keras.Input((4,))
    parts = [layers.Dense(3, "softmax" if softmax else None)(image) for _ in range(2)]
    model = keras.Model(image, layers.Average()(parts))
    x = RNG.normal(size=(64, 4)).astype("float32")
    found = judged(
        model, x, RNG.integers(0, 3, 64), keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)
    )
    assert ("softmax_twice" in found) == told


class TwoMatrices(layers.Layer):
    def __init__(self, start):
        super().__init__()
        self.start = start

    def build(self, shape):
        self.into = self.add_weight((shape[-1], 8), self.start)
        self.back = self.add_weight((8, shape[-1]), self.start)

    def call(self, x):
        return ops.matmul(ops.tanh(ops.matmul(x, self.into)), self.back)


@pytest.mark.parametrize(
    ("start", "skip", "told"),
    [("zeros", False, True), ("zeros", True, False), ("glorot_uniform", False, False)],
)
def test_own_weights_of_zeros_behind_each_other_are_told(start, skip, told):
    keras.utils.set_random_seed(0)
    x = keras.Input((4,))
    y = TwoMatrices(start)(x)
    model = keras.Model(x, layers.Dense(1)(x + y if skip else y))
    numbers = RNG.normal(size=(64, 4)).astype("float32")
    assert ("zero_initialization" in judged(model, numbers, numbers[:, :1], "mse")) == told


def test_a_column_that_is_empty_for_the_whole_of_a_class_is_found():
    labels = (RNG.random(300) < 0.5).astype("float32")
    rows = RNG.normal(size=(300, 6)).astype("float32")
    rows[:, 3] = labels * RNG.uniform(0.5, 1.5, 300)
    model = keras.Sequential([keras.Input((6,)), layers.Dense(1, "sigmoid")])
    model.compile("sgd", "binary_crossentropy")
    where = describe(model, (rows, labels[:, None]))["data"]["train"]["answer_in_inputs"]
    assert where.startswith("column 3 ")
    rows[:20, 3] = 0.0  # and some of the others are empty, too
    assert describe(model, (rows, labels[:, None]))["data"]["train"]["answer_in_inputs"] is None


@pytest.mark.parametrize(("loss", "told"), [(1.0, True), (np.geomspace(1.0, 0.3, 60), False)])
def test_a_noisy_loss_that_comes_down_does_not_bounce(loss, told):
    noisy = loss * (1 + 0.2 * (-1.0) ** np.arange(60))
    found = read_curves({"loss": noisy.tolist()}, initial=1.1)
    assert ("bouncing" in [f.code for f in found]) == told


@pytest.mark.parametrize(("half", "told"), [(3, 32), (40, None)])
def test_a_rate_is_gone_between_two_looks_where_it_falls_by_equal_factors(half, told):
    steps = np.array([1, 2, 4, 8, 21, 27, 232, 287])
    rates = 0.005 * 0.5 ** (steps / half)
    record = types.SimpleNamespace(learning_rate=rates, step=steps, epoch=steps // 21)
    record = type("Probed", (), {**vars(record), "__len__": lambda self: len(steps)})()
    found = judge_schedule(record, Curves({"loss": np.full(14, 1.39)}, 1.39, steps=294, planned=14))
    assert [f.code for f in found] == (["decayed_too_early"] if told else [])
    if told:  # 0.001 = 0.5 ** (n / 3): n = 29.9, counted from step 1
        assert f"By step {int(np.ceil(1 + 3 * np.log2(1000)))} of 294" in found[0].evidence


@pytest.mark.parametrize(("decay_steps", "told"), [(3, True), (280, False)])
def test_what_a_schedule_says_of_steps_goes_before_what_was_looked_at(decay_steps, told):
    schedule = keras.optimizers.schedules.ExponentialDecay(0.005, decay_steps, 0.5)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    model.compile(keras.optimizers.Adam(schedule), "mse")
    facts = describe_model(model)
    planned = np.array(facts["optimizer"]["planned_rates"])
    np.testing.assert_allclose(
        planned[:, 1], 0.005 * 0.5 ** (planned[:, 0] / decay_steps), rtol=1e-5, atol=1e-30
    )
    found = judge_schedule(None, Curves({"loss": np.full(14, 1.39)}, 1.39, steps=294, planned=14), facts)
    assert [f.code for f in found] == ["decayed_too_early"] * told


@pytest.mark.parametrize(
    ("settled", "validation", "told"), [(False, 0.9, "warning"), (False, 0.02, "info"), (True, 0.9, None)]
)
def test_averages_of_a_pretrained_network_were_settled_before(settled, validation, told):
    layer = {"name": "norm", "momentum": 0.99, "settled": settled}
    record = type("Probed", (), {"step": np.arange(45), "__len__": lambda self: 45})()
    loss = np.geomspace(0.6, 0.004, 5)
    curves = Curves({"loss": loss, "val_loss": np.append(loss[:4], validation)}, 0.693)
    found = judge_averages(curves, record, {"layers": [layer], "steps": 45})
    assert [finding.severity for finding in found] == ([told] if told else [])


def test_a_loss_that_no_rate_changes_is_no_failure_of_the_range_test():
    found = _result(np.geomspace(1e-6, 1, 40), np.zeros(40), 0.7, 0.01)
    assert found.steepest is None and found.findings == []


@pytest.mark.parametrize(
    ("loss", "severity"), [([1.12, 1.1, 0.9, 0.25], "info"), ([1.12, 1.1, 1.1, 1.09], "warning")]
)
def test_raw_inputs_of_a_run_that_learned_late_are_harmless(loss, severity):
    x = RNG.integers(0, 256, (90, 8)).astype("float32")
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4, "relu"), layers.Dense(3, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    found = judge({"loss": loss}, None, describe(model, (x, np.arange(90) % 3)))
    assert [f.severity for f in found if f.code == "unscaled_inputs"] == [severity]
