import subprocess
import sys
import types

import keras
import numpy as np
import pytest
from matplotlib.figure import Figure

from recipes import plot
from recipes.diagnose import Finding
from recipes.plot.curves import moving_average
from recipes.plot.inline import to_svg

HISTORY = {
    "accuracy": [0.2, 0.4, 0.5, 0.6, 0.7, 0.8],
    "loss": [5.0, 4.0, 3.5, 3.0, 2.5, 2.0],
    "val_loss": [5.5, 4.5, 4.0, 3.0, 3.5, 3.0],
    "learning_rate": [0.1, 0.1, 0.01, 0.01, 0.001, 0.001],
}


def points(axes):
    """`{label: (x, y)}` of the points, in the order in which lines are labeled."""
    labels = [line.get_label() for line in axes.lines]
    clouds = [cloud.get_offsets().T for cloud in axes.collections if cloud.get_label() != "not finite"]
    return dict(zip(labels, clouds, strict=True))


def test_moving_average_is_the_mean_of_the_finite_values_as_far_as_both_sides_reach():
    values = np.array([4.0, 8, np.nan, 2, 6, np.inf, 1])
    expected = [4, (4 + 8) / 2, (8 + 2) / 2, (2 + 6) / 2, (2 + 6) / 2, (6 + 1) / 2, 1]
    np.testing.assert_allclose(moving_average(values, 3), expected)
    expected = [4, (4 + 8) / 2, (4 + 8 + 2 + 6) / 4, (8 + 2 + 6) / 3, (2 + 6 + 1) / 3, (6 + 1) / 2, 1]
    np.testing.assert_allclose(moving_average(values, 5), expected)
    np.testing.assert_array_equal(moving_average(values, 1), np.where(np.isfinite(values), values, np.nan))


def test_points_are_the_values_and_the_line_their_average():
    loss, accuracy, rate = plot.curves(HISTORY, window=3).axes
    assert [axes.get_title() for axes in (loss, accuracy)] == ["loss", "accuracy"]
    np.testing.assert_allclose(points(loss)["training"], [range(1, 7), HISTORY["loss"]])
    np.testing.assert_allclose(points(loss)["validation"], [range(1, 7), HISTORY["val_loss"]])
    assert list(points(accuracy)) == ["training"]
    np.testing.assert_allclose(loss.lines[0].get_ydata(), [5, 12.5 / 3, 3.5, 3.0, 2.5, 2])
    np.testing.assert_allclose(plot.curves(HISTORY).axes[0].lines[0].get_ydata(), HISTORY["loss"])
    np.testing.assert_allclose(rate.lines[0].get_ydata(), HISTORY["learning_rate"])


def test_learning_rate_stands_below_the_metrics():
    loss, _, rate = plot.curves(HISTORY).axes
    assert rate.get_ylabel() == "learning rate"
    assert rate.get_position().y1 <= loss.get_position().y0
    assert len(plot.curves({"loss": [1, 2]}).axes) == 1


