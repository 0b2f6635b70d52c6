import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes.callbacks import EarlyStopping
from recipes.training.refit import refit_on_all_data


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    inputs = random.normal(size=(60, 10)).astype("float32")
    targets = 3 * inputs[:, :1] + random.normal(size=(60, 1)).astype("float32")
    return (inputs[:20], targets[:20]), (inputs[20:], targets[20:])


def build(loss="mse"):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(32, "relu"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.005, momentum=0.9), loss)
    return model


@pytest.fixture(scope="module")
def stopped(data):
    """A stopper after its run, and the model it stopped; tests put both back."""
    model, stopper = build(), EarlyStopping(patience=3)
    train, validation = data
    stopper.begun_with = model.get_weights()
    model.fit(*train, validation_data=validation, epochs=100, batch_size=7, verbose=0, callbacks=[stopper])
    stopper.ended_with = model.get_weights()
    assert 2 < stopper.best_epoch < 90
    return stopper


class Watch(keras.callbacks.Callback):
    """What training begins with, and how many batches it sees."""

    def on_train_begin(self, logs=None):
        self.weights = self.model.get_weights()
        self.optimizer = [np.array(value) for value in self.model.optimizer.variables]
        self.batches = self.epochs = 0
        self.orders = []

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1

    def on_epoch_end(self, epoch, logs=None):
        self.epochs += 1
        self.orders.append(round(logs["loss"], 9))


def assert_same(weights, expected):
    for value, wanted in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(value, wanted)


def test_restart_begins_as_the_first_run_did_and_trains_as_many_epochs_on_both_sets(stopped, data):
    watch = Watch()
    stopped.model.optimizer.learning_rate = 1e-5  # as a plateau callback might leave it
    refit = refit_on_all_data(stopped, *data, strategy="restart", batch_size=7, callbacks=[watch], verbose=0)
    assert_same(watch.weights, stopped.begun_with)
    fresh = build()
    fresh.optimizer.build(fresh.trainable_variables)
    assert_same(watch.optimizer, [np.array(value) for value in fresh.optimizer.variables])
    assert refit.epochs == watch.epochs == stopped.best_epoch + 1
    assert watch.batches == watch.epochs * 9  # 60 examples in batches of 7
    assert len(set(watch.orders)) == watch.epochs
    assert refit.model is stopped.model and refit.reached and len(refit.history["loss"]) == refit.epochs
    assert np.abs(refit.model.get_weights()[0] - stopped.ended_with[0]).max() > 1e-3


def test_restart_by_steps_makes_as_many_updates(stopped, data):
    watch = Watch()
    refit_on_all_data(
        stopped, *data, strategy="restart", match="steps", batch_size=7, callbacks=[watch], verbose=0
    )
    assert watch.batches == stopped.best_steps and watch.batches % 9


def test_every_example_of_both_sets_is_seen_once_an_epoch(stopped, data):
    seen = []

    def look(value):
        seen.append(float(value[0]))

    def note(inputs, targets):
        tf.numpy_function(look, [inputs], [])
        return inputs, targets

    train, validation = (tf.data.Dataset.from_tensor_slices(part) for part in data)
    refit = refit_on_all_data(stopped, train.map(note).batch(5), validation.batch(40), verbose=0)
    passes = np.array(seen).reshape(-1, 20)
    assert len(passes) >= refit.epochs
    np.testing.assert_array_equal(np.sort(passes), np.tile(np.sort(data[0][0][:, 0]), (len(passes), 1)))
    assert refit.model.stop_training is False


def test_continue_goes_on_until_the_validation_loss_is_the_training_loss(stopped, data):
    train, validation = data
    watch = Watch()
    refit = refit_on_all_data(
        stopped,
        train,
        validation,
        strategy="continue",
        max_epochs=400,
        batch_size=7,
        callbacks=[watch],
        verbose=0,
    )
    assert_same(watch.weights, stopped.best_weights)
    judge = build()
    judge.set_weights(stopped.best_weights)
    assert refit.target == pytest.approx(judge.evaluate(*train, verbose=0), rel=1e-5)
    losses = refit.history["validation_loss"]
    assert refit.reached and losses[-1] <= refit.target < min(losses[:-1])
    assert refit.model.evaluate(*validation, verbose=0) == pytest.approx(losses[-1], rel=1e-5)


