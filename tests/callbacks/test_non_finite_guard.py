import keras
import numpy as np
import pytest

from recipes import callbacks

pytestmark = pytest.mark.numerics

layers = keras.layers
rng = np.random.default_rng(0)
X = rng.normal(size=(64, 4)).astype("float32")
Y = (X[:, :1] > 0).astype("float32")


@keras.saving.register_keras_serializable(package="guard_tests")
class BreaksAt(layers.Layer):
    """The identity, until its n-th training step; from then on it gives one NaN."""

    def __init__(self, step, value=float("nan"), **kwargs):
        super().__init__(**kwargs)
        self.step = step
        self.value = value

    def build(self, input_shape):
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, name="count")

    def call(self, inputs, training=False):
        broken = keras.ops.cast(self.count >= self.step, "float32")
        if training:
            self.count.assign(self.count + 1)
        place = keras.ops.one_hot(keras.ops.zeros_like(inputs[:, 0], "int32"), inputs.shape[1])
        return keras.ops.where((place * broken) > 0, self.value, inputs)


def build(step=10**6, **compiled):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(6, "relu", name="first"),
            layers.Dense(6, name="second"),
            BreaksAt(step, name="breaks"),
            layers.Dense(6, "softplus", name="third"),
            layers.Dense(1, name="last"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.01), "mse", **compiled)
    return model


def fit(model, guard, *others, x=X, y=Y, epochs=2):
    return model.fit(x, y, batch_size=8, epochs=epochs, verbose=0, shuffle=False, callbacks=[*others, guard])


@pytest.mark.parametrize("compiled", [{}, {"jit_compile": True}, {"run_eagerly": True}])
def test_checking_every_step_names_the_first_layer_and_the_very_step(compiled):
    guard = callbacks.NonFiniteGuard(every_steps=1)
    with pytest.warns(UserWarning, match="step 5: the output of layer 'breaks' is the first"):
        history = fit(build(step=5, **compiled), guard)
    finding = guard.finding
    assert (finding.step, finding.epoch, finding.what, finding.layer, finding.exact) == (
        5,
        0,
        "output",
        "breaks",
        True,
    )
    assert len(history.epoch) == 1 and history.history["monitor/non_finite"] == [1]
    assert guard.record.step.tolist() == [5]
    names = guard.record.axes["layers"]["name"].tolist()
    np.testing.assert_array_equal(guard.record.output_finite[0], [n in ("first", "second") for n in names])
    assert guard.plot().axes[1].get_yticklabels()[2].get_text() == "breaks"


def test_at_the_default_cadence_the_next_step_is_probed_and_training_stops():
    model, guard = build(step=5), callbacks.NonFiniteGuard(every_steps=100)
    with pytest.warns(
        UserWarning, match="weights of layer 'first' were not finite before the step.*every_steps=1"
    ):
        history = fit(model, guard)
    assert guard.finding.layer == "first" and not guard.finding.exact and guard.finding.step <= 7
    assert len(history.epoch) == 1


def test_a_nan_in_the_last_step_of_an_epoch_is_reported_at_its_end():
    guard = callbacks.NonFiniteGuard(every_steps=100)
    with pytest.warns(UserWarning, match="weights of layer 'first'"):
        fit(build(step=7), guard, epochs=1)


@pytest.mark.parametrize(("what", "where"), [("input", X), ("target", Y)])
def test_broken_data_is_blamed_and_not_the_layers(what, where):
    broken = where.copy()
    broken[20, 0] = np.nan
    guard = callbacks.NonFiniteGuard(every_steps=1)
    with pytest.warns(UserWarning, match=f"the {what}s? of the batch hold"):
        fit(build(), guard, **{"x" if what == "input" else "y": broken})
    assert (guard.finding.what, guard.finding.step) == (what, 2)


def test_an_update_that_overflows_is_named_before_the_next_step_spreads_it():
    model, guard = build(), callbacks.NonFiniteGuard(every_steps=1)
    model.optimizer.learning_rate = float("inf")
    with pytest.warns(
        UserWarning, match="step 0: the step made the weights of layer 'first' not finite. Clip"
    ):
        fit(model, guard)
    assert guard.finding.exact


def test_broken_weights_and_a_loss_of_its_own_are_told_apart():
    model, guard = build(), callbacks.NonFiniteGuard(every_steps=1)
    model.get_layer("third").set_weights([np.full((6, 6), np.inf), np.zeros(6)])
    with pytest.warns(UserWarning, match="weights of layer 'third' were not finite"):
        fit(model, guard)
    model = build()
    model.compile("sgd", lambda y, p: keras.ops.log(p * 0 - 1.0))
    with pytest.warns(UserWarning, match="every layer's output is finite, but the loss is not"):
        fit(model, guard)


