"""Siblings of the scripts with which strangers broke the doctor: other data and losses, the same kind of fault."""

import keras
import numpy as np
import pytest

from recipes import diagnose
from recipes.callbacks import TrainingDoctor

L, ops = keras.layers, keras.ops
RNG = np.random.default_rng(3)
X = RNG.normal(size=(256, 6)).astype("float32")


def doctored(model, x, y, act="report", **options):
    doctor = TrainingDoctor(act, train=(x, y), verbose=0, every_steps=2, strict=True)
    history = model.fit(x, y, verbose=0, callbacks=[doctor], **options)
    return doctor, history.history


@pytest.mark.parametrize("first", [1, -2])
def test_the_doctor_names_labels_on_which_the_first_step_fails(first):
    model = keras.Sequential([keras.Input((6,)), L.Dense(5, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    doctor = TrainingDoctor(train=(X, RNG.integers(first, first + 5, 256)), verbose=0, strict=True)
    with pytest.raises(Exception, match="valid range"):
        model.fit(X, RNG.integers(first, first + 5, 256), verbose=0, callbacks=[doctor])
    assert [(f.code, f.severity) for f in doctor.said] == [("labels_out_of_range", "error")]
    assert doctor.findings[0].remedy.startswith(
        f"Train on y - {first}, to number classes from 0" if first > 0 else "Number classes from 0"
    )


def test_a_first_batch_that_costs_nothing_makes_no_rate_too_high():
    keras.utils.set_random_seed(0)
    one, two = keras.Input((6,)), keras.Input((6,))
    base = keras.Sequential([L.Dense(16, "relu"), L.Dense(4)])
    apart = ops.sqrt(ops.sum(ops.square(base(one) - base(two)), axis=1, keepdims=True) + 1e-12)
    model = keras.Model([one, two], apart)
    same = (np.arange(256) % 2 == 0).astype("float32")
    same[:32] = 1  # the first batch: each of its pairs is one thing twice
    other = np.where(same[:, None] == 1, X, RNG.permutation(X)).astype("float32")

    def contrast(true, guess):
        return ops.mean(
            true * ops.square(guess) + (1 - true) * ops.square(ops.maximum(2 - guess, 0)), axis=-1
        )

    model.compile(keras.optimizers.Adam(3e-3), contrast)
    doctor = TrainingDoctor(train=((X, other), same[:, None]), verbose=0, every_steps=1, strict=True)
    model.fit((X, other), same[:, None], epochs=4, shuffle=False, verbose=0, callbacks=[doctor])
    assert doctor.record.loss[0] < 1e-6 < doctor.record.loss[4] and doctor.said == []


@pytest.mark.parametrize(("mean", "std"), [(290.0, 8.0), (-12.0, 0.5)])
def test_a_regression_far_from_zero_is_not_ended_on_its_way(mean, std):
    keras.utils.set_random_seed(0)
    y = (mean + std * (X[:, 0] - X[:, 1]) / 2**0.5).astype("float32")
    model = keras.Sequential([keras.Input((6,)), L.Dense(16, "relu"), L.Dense(1)])
    model.compile(keras.optimizers.Adam(0.03), "mae")
    doctor, history = doctored(model, X, y, "stop", epochs=8)
    assert len(history["loss"]) == 8 and np.all(np.diff(history["loss"][:5]) < 0)
    assert [finding for finding in doctor.said if finding.severity == "error"] == []


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize(("cut", "told"), [(True, ["vanishing"]), (False, [])])
def test_a_layer_that_no_gradient_reaches_is_named_while_others_move(cut, told):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    hidden = L.Dense(8, "relu", name="behind_the_cut")(inputs)
    gate = L.Dense(8, kernel_initializer="zeros", name="begins_at_zero")(inputs)
    hidden = ops.stop_gradient(hidden) if cut else hidden
    model = keras.Model(inputs, L.Dense(1)(hidden + gate))
    model.compile(keras.optimizers.Adam(0.003), "mse")
    doctor, _ = doctored(model, X, np.tanh(X[:, 0] * X[:, 1]), epochs=3)
    found = [finding for finding in doctor.findings if finding.severity != "info"]
    assert [finding.code for finding in found] == told
    assert [finding.layer for finding in found] == (["behind_the_cut"] if cut else [])


def test_a_rate_of_a_hundred_is_blamed_with_the_rate_that_muon_wants():
    from recipes.optimizers import MuonSGD

    model = keras.Sequential([keras.Input((6,)), L.Dense(8, "relu"), L.Dense(1)])
    model.compile(MuonSGD(100.0, weight_decay=5e-4), "mse")
    (found,) = [f for f in diagnose.diagnose(model=model) if f.severity != "info"]
    assert found.code == "rate_too_high" and "learning_rate=0.2," in found.remedy


def test_tables_that_begin_at_zero_are_named_where_their_rows_are_multiplied():
    one, two = keras.Input((1,), dtype="int32"), keras.Input((1,), dtype="int32")
    rows = [
        L.Embedding(9, 4, embeddings_initializer="zeros", name=name)(x)
        for name, x in (("a", one), ("b", two))
    ]
    model = keras.Model([one, two], ops.sum(rows[0] * rows[1], axis=-1))
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    pairs = RNG.integers(0, 9, (2, 64, 1)).astype("int32")
    found = diagnose.diagnose(model=model, train=((pairs[0], pairs[1]), np.arange(64)[:, None] % 2))
    assert ("zero_initialization", "a") in [(finding.code, finding.layer) for finding in found]