def test_continue_gives_up_at_its_limit_and_says_so(stopped, data):
    with pytest.warns(UserWarning, match="Raise max_epochs"):
        refit = refit_on_all_data(stopped, *data, strategy="continue", max_epochs=2, verbose=0)
    assert not refit.reached and refit.epochs == 2


def test_a_run_without_initial_weights_is_rebuilt_from_its_configuration_or_refused(data):
    train, validation = data
    stopper, model, watch = EarlyStopping(patience=1, keep_initial_weights=False), build(), Watch()
    model.fit(*train, validation_data=validation, epochs=3, batch_size=20, verbose=0, callbacks=[stopper])
    refit_on_all_data(stopper, train, validation, callbacks=[watch], verbose=0)
    glorot = np.sqrt(6 / (10 + 32))
    assert np.abs(watch.weights[0]).max() < glorot and not np.array_equal(
        watch.weights[0], build().get_weights()[0]
    )

    class Plain(keras.Model):
        def __init__(self, units):
            super().__init__()
            self.dense = keras.layers.Dense(units)

        def call(self, inputs):
            return self.dense(inputs)

    model = Plain(1)
    model.compile("sgd", "mse")
    stopper = EarlyStopping(patience=1)
    model.fit(*train, validation_data=validation, epochs=2, verbose=0, callbacks=[stopper])
    with pytest.raises(ValueError, match="strategy='continue'"):
        refit_on_all_data(stopper, train, validation, verbose=0)


def test_an_optimizer_that_cannot_be_made_again_is_refused_before_a_weight_changes(data):
    class Forgetful(keras.optimizers.SGD):
        def __init__(self, size, **options):
            super().__init__(**options)

    train, validation = data
    model, stopper = build(), EarlyStopping(patience=1)
    model.compile(Forgetful(3, learning_rate=0.01), "mse")
    model.fit(*train, validation_data=validation, epochs=1, batch_size=20, verbose=0, callbacks=[stopper])
    before = model.get_weights()
    with pytest.raises(ValueError, match="optimizer that its get_config.*Received Forgetful"):
        refit_on_all_data(stopper, train, validation, verbose=0)
    assert_same(model.get_weights(), before)


def test_class_numbers_become_rows_where_the_loss_wants_rows():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    model.compile("sgd", keras.losses.CategoricalCrossentropy(label_smoothing=0.1))
    inputs, labels = np.eye(4, dtype="float32"), np.arange(4) % 3
    stopper, rows = EarlyStopping(), np.eye(3, dtype="float32")[labels]
    model.fit(inputs, rows, validation_data=(inputs, rows), epochs=1, verbose=0, callbacks=[stopper])
    refit = refit_on_all_data(stopper, (inputs, labels), (inputs, labels), verbose=0)
    assert np.isfinite(refit.history["loss"][0])


def test_what_cannot_be_refitted_says_what_to_do(stopped, data):
    train, validation = data
    with pytest.raises(TypeError, match="use ours"):
        refit_on_all_data(keras.callbacks.EarlyStopping(), train, validation)
    with pytest.raises(ValueError, match="finished training"):
        refit_on_all_data(EarlyStopping(), train, validation)
    with pytest.raises(ValueError, match="'restart' or 'continue'"):
        refit_on_all_data(stopped, train, validation, strategy="again")
    with pytest.raises(ValueError, match="max_epochs >= 1"):
        refit_on_all_data(stopped, train, validation, strategy="continue", max_epochs=0)
    with pytest.raises(ValueError, match="one kind"):
        refit_on_all_data(stopped, train, (validation[0], validation[1].astype("float64")))
    with pytest.raises(ValueError, match="at least one example in validation"):
        refit_on_all_data(stopped, train, (validation[0][:0], validation[1][:0]))
    with pytest.raises(ValueError, match="labels"):
        refit_on_all_data(stopped, train[0], validation[0])
    stopper, model = EarlyStopping(restore_best_weights=False), build()
    model.fit(*train, validation_data=validation, epochs=1, batch_size=20, verbose=0, callbacks=[stopper])
    with pytest.raises(ValueError, match="restore_best_weights=True"):
        refit_on_all_data(stopper, train, validation, strategy="continue")