def test_a_layer_that_is_infinite_by_design_neither_alarms_nor_is_blamed():
    inputs = keras.Input((4,))
    x = layers.Dense(4, name="first")(inputs)
    masked = BreaksAt(0, -np.inf, name="mask")(x)  # -inf, as an attention mask
    x = layers.Softmax(name="softmax")(masked)
    x = BreaksAt(5, name="breaks")(x)
    model = keras.Model(inputs, layers.Dense(1, name="last")(x))
    model.compile(keras.optimizers.SGD(0.01), "mse")
    guard = callbacks.NonFiniteGuard(every_steps=1)
    with pytest.warns(UserWarning, match="'breaks'"):
        fit(model, guard)
    assert guard.finding.step == 5


def test_restore_goes_back_to_finite_weights_with_a_lower_rate_and_goes_on():
    class Once(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 5 and not self.done:
                self.done = True
                self.model.get_layer("third").kernel.assign(np.full((6, 6), np.nan))

        done = False

    model = build()
    guard = callbacks.NonFiniteGuard(every_steps=1, restore=True, factor=0.5, copy_every=2)
    with pytest.warns(
        UserWarning,
        match="last good weights, and training goes on with 0.5 times the learning rate \\(restore 1 of 3\\)",
    ):
        history = fit(model, guard, Once()).history
    assert guard.restores == 1 and len(history["loss"]) == 2 and np.isfinite(history["loss"]).all()
    assert history["monitor/non_finite"] == [1, 0]
    np.testing.assert_allclose(float(model.optimizer.learning_rate), 0.005)
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_restore_lowers_the_rate_of_a_schedule_callback_and_gives_up_in_the_end():
    class Rate(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.model.optimizer.learning_rate = 0.02

    model = build(step=3)
    guard = callbacks.NonFiniteGuard(every_steps=1, restore=True, factor=0.1, most_restores=2, copy_every=1)
    rates = []
    look = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: rates.append(float(model.optimizer.learning_rate))
    )
    with pytest.warns(UserWarning) as said:
        model.fit(X, Y, batch_size=8, epochs=2, verbose=0, shuffle=False, callbacks=[Rate(), guard, look])
    assert guard.restores == 2 and "expects finite numbers" in str(said[-1].message) and len(rates) < 9
    np.testing.assert_allclose([rates[0], rates[3], rates[-1]], [0.02, 0.002, 0.0002], rtol=1e-5)


def test_restore_with_a_schedule_inside_the_optimizer_is_refused():
    model = build()
    model.compile(keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)), "mse")
    with pytest.raises(ValueError, match="ExponentialDecay.*recipes.callbacks.LearningRate"):
        fit(model, callbacks.NonFiniteGuard(restore=True))
    with pytest.raises(ValueError, match="factor=2"):
        callbacks.NonFiniteGuard(factor=2)


def test_a_backup_survives_and_holds_finite_weights(tmp_path):
    model = build(step=12)
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    with (
        pytest.warns(UserWarning, match="expects finite numbers"),
        pytest.raises(callbacks.NonFiniteError, match="keeps the backup"),
    ):
        fit(model, callbacks.NonFiniteGuard(every_steps=1), backup)
    assert not {"save", "save_weights"} & set(vars(model))
    kept = build()
    kept.load_weights(tmp_path / "backup" / "latest.weights.h5")
    assert all(np.isfinite(w).all() for w in kept.get_weights())


def test_no_callback_overwrites_a_good_file_with_broken_weights(tmp_path):
    """Whatever saves: nobody has told the guard of it."""
    file, model = tmp_path / "last.weights.h5", build(step=12)

    class Saves(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.save_weights(file)

    with (
        pytest.warns(UserWarning, match="expects finite numbers"),
        pytest.raises(callbacks.NonFiniteError, match="last.weights.h5"),
    ):
        fit(model, callbacks.NonFiniteGuard(every_steps=1), Saves())
    kept = build()
    kept.load_weights(file)
    assert all(np.isfinite(w).all() for w in kept.get_weights())
    model.set_weights(kept.get_weights())
    model.save_weights(file)


def test_loss_scaling_that_overflows_is_no_alarm():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = build(auto_scale_loss=True)
    finally:
        keras.config.set_dtype_policy("float32")
    model.optimizer.initial_scale = 1e30  # the first steps overflow and are skipped
    guard = callbacks.NonFiniteGuard(every_steps=1)
    fit(model, guard, epochs=1)
    assert guard.finding is None
