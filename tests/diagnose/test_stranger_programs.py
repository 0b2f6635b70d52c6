"""Labels, outputs and training steps of every kind: what is wrong is named with a remedy that fits, or left alone."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import diagnose
from recipes.callbacks import TrainingDoctor
from recipes.diagnose.rules.finding_log import Casebook

Dense = keras.layers.Dense
X = np.random.default_rng(0).normal(size=(200, 6)).astype("float32")
YES = (X[:, 0] > 0).astype("float32")
CLASSES = np.digitize(X[:, 0] + X[:, 1], [-1, 0, 1])
SEVERAL = (X[:, :4] > 0).astype("float32")


def model_of(units, activation, loss):
    model = keras.Sequential([keras.Input((6,)), Dense(8, "relu"), Dense(units, activation, name="last")])
    model.compile("adam", loss)
    return model


SIGMOID = (1, "sigmoid", "binary_crossentropy")
SPARSE = (4, "softmax", "sparse_categorical_crossentropy")


def serious(model, train, validation=None):
    found = diagnose.diagnose(model=model, train=train, validation=validation)
    return {finding.code: finding for finding in found if finding.severity != "info"}


@pytest.mark.parametrize(
    ("made", "labels", "code", "told"),
    [
        (SIGMOID, YES + 1, "labels_out_of_range", "y - 1"),
        (SIGMOID, 2 * YES - 1, "labels_out_of_range", "(y + 1) / 2"),
        (SIGMOID, 255 * YES, "labels_out_of_range", "y == 255"),
        (SIGMOID, CLASSES, "labels_out_of_range", "Dense(4, activation='softmax')"),
        (SIGMOID, 3000 * X[:, 0], "labels_out_of_range", "loss='mse'"),
        (SPARSE, CLASSES / 255, "labels_out_of_range", "y / 255"),
        (SPARSE, CLASSES + 1, "labels_out_of_range", "y - 1"),
        (SPARSE, np.eye(4)[CLASSES], "label_count", "y.argmax(axis=-1)"),
        ((1, "tanh", "hinge"), YES + 1, "labels_out_of_range", "y - 1"),
        ((1, None, "mape"), np.maximum(X[:, 0], 0), "labels_out_of_range", "loss='mae'"),
        ((4, "softmax", "categorical_crossentropy"), SEVERAL, "label_count", "binary_crossentropy"),
        ((4, "softmax", "binary_crossentropy"), SEVERAL, "label_count", "'sigmoid'"),
        ((4, None, "mse"), CLASSES, "label_count", "sparse_categorical_crossentropy"),
        ((1, None, "poisson"), YES, "unreachable_targets", "exponential"),
        ((1, "sigmoid", "hinge"), YES, "unreachable_targets", "tanh"),
        ((1, "relu", "binary_crossentropy"), YES, "rectified_output", "activation='sigmoid'"),
        ((1, "softmax", "binary_crossentropy"), YES, "softmax_on_one_unit", "activation='sigmoid'"),
        ((1, "softmax", "mse"), 5 * X[:, :1], "softmax_on_one_unit", "loss='mse'"),
        ((1, "tanh", "binary_crossentropy"), YES, "logits_as_probabilities", "activation='sigmoid'"),
        (
            (4, "exponential", "sparse_categorical_crossentropy"),
            CLASSES,
            "logits_as_probabilities",
            "'softmax'",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:You are using a softmax over axis -1")
def test_labels_against_outputs_get_a_remedy_that_fits(made, labels, code, told):
    found = serious(model_of(*made), (X, labels))
    assert code in found and told in found[code].remedy


@pytest.mark.parametrize(
    ("made", "labels"),
    [
        (SIGMOID, YES),
        (SPARSE, CLASSES.astype("float32")),
        ((4, "sigmoid", "binary_crossentropy"), SEVERAL),
        ((4, "softmax", "categorical_crossentropy"), 0.8 * np.eye(4)[CLASSES] + 0.05),
        ((1, "tanh", "hinge"), YES),
        ((1, "exponential", "poisson"), YES),
        ((1, None, "mse"), 22 + 4 * X[:, 0]),
    ],
)
def test_labels_that_the_loss_expects_are_left_alone(made, labels):
    assert serious(model_of(*made), (X, labels)) == {}


def test_classes_that_only_validation_has_are_named():
    few, rest = CLASSES < 2, CLASSES >= 2
    found = serious(model_of(*SPARSE), (X[few], CLASSES[few]), (X[rest], CLASSES[rest]))
    assert "Classes 2, 3" in found["train_validation_mismatch"].evidence


def test_labels_of_each_of_several_outputs_are_checked():
    inputs = keras.Input((6,))
    model = keras.Model(inputs, {"kind": Dense(3, "softmax")(inputs), "size": Dense(1)(inputs)})
    model.compile("adam", {"kind": "sparse_categorical_crossentropy", "size": "mse"})
    found = serious(model, (X, {"kind": CLASSES, "size": X[:, :1]}))
    assert "'kind'" in found["labels_out_of_range"].evidence


def test_knowing_nothing_costs_the_mean_variance_of_several_outputs():
    from recipes.diagnose.rules.run_facts import describe

    targets = np.stack([3 * X[:, 0], 0.01 * X[:, 1]], axis=1)
    facts = describe(model_of(2, None, "mse"), (X, targets))
    np.testing.assert_allclose(facts["baseline"], targets.var(axis=0).mean(), rtol=1e-4)


def test_token_numbers_are_no_inputs_to_scale():
    tokens = np.random.default_rng(0).integers(1, 2000, (200, 20))
    layers = [keras.Input((20,)), keras.layers.Embedding(2000, 4), keras.layers.GlobalAveragePooling1D()]
    model = keras.Sequential([*layers, Dense(1, "sigmoid")])
    model.compile("adam", "binary_crossentropy")
    for numbers in (tokens, tokens.astype("float32")):
        assert serious(model, (numbers, YES)) == {}


FIRST = {
    "LSTM": lambda x: keras.layers.LSTM(4, name="first")(x),
    "EinsumDense": lambda x: keras.layers.EinsumDense("abc,cd->abd", (6, 3), name="first")(x),
    "Bidirectional": lambda x: keras.layers.Bidirectional(keras.layers.GRU(3), name="first")(x),
    "SeparableConv1D": lambda x: keras.layers.SeparableConv1D(3, 2, name="first")(x),
    "MultiHeadAttention": lambda x: keras.layers.MultiHeadAttention(1, 2, name="first")(x, x),
}


@pytest.mark.parametrize("kind", FIRST)
def test_the_first_layer_with_weights_may_be_of_any_kind(kind):
    inputs = keras.Input((6, 1))
    hidden = keras.layers.Flatten()(FIRST[kind](inputs))
    model = keras.Model(inputs, Dense(1, "sigmoid")(hidden))
    model.compile("adam", "binary_crossentropy")
    found = serious(model, (1000 * X[..., None], YES))
    assert found["unscaled_inputs"].layer.split("/")[0] == "first"
    assert "Normalization" in found["unscaled_inputs"].remedy


def test_the_unusual_factor_of_rate_and_decay_is_blamed():
    def codes(optimizer):
        model = model_of(*SPARSE)
        model.compile(optimizer, "sparse_categorical_crossentropy")
        return [finding.code for finding in diagnose.diagnose(model=model)]

    assert codes(keras.optimizers.SGD(100.0, weight_decay=5e-4)) == ["rate_too_high"]
    assert codes(keras.optimizers.AdamW(1e-3, weight_decay=100.0)) == ["regularization_too_strong"]


class Pairs(keras.Model):
    """Metric learning: labels say what belongs together, and no loss is compiled."""

    def train_step(self, data):
        x, y = data
        same = tf.cast(y[:, None] == y[None], tf.float32)
        with tf.GradientTape() as tape:
            points = tf.math.l2_normalize(self(x, training=True), -1)
            loss = tf.reduce_mean((2 * same - 1) * (1 - tf.matmul(points, points, transpose_b=True)))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"agreement": 1 - loss}


@pytest.mark.parametrize("loss", [None, "mse"])
def test_a_training_step_of_its_own_silences_only_what_needs_the_loss(loss):
    inputs = keras.Input((6,))
    hidden = Dense(4, "relu", bias_initializer=keras.initializers.Constant(-1e3), name="buried")(inputs)
    model = Pairs(inputs, Dense(2)(hidden))
    model.compile("adam", loss)
    done = diagnose.preflight(model, (X, CLASSES), verbose=0)
    assert [(f.code, f.layer) for f in done.findings] == [("dead_at_start", "buried")]
    assert "not checked" in done["data_check"].result and "not known" in done["initial_loss"].result
    doctor = TrainingDoctor(train=(X, CLASSES), every_steps=1, verbose=0, strict=True)
    model.fit(X, CLASSES, epochs=3, verbose=0, callbacks=[doctor])
    assert doctor.findings[0].layer == "buried"


def test_what_no_longer_holds_is_withdrawn_in_words():
    book = Casebook({})
    for epochs in range(3, 6):
        said = book.update({"loss": [2.3] * epochs}, None)
    assert book.said[0].code == "not_learning" and not book.said[0].withdrawn
    loss = [2.3] * 5 + [1.5, 1.0, 0.6]
    said = book.update({"loss": loss}, None, last=True)
    (taken_back,) = [finding for finding in said if finding.withdrawn]
    assert str(taken_back) == "withdrawn: not learning (said after epoch 4)" and taken_back.severity == "info"
    assert book.said[0].withdrawn and book.findings[-1].withdrawn


def test_a_check_without_time_is_said_with_the_seconds_it_needs():
    done = diagnose.preflight(model_of(*SPARSE), (X, CLASSES), seconds=1e-3, verbose=0)
    assert set(done.skipped) >= {"overfit_small_sample", "learning_rate_range_test"}
    assert "NOT CHECKED" in str(done) and "SKIPPED" in str(done) and "seconds=30) runs all" in str(done)
    assert all(check.seconds >= 0 for check in done.checks)


_ON_JAX = """
import sys
import numpy as np, keras
from recipes.diagnose import data_check, diagnose, read_curves
assert [f.code for f in read_curves({"loss": [2.3, 9, 40, 90]})] == ["diverged"]
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, "sigmoid")])
model.compile("adam", "binary_crossentropy")
found = data_check(model, (np.random.rand(64, 4), np.arange(64) % 2 + 1)).findings
assert [f.code for f in found] == ["labels_out_of_range"]
assert [f.code for f in diagnose({"loss": [2.3, 9, 40, 90]})] == ["diverged"]
assert not [name for name in sys.modules if name.startswith("recipes.probe")]
"""


@pytest.mark.slow
def test_curves_are_judged_on_jax_without_the_probe():
    pytest.importorskip("jax")
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run([sys.executable, "-c", _ON_JAX], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
