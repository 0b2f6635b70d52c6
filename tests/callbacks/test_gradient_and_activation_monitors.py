import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import callbacks

layers = keras.layers
rng = np.random.default_rng(0)
X = rng.normal(size=(64, 16)).astype("float32")
Y = rng.integers(0, 3, 64)


def stack(activation, initializer, depth=5, rate=1e-3):
    hidden = [
        layers.Dense(16, activation, kernel_initializer=initializer, name=f"dense{i}") for i in range(depth)
    ]
    model = keras.Sequential([keras.Input((16,)), *hidden, layers.Dense(3, "softmax", name="classes")])
    model.compile(keras.optimizers.SGD(rate), "sparse_categorical_crossentropy")
    return model


def fit(model, *monitors, epochs=1):
    return model.fit(
        X, Y, batch_size=16, epochs=epochs, verbose=0, shuffle=False, callbacks=list(monitors)
    ).history


def outputs(model):
    x, found = X[:16], {}
    for layer in model.layers:
        x = layer(x)
        found[layer.name] = keras.ops.convert_to_numpy(x).astype("float64")
    return found


def test_activation_statistics_are_numpys_over_the_layers_outputs():
    model = stack("tanh", keras.initializers.RandomNormal(stddev=0.7))
    expected = outputs(model)
    monitor = callbacks.ActivationMonitor(every_steps=100)
    fit(model, monitor)
    record = monitor.record
    assert record.axes["activations"]["name"].tolist() == [*expected]
    for i, (name, y) in enumerate(expected.items()):
        np.testing.assert_allclose(record.mean[0, i], y.mean(), atol=1e-6)
        np.testing.assert_allclose(record.std[0, i], y.std(), rtol=1e-4)
        np.testing.assert_allclose(record.sample_std[0, i], np.sqrt(y.var(axis=0).mean()), rtol=1e-4)
        np.testing.assert_allclose(record.activity(name)[1][0], (y > 0).mean(axis=0), atol=1e-6)
        if name != "classes":
            assert 0 < (np.abs(y) > 0.95).mean() < 1
            np.testing.assert_allclose(record.saturated_fraction[0, i], (np.abs(y) > 0.95).mean(), atol=1e-6)


def test_relu_zeros_sigmoid_saturation_and_a_few_samples():
    model = stack("sigmoid", keras.initializers.RandomNormal(stddev=2.0), depth=2)
    model.get_layer("dense1").activation = keras.activations.relu6
    y0, y1 = list(outputs(model).values())[:2]
    monitor = callbacks.ActivationMonitor(every_steps=100, samples=5, saturated=1.0)
    fit(model, monitor)
    record = monitor.record
    np.testing.assert_allclose(
        record.saturated_fraction[0, 0], (np.abs(2 * y0[:5] - 1) > 0.95).mean(), atol=1e-6
    )
    np.testing.assert_allclose(record.zero_fraction[0, 1], (y1[:5] == 0).mean(), atol=1e-6)
    np.testing.assert_allclose(record.saturated_fraction[0, 1], (y1[:5] >= 6).mean(), atol=1e-6)


def test_a_healthy_stack_is_left_in_peace():
    monitors = [callbacks.GradientMonitor(every_steps=1), callbacks.ActivationMonitor(every_steps=1)]
    history = fit(stack("relu", "he_normal"), *monitors, epochs=2)
    assert 1e-3 < history["monitor/gradient_first_to_last"][0] < 1e3
    assert 1e-3 < history["monitor/activation_last_to_first"][0] < 1e3
    assert [axes.get_title() for axes in monitors[1].plot().axes][:2] == ["mean", "standard deviation"]
    assert len(monitors[0].plot().axes[0].lines) == 8  # one a probe


def steep(x):
    """The identity with a hundred times its gradient."""
    return 100 * x - keras.ops.stop_gradient(99 * x)


def test_vanishing_and_exploding_gradients_are_named_with_their_factor_a_layer():
    monitor = callbacks.GradientMonitor(every_steps=1)
    with pytest.warns(
        UserWarning, match="at least 0.001 of the last's.*dense0.*classes.*batch normalization"
    ) as said:
        fit(stack("sigmoid", "glorot_uniform", depth=8), monitor, epochs=2)
    assert len(said) == 1 and monitor.trend < 0.5
    rms = list(monitor.rms.values())
    np.testing.assert_allclose(monitor.first_to_last, rms[0] / rms[-1])
    with pytest.warns(UserWarning, match="at most 1000 of the last's"):
        fit(stack(steep, "glorot_normal", rate=1e-30), callbacks.GradientMonitor(every_steps=1))


