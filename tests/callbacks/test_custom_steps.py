"""Monitors of models that train in a `train_step` of their own: no loss, other names of it, never `built`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import callbacks

layers = keras.layers
X = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
BROKEN = X.copy()
BROKEN[40] = np.nan  # in step 5 of 8


class Autoencoder(keras.Model):
    """Calls its parts in `train_step` alone, so that Keras never takes it for built; `tells` makes the logs."""

    def __init__(self, tells):
        super().__init__()
        self.encoder = keras.Sequential([keras.Input((8,)), layers.Dense(4, activation="tanh", name="code")])
        self.decoder = keras.Sequential([keras.Input((4,)), layers.Dense(8, name="image")])
        self.tells = tells
        self.compile(keras.optimizers.SGD(0.1))

    def train_step(self, data):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self.decoder(self.encoder(data)) - data) ** 2)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return self.tells(loss)


class Gan(keras.Model):
    """Two optimizers, two losses, neither of them compiled."""

    def __init__(self):
        super().__init__()
        self.generator = keras.Sequential([keras.Input((8,)), layers.Dense(8, activation="tanh")])
        self.critic = keras.Sequential([keras.Input((8,)), layers.Dense(1)])
        self.compile(loss=None)
        self.first, self.second = keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.02)

    def train_step(self, data):
        for optimizer, part, sign in ((self.first, self.critic, 1), (self.second, self.generator, -1)):
            with tf.GradientTape() as tape:
                loss = sign * tf.reduce_mean(self.critic(self.generator(data)) - self.critic(data))
            gradients = tape.gradient(loss, part.trainable_variables)
            optimizer.apply_gradients(zip(gradients, part.trainable_variables, strict=True))
        return {"d_loss": loss, "g_loss": -loss}


MODELS = {
    "loss": lambda: Autoencoder(lambda loss: {"loss": loss}),
    "loss of another name": lambda: Autoencoder(lambda loss: {"reconstruction_loss": loss}),
    "no loss": lambda: Autoencoder(lambda loss: {"acc": tf.constant(0.5)}),
    "gan": Gan,
}


def fit(model, data, *monitors):
    return model.fit(data, batch_size=8, epochs=3, shuffle=False, verbose=0, callbacks=list(monitors)).history


@pytest.mark.parametrize("options", [{"every_steps": 1}, {}], ids=["each step", "budget"])
@pytest.mark.parametrize("kind", MODELS)
def test_a_healthy_step_of_ones_own_is_never_stopped(kind, options):
    guard = callbacks.NonFiniteGuard(strict=True, **options)
    assert fit(MODELS[kind](), X, guard)["monitor/non_finite"] == [0, 0, 0]
    assert guard.finding is None


@pytest.mark.filterwarnings("ignore:.*expects finite numbers")
@pytest.mark.parametrize("kind", MODELS)
def test_broken_input_of_a_step_of_ones_own_is_named(kind):
    guard = callbacks.NonFiniteGuard(every_steps=1, strict=True)
    assert fit(MODELS[kind](), BROKEN, guard)["monitor/non_finite"] == [1]
    assert (guard.finding.what, guard.finding.step) == ("input", 5)


@pytest.mark.filterwarnings("ignore:.*expects finite numbers")
@pytest.mark.parametrize("kind", MODELS)
def test_an_epoch_that_ends_with_broken_weights_is_never_logged_as_fine(kind):
    guard = callbacks.NonFiniteGuard(strict=True)
    assert fit(MODELS[kind](), BROKEN, guard)["monitor/non_finite"] == [1]


def test_probes_of_a_model_that_is_never_built_are_those_of_numpy():
    model, monitor = MODELS["no loss"](), callbacks.GradientMonitor(every_steps=1, strict=True)
    kernels = [model.encoder.layers[0].kernel, model.decoder.layers[0].kernel]
    before = [kernel.numpy().astype("float64") for kernel in kernels]
    fit(model, X, monitor)
    record = monitor.record
    assert record.step.tolist() == list(range(24)) and not model.built
    code = np.tanh(X[:8] @ before[0])
    error = 2 * (code @ before[1] - X[:8]) / 64
    expected = [
        np.linalg.norm(X[:8].T @ ((error @ before[1].T) * (1 - code**2))),
        np.linalg.norm(code.T @ error),
    ]
    named = dict(zip(record.axes["variables"]["name"], record.gradient_norm[0], strict=True))
    found = [value for name, value in named.items() if "kernel" in name]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.isnan(record.loss).all() and record.loss_finite.all()


def test_a_step_of_two_optimizers_has_no_learning_rate_of_its_own():
    model, monitor = Gan(), callbacks.UpdateRatioMonitor(1e-30, 1e30, every_steps=1, strict=True)
    fit(model, X, monitor)
    assert np.isnan(monitor.record.learning_rate).all()
    assert (monitor.record.update_norm[:, :3] > 0).all() and not model.optimizer.built


def test_a_model_without_variables_in_sight_is_said_to_be_unseen():
    class Outside(keras.Model):
        def train_step(self, data):
            return {"mean": tf.reduce_mean(data)}

    model, guard = Outside(), callbacks.NonFiniteGuard(every_steps=1, strict=True)
    model.compile("sgd")
    with pytest.warns(UserWarning, match="no trainable variables were found"):
        history = fit(model, X, guard)
    assert np.isnan(history["monitor/non_finite"]).all()


def test_restoring_lowers_the_rates_of_all_optimizers_of_a_multi_optimizer():
    rates = keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.5), {"last/.*": keras.optimizers.SGD(0.25)})
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4), layers.Dense(2, name="last")])
    model.compile(keras.optimizers.MultiOptimizer(rates), "mse")
    guard = callbacks.NonFiniteGuard(every_steps=1, restore=True, factor=0.5, copy_every=1, strict=True)
    with pytest.warns(UserWarning, match="Went back to the last good weights"):
        model.fit(BROKEN, X[:, :2], batch_size=8, shuffle=False, verbose=0, callbacks=[guard])
    found = sorted(float(one.learning_rate) for one in model.optimizer.optimizers)
    assert found == [0.125, 0.25] and all(np.isfinite(weight).all() for weight in model.get_weights())
