"""Maps made ready to be seen."""

import io

import numpy as np
import pytest

from recipes import explain, plot


def test_each_map_is_scaled_by_itself_between_its_minimum_and_its_percentile():
    one = np.arange(100, dtype="float32").reshape(10, 10)
    scaled = explain.normalize_map(np.stack([one, 1000 * one + 7]), percentile=90)
    np.testing.assert_allclose(scaled[0], np.minimum(one / np.percentile(one, 90), 1), rtol=1e-6)
    np.testing.assert_allclose(scaled[0], scaled[1], atol=1e-6)
    np.testing.assert_array_equal(explain.normalize_map(one, percentile=90), scaled[0])


def test_signed_maps_keep_their_zero():
    one = np.linspace(-4, 1, 100).reshape(10, 10)
    scaled = explain.normalize_map(one, percentile=100, signed=True)
    np.testing.assert_allclose(scaled, one / 4, rtol=1e-5)
    assert scaled.min() == -1


def test_flat_and_sparse_maps_have_a_scale():
    np.testing.assert_array_equal(explain.normalize_map(np.full((5, 5), 3.0)), np.zeros((5, 5)))
    sparse = np.zeros((20, 20))
    sparse[3, 4] = 5
    np.testing.assert_array_equal(explain.normalize_map(sparse), sparse / 5)


@pytest.mark.parametrize(
    ("maps", "percentile", "message"),
    [
        (np.zeros((2, 2)), 0, "percentile"),
        (np.zeros(4), 99, "height, width"),
        (np.full((2, 2), np.nan), 99, "finite"),
    ],
)
def test_what_cannot_be_scaled_is_refused(maps, percentile, message):
    with pytest.raises(ValueError, match=message):
        explain.normalize_map(maps, percentile)


def test_attributions_draws_a_row_for_each_image_and_a_column_for_each_method():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 12, 16, 3)).astype("uint8")
    where = np.zeros((2, 12, 16))
    where[0, 3:6, 4:8] = 1
    figure = plot.attributions(
        images,
        {"where": where, "signed": rng.normal(size=(2, 12, 16))},
        titles=["a", "b"],
        captions={"where": ["x", "y"]},
    )
    figure.savefig(io.BytesIO())
    *panels, over, alone = figure.axes  # a color bar for each kind of map
    assert len(panels) == 6
    shown = [axes.get_images()[0].get_array() for axes in panels]
    np.testing.assert_allclose(shown[0], images[0] / 255, atol=1e-6)
    brightness = shown[1].astype(float).sum(-1)
    assert brightness[3:6, 4:8].min() > np.delete(brightness, range(3, 6), 0).max()
    np.testing.assert_allclose(shown[4], images[1], atol=1)  # a map of nothing colors nothing
    single = plot.attributions(images[0], {"where": where[0]})
    assert len(single.axes) == 3


@pytest.mark.parametrize(
    ("maps", "options", "message"),
    [
        ({}, {}, "expects images"),
        ({"a": np.zeros((2, 4, 4))}, {}, "resize their maps"),
        ({"a": np.zeros((2, 6, 6))}, {"titles": ["x"]}, "one text for each image"),
        ({"a": np.zeros((2, 6, 6))}, {"captions": {"b": ["x", "y"]}}, "under the names"),
        ({"a": np.zeros((2, 6, 6))}, {"percentile": 101}, "percentile"),
    ],
)
def test_figures_that_do_not_fit_are_refused(maps, options, message):
    with pytest.raises(ValueError, match=message):
        plot.attributions(np.zeros((2, 6, 6, 3), "uint8"), maps, **options)
