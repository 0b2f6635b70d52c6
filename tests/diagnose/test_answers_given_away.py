"""A loss that rewards wrong answers, targets that are all one number, and inputs that hold the answer."""

import keras
import numpy as np
import pytest

from recipes.callbacks import TrainingDoctor
from recipes.diagnose.checks.sample import Sample
from recipes.diagnose.rules.answer_in_inputs import answer_in_inputs
from recipes.diagnose.rules.curve_rules import Curves
from recipes.diagnose.rules.metric_rules import against_metric
from recipes.diagnose.rules.read_curves import read_curves

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 4)).astype("float32")
VALUES = (X @ [1.0, -1.0, 0.5, 2.0]).astype("float32")
CLASSES = (VALUES > 0).astype("int32")
SERIES = RNG.normal(size=(200, 8, 1)).astype("float32")
TOKENS = RNG.integers(0, 9, (200, 6))


def where(x, y, weights=None, *, classes):
    return answer_in_inputs(Sample([(x, y, weights)], ordered=False, whole=True), classes)


@pytest.mark.parametrize(
    ("x", "y", "classes"),
    [
        (np.c_[X, CLASSES].astype("float32"), CLASSES, True),
        (np.c_[X, 3 - 7 * CLASSES].astype("float32"), CLASSES, True),
        (np.c_[X, CLASSES].astype("float32"), np.eye(2)[CLASSES], True),
        (np.c_[X, VALUES].astype("float32"), VALUES, False),
        (np.repeat(X[:, :, None], 2, 2), X[:, -1], False),  # windows that end on what they shall foretell
        (SERIES, SERIES[:, -1], False),
        ((X, VALUES[:, None]), VALUES[:, None], False),
        ((TOKENS, TOKENS[:, ::-1]), TOKENS[:, ::-1], True),  # a decoder that is given what it shall say
    ],
)
def test_inputs_that_hold_the_answer_are_told(x, y, classes):
    assert where(x, y, classes=classes)


def test_tokens_in_sight_of_a_masked_task_are_told():
    weights = (RNG.random(TOKENS.shape) < 0.2).astype("float32")
    assert where(TOKENS, TOKENS, weights, classes=True)
    assert where(np.where(weights > 0, 9, TOKENS), TOKENS, weights, classes=True) is None


@pytest.mark.parametrize(
    ("x", "y", "classes"),
    [
        (X, CLASSES, True),
        (X, VALUES, False),
        (X, X, False),  # an autoencoder
        (X[:, :1], X[:, 0], False),  # a single number that is the answer is the task
        (X, 22 + 4 * X[:, 0], False),  # so is a line
        (TOKENS, TOKENS, True),  # copying is the task
        (TOKENS, TOKENS[:, -1], True),  # so is remembering
        ((X, CLASSES[:, None]), CLASSES, True),  # a loss that needs the class is given it as a whole number
        (np.repeat(X[:, :, None], 2, 2), X[:, 0], False),
        (np.c_[X, RNG.integers(0, 2, 200)].astype("float32"), CLASSES, True),
    ],
)
def test_healthy_inputs_hold_no_answer(x, y, classes):
    assert where(x, y, classes=classes) is None


def codes(history, **known):
    return {finding.code for finding in read_curves(history, **known)}


FALLING = [5.0, 4.2, 3.6, 3.1, 2.5, 1.8]


@pytest.mark.parametrize(
    ("history", "turned"),
    [
        ({"loss": FALLING, "accuracy": [0.1, 0.05, 0.02, 0.01, 0.01, 0.0]}, True),
        ({"loss": FALLING, "accuracy": [0.5, 0.6, 0.7, 0.7, 0.8, 0.8]}, False),
        ({"loss": FALLING, "accuracy": [0.4, 0.3, 0.3, 0.3, 0.3, 0.3]}, False),  # with class weights
        ({"loss": FALLING, "accuracy": [0.0] * 6}, False),  # it does not fit the outputs
        ({"loss": FALLING, "mae": [1.0, 1.3, 1.7, 2.2, 3.0, 4.0]}, True),
        ({"loss": FALLING, "mae": [1.0, 0.9, 0.8, 0.7, 0.7, 0.6]}, False),
        ({"loss": [-(2.0**epoch) for epoch in range(12)]}, True),
        ({"loss": [3 - 4 * np.log1p(epoch) for epoch in range(12)]}, False),  # a likelihood
        ({"loss": [1.0 - 0.2 * epoch for epoch in range(12)]}, False),
    ],
)
def test_a_loss_that_rewards_wrong_answers_is_told_by_what_grows_meanwhile(history, turned):
    assert ("loss_turned" in codes(history, chance=0.5)) == turned


def test_a_loss_of_keras_own_is_not_called_turned():
    values = {"loss": np.array(FALLING), "accuracy": np.array([0.48, 0.3, 0.2, 0.18, 0.17, 0.17])}
    found = {own: against_metric(Curves(values, chance=0.5, below_zero=own)) for own in (True, False)}
    assert found[True] and not found[False]


def test_the_doctor_tells_a_likelihood_that_was_not_negated():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(2, "softmax")]
    )

    def likelihood(y, p):
        picked = keras.ops.take_along_axis(p, keras.ops.cast(keras.ops.reshape(y, (-1, 1)), "int32"), 1)
        return keras.ops.mean(keras.ops.log(picked + 1e-7))

    model.compile(keras.optimizers.Adam(0.01), likelihood, metrics=["sparse_categorical_accuracy"])
    doctor = TrainingDoctor(train=(X, CLASSES), verbose=0, strict=True)
    model.fit(X, CLASSES, epochs=12, verbose=0, callbacks=[doctor])
    assert "loss_turned" in {finding.code for finding in doctor.findings}


@pytest.mark.parametrize(("targets", "told"), [(0 * VALUES, True), (VALUES, False)])
def test_targets_that_are_all_one_number_are_a_warning(targets, told):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    doctor = TrainingDoctor(train=(X, targets), verbose=0, strict=True)
    model.fit(X, targets, epochs=1, verbose=0, callbacks=[doctor])
    assert ("labels_constant" in {finding.code for finding in doctor.findings}) == told
