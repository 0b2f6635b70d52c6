import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.optimize import minimize

from recipes.training.full_batch import fit_full_batch


def linear(dtype, units=1, loss="mse", **options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((5,), dtype=dtype), keras.layers.Dense(units, dtype=dtype, **options)]
    )
    model.compile("sgd", loss)
    return model


@pytest.fixture(scope="module")
def problem():
    random = np.random.default_rng(0)
    inputs = random.normal(size=(203, 5))
    targets = inputs @ random.normal(size=(5, 1)) + 0.7 + 0.3 * random.normal(size=(203, 1))
    return inputs, targets


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-6), ("float32", 1e-4)])
def test_least_squares_reaches_the_normal_equations(problem, dtype, tolerance):
    inputs, targets = problem
    exact = np.linalg.lstsq(np.c_[inputs, np.ones(len(inputs))], targets, rcond=None)[0]
    model = linear(dtype)
    history = fit_full_batch(model, (inputs.astype(dtype), targets.astype(dtype)), batch_size=64, verbose=0)
    kernel, bias = model.get_weights()
    np.testing.assert_allclose(np.r_[kernel, bias[None]], exact, atol=tolerance)
    best = np.mean((np.c_[inputs, np.ones(len(inputs))] @ exact - targets) ** 2)
    assert history.history["loss"][-1] == pytest.approx(best, rel=tolerance)
    assert history.result.success or dtype == "float32"


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-6), ("float32", 1e-4)])
def test_ridge_logistic_regression_reaches_the_optimum_newton_finds(problem, dtype, tolerance):
    inputs, targets = problem
    labels = (targets[:, 0] > np.random.default_rng(1).normal(size=len(targets))).astype("int64")
    strength = 0.01

    def value(w):
        scores = inputs @ w[:5] + w[5]
        return np.mean(np.logaddexp(0, scores) - labels * scores) + strength * (w[:5] ** 2).sum()

    def slope(w):
        error = (1 / (1 + np.exp(-(inputs @ w[:5] + w[5]))) - labels) / len(labels)
        return np.r_[inputs.T @ error + 2 * strength * w[:5], error.sum()]

    def curvature(w):
        p = 1 / (1 + np.exp(-(inputs @ w[:5] + w[5])))
        wide = np.c_[inputs, np.ones(len(inputs))]
        return (wide.T * (p * (1 - p) / len(labels))) @ wide + 2 * strength * np.diag([1] * 5 + [0])

    exact = minimize(
        value, np.zeros(6), jac=slope, hess=curvature, method="trust-exact", options={"gtol": 1e-12}
    )
    penalty = keras.regularizers.L2(strength)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model = linear(dtype, loss=loss, kernel_regularizer=penalty)
    data = tf.data.Dataset.from_tensor_slices((inputs.astype(dtype), labels[:, None]))
    history = fit_full_batch(model, data, batch_size=50, verbose=0)
    found = np.r_[model.get_weights()[0].ravel(), model.get_weights()[1]]
    np.testing.assert_allclose(found, exact.x, atol=tolerance)
    assert history.history["loss"][-1] == pytest.approx(exact.fun, rel=tolerance)


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight"])
def test_the_loss_and_its_gradient_are_those_of_one_big_batch(problem, reduction):
    """Against Keras on the whole data at once, with weights, regularization, and chunks that do not divide."""
    from recipes.training.full_batch import _Objective

    inputs, targets = (array.astype("float32") for array in problem)
    weights = np.random.default_rng(2).uniform(size=len(inputs)).astype("float32")
    loss = keras.losses.Huber(reduction=reduction)
    model = linear("float32", units=2, loss=loss, kernel_regularizer="l2", activity_regularizer=None)
    targets = np.repeat(targets, 2, axis=1)
    objective = _Objective(model, (inputs, targets, weights), None, 64)
    value, gradient = objective(objective.read())
    with tf.GradientTape() as tape:
        expected = loss(targets, model(inputs), sample_weight=weights) + tf.add_n(model.losses)
    slopes = tape.gradient(expected, [variable.value for variable in model.trainable_variables])
    assert value == pytest.approx(float(expected), rel=1e-5)
    np.testing.assert_allclose(
        gradient, np.concatenate([np.ravel(slope) for slope in slopes]), rtol=1e-4, atol=1e-5
    )


def test_noise_is_off_and_batch_norm_keeps_its_statistics(digits):
    images, labels = digits
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.9),
            keras.layers.Dense(10),
        ]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    before = [np.array(value) for value in model.non_trainable_variables[:2]]
    history = fit_full_batch(model, (images, labels), max_iterations=40, verbose=0)
    losses = history.history["loss"]
    assert all(later <= earlier for earlier, later in zip(losses, losses[1:], strict=False))
    assert model.evaluate(images, labels, verbose=0)[1] > 0.97
    for value, expected in zip(model.non_trainable_variables[:2], before, strict=True):
        np.testing.assert_array_equal(value, expected)
    assert not model.optimizer.built or int(model.optimizer.iterations) == 0


def test_history_validation_and_callbacks_are_as_in_fit(problem):
    inputs, targets = (array.astype("float32") for array in problem)
    model = linear("float32")
    stop = keras.callbacks.EarlyStopping("loss", min_delta=1e9, patience=3)
    history = fit_full_batch(
        model, (inputs, targets), validation_data=(inputs[:50], targets[:50]), callbacks=[stop], verbose=0
    )
    assert set(history.history) == {"loss", "gradient_norm", "val_loss"}
    assert len(history.history["loss"]) == len(history.epoch) == 4
    assert model.evaluate(inputs, targets, verbose=0) == pytest.approx(history.history["loss"][-1], rel=1e-5)


def test_an_interruption_keeps_the_last_finished_iteration(problem):
    inputs, targets = (array.astype("float32") for array in problem)
    model = linear("float32")
    seen = []

    class Kill(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(self.model.get_weights())
            if epoch == 2:
                # Where a line search on its way to the next iteration may have left them.
                self.model.set_weights([value + 1 for value in seen[-1]])
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_full_batch(model, (inputs, targets), callbacks=[Kill()], verbose=0)
    for value, expected in zip(model.get_weights(), seen[-1], strict=True):
        np.testing.assert_array_equal(value, expected)


def test_impossible_arguments_say_what_to_do(problem):
    inputs, targets = (array.astype("float32") for array in problem)
    model = linear("float32")
    for arguments, options, says in [
        (((inputs, targets),), {"method": "Newton-CG"}, "works with gradients"),
        (((inputs, targets),), {"max_iterations": 0}, "max_iterations >= 1"),
        ((inputs,), {}, "data with labels"),
        (((inputs[:0], targets[:0]),), {}, "at least one example"),
        (((inputs, targets[:5]),), {}, "arrays of the same length"),
        ((tf.data.Dataset.from_tensors((inputs, targets)).repeat(),), {}, "repeats for ever"),
        (((inputs, targets),), {"loss": keras.losses.MeanSquaredError(reduction=None)}, "a mean or a sum"),
    ]:
        with pytest.raises(ValueError, match=says):
            fit_full_batch(model, *arguments, **options)
    with pytest.raises(TypeError, match="from_generator"):
        fit_full_batch(model, (pair for pair in [(inputs, targets)]))
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="Compile the model with a loss"):
        fit_full_batch(model, (inputs, targets))
