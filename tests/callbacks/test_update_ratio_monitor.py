import sys

import keras
import numpy as np
import pytest

from recipes import callbacks

X = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")


def linear(rate, scale=1.0):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, use_bias=True, name="dense")])
    model.compile(keras.optimizers.SGD(rate), "mse")
    model.layers[0].set_weights([np.full((4, 1), scale), np.zeros(1)])
    return model


def fit(model, monitor, epochs=1):
    return model.fit(X, X[:, :1], batch_size=64, epochs=epochs, verbose=0, shuffle=False, callbacks=[monitor])


def test_the_ratio_of_linear_regression_is_the_one_worked_out_by_hand():
    model, monitor = linear(0.001), callbacks.UpdateRatioMonitor(every_steps=1)
    history = fit(model, monitor)
    weights = np.ones((4, 1))
    gradient = 2 * X.T @ (X @ weights - X[:, :1]) / len(X)
    expected = 0.001 * np.linalg.norm(gradient) / np.linalg.norm(weights)
    np.testing.assert_allclose(monitor.ratios["dense"], expected, rtol=1e-4)
    np.testing.assert_allclose(history.history["monitor/update_ratio"], [expected], rtol=1e-4)
    assert monitor.record.axes["variables"]["role"].tolist() == ["kernel", "bias"]
    assert np.isnan(monitor.record.update_ratio[0, 1])  # the bias starts at zero


@pytest.mark.parametrize(
    ("rate", "advice"), [(0.1, "Lower the learning rate"), (1e-7, "Raise the learning rate")]
)
def test_a_layer_outside_the_range_is_named_once_with_what_to_do(rate, advice):
    monitor = callbacks.UpdateRatioMonitor(every_steps=1)
    with pytest.warns(UserWarning, match=f"dense/kernel.*{advice}") as said:
        history = linear(rate).fit(X, X[:, :1], batch_size=16, epochs=4, verbose=0, callbacks=[monitor])
    assert len(said) == 1 and history.history["monitor/update_ratio_off"][0] == 1


def test_a_schedule_that_ends_near_zero_is_no_fault():
    monitor = callbacks.UpdateRatioMonitor(every_steps=1, low=1e-3)
    rates = [2e-3, 2e-3, 1e-6]
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch: rates[epoch])
    options = {"batch_size": 16, "epochs": 3, "verbose": 0}
    history = linear(2e-3).fit(X, X[:, :1], callbacks=[schedule, monitor], **options)
    assert (
        history.history["monitor/update_ratio_off"][-1] == 1
    )  # measured, and no warning, which would be an error


def test_a_healthy_rate_says_nothing_and_plots_every_kernel():
    monitor = callbacks.UpdateRatioMonitor(every_steps=1)
    history = linear(0.002).fit(X, X[:, :1], batch_size=16, epochs=2, verbose=0, callbacks=[monitor])
    assert history.history["monitor/update_ratio_off"] == [0, 0]
    (line,) = [line for line in monitor.plot().axes[0].lines if line.get_label() == "dense"]
    np.testing.assert_allclose(line.get_ydata(), monitor.record.update_ratio[:, 0])


def test_a_network_that_never_updates_has_no_healthy_range():
    monitor = callbacks.UpdateRatioMonitor(every_steps=1, warn=False)
    fit(linear(0.0), monitor)
    axes = monitor.plot().axes[0]
    assert not axes.patches and "healthy" not in axes.get_title()
    assert [text.get_text() for text in axes.texts] == ["no update of any size"]


def test_swapped_bounds_are_refused_and_a_plot_needs_a_run():
    with pytest.raises(ValueError, match="0 < low < high"):
        callbacks.UpdateRatioMonitor(low=1e-2, high=1e-4)
    model, monitor = linear(0.001), callbacks.NonFiniteGuard(every_steps=2)
    fit(model, monitor)
    from recipes import plot

    with pytest.raises(ValueError, match="update_norm measured.*UpdateRatioMonitor"):
        plot.update_ratios(monitor.record)


def test_tensorboard_gets_scalars_and_histograms_that_count_every_weight(tmp_path):
    import tensorflow as tf

    monitor = callbacks.UpdateRatioMonitor(every_steps=1, log_dir=tmp_path, strict=True)
    model = linear(0.001)
    fit(model, monitor)
    (file,) = (tmp_path / "UpdateRatioMonitor").iterdir()
    tags = {}
    for event in tf.compat.v1.train.summary_iterator(str(file)):
        for value in event.summary.value:
            tags[value.tag] = tf.make_ndarray(value.tensor)
    np.testing.assert_allclose(tags["update_ratio/dense/kernel"], monitor.ratios["dense"], rtol=1e-6)
    buckets = tags["weight/dense/kernel"]
    assert buckets.shape == (30, 3) and buckets[:, 2].sum() == 4 and buckets[0, 0] == 1.0
    moved = np.ravel(np.ones((4, 1)) - model.layers[0].get_weights()[0])
    np.testing.assert_allclose(
        tags["update/dense/kernel"][[0, -1], [0, 1]], [-moved.max(), -moved.min()], rtol=1e-3
    )


def test_a_log_folder_without_tensorboard_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match=r"keras-recipes\[tensorboard\]"):
        callbacks.UpdateRatioMonitor(log_dir=tmp_path)
