"""Pictures of what explain's inspection and attacks return."""

import numpy as np
import pytest

from recipes import plot
from recipes.explain.adversarial.fool import Fooled
from recipes.explain.inspection.loss_landscape import Landscape
from recipes.explain.inspection.maximal_patches import Patches
from recipes.explain.inspection.noise_response import NoiseResponse


def images_of(axes):
    return [np.asarray(image.get_array()) for image in axes.get_images()]


def test_landscape_draws_lines_together_and_maps_on_one_scale():
    offsets = np.linspace(-1, 1, 5).astype("float32")
    line = Landscape(offsets, 1 + offsets**2, None)
    figure = plot.landscape({"a": line, "b": line})
    drawn = figure.axes[0].get_lines()
    assert len(drawn) == 2
    np.testing.assert_allclose(drawn[1].get_ydata(), 1 + offsets**2)
    plane = Landscape(offsets, 1 + offsets[:, None] ** 2 + offsets**2, None)
    assert len(plot.landscape({"a": plane, "b": plane}).axes) == 3  # two maps and one scale
    with pytest.raises(ValueError, match="of one kind"):
        plot.landscape({"a": line, "b": plane})


def test_thumbnails_show_one_image_a_cell_the_one_nearest_its_middle():
    points = np.array([[0.0, 0.0], [0.24, 0.26], [1.0, 1.0], [0.3, 0.9]])
    images = np.arange(4, dtype="uint8")[:, None, None, None] * np.ones((1, 6, 6, 1), "uint8")
    figure = plot.thumbnails(points, images, cells=2, labels=[0, 0, 1, 1])
    shown = [round(255 * float(box.offsetbox.get_data()[0, 0, 0])) for box in figure.axes[0].artists]
    assert sorted(shown) == [1, 2, 3]  # the first lies in a corner of the second's cell
    assert len(plot.thumbnails(points, images).axes[0].artists) == 4
    with pytest.raises(ValueError, match="Embed in the plane"):
        plot.thumbnails(points[:, :1], images)


def test_patches_stand_right_of_the_made_image():
    patches = np.random.default_rng(0).uniform(0, 255, (2, 3, 4, 4, 3))
    found = Patches(patches, np.arange(6.0).reshape(2, 3), np.zeros((2, 3), int), np.zeros((2, 3, 4), int))
    made = np.full((2, 8, 8, 3), 51.0)
    axes = plot.patches(found, unit_images=made, titles=["a", "b"]).axes
    assert len(axes) == 8 and axes[4].get_ylabel() == "b"
    np.testing.assert_allclose(images_of(axes[4])[0], 0.2, atol=1e-6)
    np.testing.assert_allclose(images_of(axes[7])[0], patches[1, 2] / 255, atol=1e-6)
    assert axes[7].get_title() == "5"
    with pytest.raises(ValueError, match="titles for all 2 channels"):
        plot.patches(found, titles=["a"])


def test_fooled_shows_before_after_and_difference():
    original = np.full((1, 4, 4, 1), 100.0)
    changed, magnified = original + 2, np.full((1, 4, 4, 1), 147.5)
    number = np.array([1])
    found = Fooled(changed, changed - original, magnified, number, number == 1, number, np.array([8.0]))
    axes = plot.fooled(original, found, class_names=["cat", "dog"], before=[0]).axes
    assert [one.get_title() for one in axes[:2]] == ["cat", "dog"] and "length 8" in axes[2].get_title()
    np.testing.assert_allclose(
        [images_of(one)[0].mean() for one in axes], [100 / 255, 102 / 255, 147.5 / 255], rtol=1e-4
    )


def test_channels_share_a_scale_and_say_how_many_there_are():
    maps = np.zeros((5, 5, 70))
    maps[..., 3] = 2.0
    figure = plot.channels(maps)
    assert "64 of 70" in figure.get_suptitle()
    assert all(axes.get_images()[0].get_clim() == (0, 2) for axes in figure.axes[:64])
    assert len(plot.channels(np.zeros((9, 3, 3, 3))).axes) == 9
    assert (
        len(plot.channels(np.zeros((32, 16, 3, 3, 1)), limit=48).axes) == 48
    )  # three filters of 16 channels
    with pytest.raises(ValueError, match=r"maps\[0\]"):
        plot.channels(np.zeros((5, 5)))


def test_segments_dim_what_lies_outside():
    masks = np.zeros((1, 4, 4), bool)
    masks[0, :2] = True
    shown = images_of(plot.segments(np.full((1, 4, 4, 3), 255, "uint8"), masks, dim=0.5).axes[0])[0]
    np.testing.assert_allclose(shown[:, 0, 0], [1, 1, 0.5, 0.5])


def test_noise_response_draws_the_most_frequent_classes_first():
    share = np.array([0.1, 0.7, 0.2], "float32")
    found = NoiseResponse(np.zeros((2, 4, 4, 1)), np.zeros((2, 3)), np.zeros(2), share, 0.8, 0.5)
    bars = plot.noise_response(found, most=2).axes[0]
    np.testing.assert_allclose([bar.get_width() for bar in bars.patches], [0.7, 0.2], rtol=1e-6)
    assert [label.get_text() for label in bars.get_yticklabels()] == ["1", "2"]
