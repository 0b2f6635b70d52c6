"""try_remedies: what is known to help is found to help, what is known not to is refuted, and nothing moves."""

import random

import keras
import numpy as np
import pytest

from recipes import diagnose
from recipes.callbacks import TrainingDoctor
from recipes.diagnose.remedies.arms import edited

Dense = keras.layers.Dense


def finding(code, severity="error"):
    return diagnose.Finding(code, severity, None, 0, "Seen.", "Do it.")


def data():
    x = np.random.default_rng(0).normal(size=(600, 6)).astype("float32")
    return x, np.digitize(x[:, 0] + x[:, 1], [-1, 0, 1])


def model_of(last, loss, optimizer="adam", **options):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((6,)), Dense(16, "relu", name="hidden", **options), last])
    model.compile(optimizer, loss)
    return model


def softmax(optimizer="adam", **options):
    return model_of(Dense(4, "softmax", name="out"), "sparse_categorical_crossentropy", optimizer, **options)


def tried(model, train, *codes):
    return diagnose.try_remedies(model, train, [finding(code) for code in codes], seconds=6, verbose=0)


def test_a_rate_far_too_high_is_cured_by_the_usual_one():
    trials = tried(softmax(keras.optimizers.SGD(1e4)), data(), "rate_too_high")
    assert trials.best.name == "learning rate 0.1" and trials.best.gain > 0.9
    first = next(result for result in trials.results if result.name == "learning rate / 10")
    assert first.tried and first.refuted
    assert first.losses.shape == first.unchanged.shape == (2, trials.steps)
    told = trials.apply([finding("rate_too_high")])[0].remedy
    assert (
        told.startswith("model.optimizer.learning_rate = 0.1")
        and "Tried without gain: learning rate / 10" in told
    )


def test_labels_one_and_two_are_turned_into_zero_and_one():
    x, _ = data()
    labels = (x[:, 0] > 0) + 1.0
    model = model_of(Dense(1, "sigmoid"), "binary_crossentropy", keras.optimizers.Adam(0.01))
    trials = tried(model, (x, labels), "labels_out_of_range")
    assert trials.best.code == "y = (y == 2).astype('float32')" and trials.best.measure == "accuracy"
    assert trials.best.gain > 0.3


def test_targets_far_from_zero_are_standardized():
    x, _ = data()
    model = model_of(Dense(1), "mse", keras.optimizers.Adam(0.01))
    trials = tried(model, (x, 3000 * x[:, :1] + 20000), "unscaled_targets")
    assert trials.best.measure == "explained variance" and trials.best.gain > 0.8


def test_nothing_of_the_users_moves_by_a_bit():
    model, (x, labels) = softmax(), data()
    model.fit(x, labels, epochs=1, verbose=0)

    def state():
        return [np.array(v.value) for v in [*model.variables, *model.optimizer.variables]]

    before, drawn = state(), (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
    function = model.train_function
    tried(model, (x, labels), "regularization_too_strong", "not_learning", "zero_initialization")
    for old, new in zip(before, state(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == drawn  # noqa: NPY002
    assert model.train_function is function


def test_one_seed_gives_one_result():
    losses = []
    for _ in range(2):  # without time: the first remedy alone, in as few steps as there may be
        given = {"seconds": 1e-3, "verbose": 0}
        trials = diagnose.try_remedies(softmax(), data(), [finding("rate_too_low")], **given)
        losses.append(trials.results[0].losses)
    assert losses[0].shape[1] >= 20
    np.testing.assert_array_equal(*losses)


def test_what_there_is_no_time_for_is_not_tried():
    trials = diagnose.try_remedies(softmax(), data(), [finding("not_learning")], seconds=1e-3, verbose=0)
    assert [result.tried for result in trials.results].count(True) == 1
    assert "no time left" in trials.results[-1].reason and np.isnan(trials.results[-1].gain)


def test_a_model_that_cannot_be_built_again_is_refused():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.out = Dense(4, "softmax")

        def call(self, inputs):
            return self.out(inputs)

    model, (x, labels) = Own(), data()
    model.compile("adam", "sparse_categorical_crossentropy")
    model(x[:2])
    with pytest.raises(ValueError, match="built again"):
        diagnose.try_remedies(model, (x, labels), [finding("rate_too_high")], verbose=0)


def test_an_edit_reaches_the_last_layer_of_a_nested_model():
    inner = {"class_name": "Dense", "config": {"name": "deep", "activation": "tanh"}}
    config = {
        "class_name": "Functional",
        "config": {"name": "m", "layers": [{"config": {"layers": [inner]}}]},
    }

    def to_relu(layer):
        if layer["_last"]:
            layer["activation"] = "relu"

    changed = edited(config, to_relu, "deep")
    assert changed["config"]["layers"][0]["config"]["layers"][0]["config"] == {
        "name": "deep",
        "activation": "relu",
    }
    assert inner["config"] == {"name": "deep", "activation": "tanh"}


def test_the_doctor_leads_with_the_remedy_that_helped_at_an_error():
    x, labels = data()
    model = softmax(keras.optimizers.SGD(1e5))
    doctor = TrainingDoctor("try", train=(x, labels), seconds=5, every_steps=2, verbose=0, strict=True)
    model.fit(x, labels, epochs=2, verbose=0, callbacks=[doctor])
    assert doctor.tried.best is not None
    assert doctor.findings[0].remedy.startswith(doctor.tried.best.code)
    with pytest.raises(ValueError, match="train="):
        TrainingDoctor("try")