@pytest.mark.parametrize(
    "rates, scale",
    [
        (0.1 * 0.1 ** (np.arange(30) // 10), "log"),
        (0.05 * (1 + np.cos(np.pi * np.arange(30) / 30)), "linear"),
        (np.zeros(30), "linear"),
    ],
    ids=["steps", "cosine", "zero"],
)
def test_steps_of_the_rate_get_a_logarithmic_axis_and_a_cosine_does_not(rates, scale):
    assert plot.curves({"loss": np.ones(30), "lr": rates}).axes[1].get_yscale() == scale


def test_validation_every_second_epoch_stands_at_those_epochs():
    axes = plot.curves({"loss": [6, 5, 4, 3, 2], "val_loss": [5, 4]}).axes[0]
    np.testing.assert_allclose(points(axes)["validation"][0], [2, 4])


def test_a_value_that_is_not_finite_is_marked_and_left_out_of_the_line():
    axes = plot.curves({"loss": [3, np.nan, 2, 2, np.inf, 1, 1]}, window=3).axes[0]
    marks = [cloud for cloud in axes.collections if cloud.get_label() == "not finite"]
    assert marks[0].get_offsets()[:, 0].tolist() == [2, 5]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [3, 2.5, 2, 2, 1.5, 1, 1])


def test_history_of_fit_and_a_run_are_drawn_alike_from_their_first_epoch():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    history = model.fit(np.ones((4, 2)), np.ones(4), initial_epoch=3, epochs=5, verbose=0)
    axes = plot.curves(history).axes[0]
    np.testing.assert_allclose(points(axes)["training"], [[4, 5], history.history["loss"]])
    run = types.SimpleNamespace(history=history.history)
    np.testing.assert_allclose(
        points(plot.curves(run).axes[0])["training"], [[1, 2], history.history["loss"]]
    )


def test_metrics_and_a_logarithmic_loss_can_be_chosen():
    figure = plot.curves({**HISTORY, "val_f1": [0.1] * 6}, metrics=["f1", "loss"], log_loss=True)
    assert [axes.get_title() for axes in figure.axes[:2]] == ["f1", "loss"]
    assert [axes.get_yscale() for axes in figure.axes[:2]] == ["linear", "log"]


@pytest.mark.parametrize(
    "history, options, error, message",
    [
        ([1, 2], {}, TypeError, "model.fit"),
        ({}, {}, ValueError, "after model.fit has run"),
        ({"loss": []}, {}, ValueError, "after model.fit has run"),
        (HISTORY, {"metrics": "auc"}, ValueError, "accuracy, loss.*auc"),
        (HISTORY, {"metrics": []}, ValueError, "Received none"),
        (HISTORY, {"window": 0}, ValueError, "window=1"),
        (HISTORY, {"window": 4}, ValueError, "odd"),
    ],
)
def test_what_cannot_be_drawn_is_refused(history, options, error, message):
    with pytest.raises(error, match=message):
        plot.curves(history, **options)


def test_figures_are_plain_show_in_a_notebook_and_touch_no_global_state():
    figure = plot.curves(HISTORY)
    assert isinstance(figure, Figure) and figure._repr_png_().startswith(b"\x89PNG")
    code = "import sys, recipes.plot; sys.exit('matplotlib.pyplot' in sys.modules or 'tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("epochs", [1, 2, 7, 300])
def test_epochs_are_counted_in_whole_numbers(epochs):
    figure = plot.curves({"loss": np.arange(epochs)})
    figure.draw_without_rendering()
    low, high = figure.axes[0].get_xlim()
    ticks = [tick for tick in figure.axes[0].get_xticks() if low <= tick <= high]
    assert len(ticks) >= 1 and all(tick == round(tick) for tick in ticks)


def test_a_long_run_keeps_its_spikes_within_400_kb_of_svg():
    values = np.exp(-np.arange(3000) / 500) + 0.1 * np.random.default_rng(0).random(3000)
    values[1234] = 9.0
    figure = plot.curves(
        dict.fromkeys(("loss", "val_loss", "accuracy", "val_accuracy", "learning_rate"), values)
    )
    shown = figure.axes[0].collections[0].get_offsets()
    assert len(shown) <= 402 and [1235.0, 9.0] in shown.tolist()
    assert len(to_svg(figure, "curves").encode()) < 200e3


def test_a_finding_stands_over_the_curves_at_its_epoch():
    found = Finding("diverged", "error", None, 3, "The loss rose from 2 to 9.", "Lower the rate.")
    figure = plot.curves({"loss": [2.0, 3.0, 9.0]}, findings=[found])
    words = figure.get_suptitle()
    assert words.startswith("error: diverged. The loss rose") and "What to do: Lower the rate." in words
    assert [line.get_xdata() for line in figure.axes[0].lines if line.get_linestyle() == ":"] == [[3, 3]]