def test_a_spike_of_the_gradient_is_found_at_its_step():
    model = stack("relu", "he_normal")
    weights = np.ones(64, "float32")
    weights[32:48] = 1e4
    monitor = callbacks.GradientMonitor(every_steps=1)

    class Spike(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                self.model.get_layer("classes").kernel.assign(self.model.get_layer("classes").kernel * 1000)

    with pytest.warns(UserWarning, match="10 times its median.*at step 8.*clipnorm"):
        fit(model, Spike(), monitor, epochs=3)
    assert monitor.spikes[0] == 8
    state = json.loads(json.dumps(monitor.get_state()["monitor"]))
    other = callbacks.GradientMonitor()
    other.reset()
    other.set_monitor_state(state)
    assert other.spikes == monitor.spikes


def test_vanished_gradients_are_measured_far_below_the_square_root_of_the_smallest_float():
    model = stack("linear", keras.initializers.RandomNormal(stddev=1e-8), depth=4, rate=1e-3)
    monitor = callbacks.GradientMonitor(every_steps=1, vanishing=1e-30)
    fit(model, monitor)
    norms = monitor.record.gradient_norm[0]
    sizes = dict(zip(monitor.record.axes["variables"]["name"].tolist(), norms, strict=True))
    assert 0 < sizes["dense3/kernel"] < 1e-19  # its square is no float32


def test_saturated_and_collapsed_layers_are_named():
    with pytest.warns(UserWarning, match="outputs of a tanh to be saturated.*in dense0"):
        fit(
            stack("tanh", keras.initializers.RandomNormal(stddev=9.0), depth=1),
            callbacks.ActivationMonitor(every_steps=1),
        )
    monitor = callbacks.ActivationMonitor(every_steps=1)
    with pytest.warns(UserWarning, match="zero for every sample in dense.*he_normal") as said:
        fit(stack("relu", "zeros"), monitor)
    assert len(said) == 5  # each hidden layer once; the softmax is not judged


def test_tensorboard_gets_the_histograms_of_gradients_and_activations(tmp_path):
    model = stack("relu", "he_normal", depth=1, rate=0.5)
    start = model.layers[0].kernel.numpy()
    options = {"every_steps": 9, "log_dir": tmp_path}
    monitors = [callbacks.GradientMonitor(**options), callbacks.ActivationMonitor(**options)]
    model.fit(X[:16], Y[:16], batch_size=16, verbose=0, callbacks=monitors)
    tags = {}
    for file in tmp_path.rglob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            tags |= {value.tag: tf.make_ndarray(value.tensor) for value in event.summary.value}
    gradient = (start - model.layers[0].kernel.numpy()) / 0.5
    counts, _ = np.histogram(gradient, bins=30)
    np.testing.assert_allclose(tags["gradient/dense0/kernel"][:, 2], counts, atol=2)  # rounding at the edges
    np.testing.assert_allclose(tags["gradient_norm/dense0/kernel"], np.linalg.norm(gradient), rtol=1e-4)
    assert tags["activation/dense0"][:, 2].sum() == 16 * 16 and 0 < tags["zero_fraction/dense0"] < 1


def test_thresholds_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="vanishing=2"):
        callbacks.GradientMonitor(vanishing=2)
    with pytest.raises(ValueError, match="collapsed=0"):
        callbacks.ActivationMonitor(collapsed=0)


def test_default_monitors_make_one_of_each_and_leave_out_what_is_there():
    own = callbacks.UpdateRatioMonitor(every_steps=7)
    monitors = callbacks.default_monitors(beside=[own, keras.callbacks.History()], every_steps=3)
    assert [type(m).__name__ for m in monitors] == [
        "DeadReluDetector", "GradientMonitor", "ActivationMonitor", "NonFiniteGuard",
    ]  # fmt: skip
    history = fit(stack("tanh", "glorot_normal", depth=2), own, *monitors, epochs=4)
    assert own.record is monitors[0].record and own.record.step.tolist() == [0, 3, 6, 7, 9, 12, 14, 15]
    assert all(len(values) == 4 for values in history.values())
    assert any("no ReLU" in note or "none was found" in note for note in own.record.notes)
