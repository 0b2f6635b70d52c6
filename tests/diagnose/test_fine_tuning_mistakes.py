"""The classic mistakes of fine-tuning, named: statistics that move behind frozen layers, `trainable` set too late."""

import keras
import numpy as np
import pytest

from recipes import callbacks
from recipes.diagnose.rules.model_rules import judge_model
from recipes.diagnose.rules.run_facts import describe_model

LOSS = "sparse_categorical_crossentropy"
DATA = np.random.default_rng(0).normal(size=(16, 6, 6, 2)).astype("float32"), np.arange(16) % 3


@pytest.fixture
def pretrained():
    """Three blocks that have been trained, and a new head."""
    keras.utils.set_random_seed(0)
    image = x = keras.Input((6, 6, 2))
    for number in range(3):
        x = keras.layers.Conv2D(4, 3, padding="same", name=f"conv{number}")(x)
        x = keras.layers.BatchNormalization(name=f"norm{number}")(x)
    body = keras.Model(image, x, name="body")
    body.set_weights([weight + 0.1 for weight in body.get_weights()])
    x = keras.layers.GlobalAveragePooling2D()(body.output)
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax", name="head")(x))
    return model, body


def codes(model):
    return {one.code: one for one in judge_model(describe_model(model))}


def test_batch_norms_that_move_behind_frozen_layers_are_named(pretrained):
    model, body = pretrained
    for layer in body.layers:
        layer.trainable = not isinstance(layer, keras.layers.Conv2D)
    model.compile("sgd", LOSS)
    found = codes(model)["frozen_statistics"]
    assert found.layer == "norm0" and found.evidence.startswith("3 batch normalizations, norm0 first")
    before = np.array(body.get_layer("norm0").moving_mean)
    model.fit(*DATA, verbose=0)
    assert not np.array_equal(before, body.get_layer("norm0").moving_mean)  # as the finding says


@pytest.mark.parametrize("case", ["frozen as a whole", "learning as a whole", "norm in the head"])
def test_healthy_ways_of_freezing_are_no_finding(pretrained, case):
    model, body = pretrained
    body.trainable = case != "frozen as a whole" and case != "norm in the head"
    if case == "norm in the head":
        x = keras.layers.BatchNormalization(name="new")(body.output)
        x = keras.layers.GlobalAveragePooling2D()(x)
        model = keras.Model(body.input, keras.layers.Dense(3, activation="softmax")(x))
    model.compile("sgd", LOSS)
    assert "frozen_statistics" not in codes(model)


@pytest.mark.parametrize(("before", "after", "severity"), [(False, True, "error"), (True, False, "warning")])
def test_trainable_set_without_compiling_again_is_named(pretrained, before, after, severity):
    model, body = pretrained
    body.trainable = before
    model.compile("sgd", LOSS)
    model.fit(*DATA, verbose=0)
    body.trainable = after
    found = codes(model)["trainable_switched"]
    assert found.severity == severity and found.evidence.startswith("12 variables, conv0/kernel first")
    model.compile("sgd", LOSS)
    assert "trainable_switched" not in codes(model)


def test_the_doctor_says_it_in_the_second_fit(pretrained):
    model, body = pretrained
    body.trainable = False
    model.compile("sgd", LOSS)
    model.fit(*DATA, verbose=0)
    body.trainable = True
    doctor = callbacks.TrainingDoctor(verbose=0, strict=True)
    model.fit(*DATA, verbose=0, callbacks=[doctor])
    assert "trainable_switched" in {one.code for one in doctor.said}


def test_unfreezing_by_the_callback_is_no_mistake(pretrained):
    model, body = pretrained
    body.trainable = False
    model.compile("sgd", LOSS)
    model.fit(*DATA, epochs=3, verbose=0, callbacks=[callbacks.Unfreeze({1: "conv2"})])
    assert not {"trainable_switched", "frozen_statistics"} & set(codes(model))
