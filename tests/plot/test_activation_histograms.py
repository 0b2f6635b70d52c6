import numpy as np
import pytest

from recipes.initialize import ActivationHistogram
from recipes.plot import activation_histograms


def histogram(layer, counts, low=-1.0, high=1.0, zeros=0.0):
    edges = np.linspace(low, high, len(counts) + 1)
    return ActivationHistogram(f"net/{layer}", 0.0, 0.25, zeros, np.array(counts), edges)


def test_a_row_shows_first_and_last_layer_with_bars_as_high_as_the_counts():
    deep = [histogram(f"dense{i}", [1, 2 + i, 3]) for i in range(11)]
    figure = activation_histograms({"He": deep, "flat": deep[:1]}, columns=4, title="depth")
    rows = np.array(figure.axes).reshape(2, 4)
    assert [axes.get_title() for axes in rows[0]] == ["layer 1", "layer 4", "layer 8", "layer 11"]
    assert [axes.get_ylabel() for axes in rows[:, 0]] == ["He", "flat"]
    assert [bar.get_height() for bar in rows[0, 3].patches] == [1, 12, 3]
    assert [bar.get_x() for bar in rows[0, 0].patches] == pytest.approx([-1, -1 / 3, 1 / 3])
    # A row of fewer layers leaves its other places empty.
    assert len(rows[1, 0].patches) == 3 and not any(axes.patches for axes in rows[1, 1:])


def test_a_row_shares_its_axis_unless_asked_not_to():
    layers = [histogram("one", [1, 2], -4, 4), histogram("two", [1, 2], -0.5, 1)]
    for same_axis, ends in ((True, (-4, 4)), (False, (-0.5, 1))):
        figure = activation_histograms({"small": layers}, same_axis=same_axis)
        assert figure.axes[1].get_xlim() == ends


def test_a_spike_of_zeros_does_not_flatten_the_rest():
    figure = activation_histograms({"ReLU": [histogram("relu", [1000, 20, 10], low=0.0, zeros=0.9)] * 2})
    axes = figure.axes[0]
    assert 20 < axes.get_ylim()[1] < 40
    assert axes.get_xlabel() == "std 0.25, 90% zero"


def test_nothing_to_draw_is_an_error():
    for comparison in ({}, {"He": []}):
        with pytest.raises(ValueError, match="expects the result of recipes.initialize.compare"):
            activation_histograms(comparison)
    with pytest.raises(ValueError, match="columns=1"):
        activation_histograms({"He": [histogram("relu", [1])]}, columns=1)
