"""Occlusion and RISE against loops over single images."""

import keras
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from recipes import explain
from recipes.explain.attribution.rise import Masks


def probability(model, image, number):
    return float(model(image[None])[0, number])


@pytest.mark.parametrize("value", [0.5, "mean", "blur"])
@pytest.mark.parametrize("output", ["drop", "probability"])
def test_occlusion_is_a_loop_over_windows_that_reaches_every_border(linear, images, value, output):
    """Windows of 3 x 2 every 2 x 2 pixels on 6 x 5: the last ones stand flush with the border."""
    model, _, _ = linear
    maps = explain.occlusion(
        model,
        images,
        1,
        patch=(3, 2),
        stride=2,
        value=value,
        output=output,
        score="probability",
        batch_size=5,
    )
    for image, received in zip(images, maps, strict=True):
        cover = {
            0.5: lambda image: np.full_like(image, 0.5),
            "mean": lambda image: np.broadcast_to(image.mean((0, 1)), image.shape),
            "blur": lambda image: gaussian_filter(image, (0.6, 0.6, 0), mode="nearest"),
        }[value](image)
        before = probability(model, image, 1)
        total, count = np.zeros((6, 5)), np.zeros((6, 5))
        for row in [0, 2, 3]:
            for column in [0, 2, 3]:
                covered = image.copy()
                covered[row : row + 3, column : column + 2] = cover[row : row + 3, column : column + 2]
                after = probability(model, covered, 1)
                total[row : row + 3, column : column + 2] += before - after if output == "drop" else after
                count[row : row + 3, column : column + 2] += 1
        assert count.min() == 1
        np.testing.assert_allclose(received, total / count, atol=1e-5)


def test_occlusion_of_single_pixels_on_a_linear_model_is_gradient_times_input(linear, images):
    model, weights, _ = linear
    maps = explain.occlusion(model, images, 2, patch=1, stride=1)
    np.testing.assert_allclose(maps, (images * weights[..., 2]).sum(-1), atol=2e-5)


@pytest.mark.parametrize(
    "options", [{"patch": 7}, {"patch": 2, "stride": 3}, {"patch": 2.5}, {"patch": (2, 2, 2)}]
)
def test_windows_that_cannot_cover_the_image_are_refused(linear, images, options):
    with pytest.raises(ValueError, match="occlusion expects"):
        explain.occlusion(linear[0], images, **{"stride": 1, **options})


def test_rise_is_the_mask_average_weighted_by_scores(linear, images):
    model, _, _ = linear
    masks, keep = 90, 0.4
    maps = explain.rise(
        model, images, 1, masks=masks, cells=3, keep=keep, baseline=0.2, seed=7, batch_size=11
    )
    draw = Masks((6, 5), (3, 3), keep, 7)
    drawn = [draw(number) for number in range(masks)]
    for image, received in zip(images, maps, strict=True):
        expected = np.zeros((6, 5))
        for mask in drawn:
            shown = mask[..., None] * image + (1 - mask[..., None]) * 0.2
            expected += probability(model, shown, 1) * mask
        np.testing.assert_allclose(received, expected / (masks * keep), rtol=1e-4)


def test_rise_says_where_a_saturated_softmax_hides_what_masks_change(images):
    inputs = keras.Input(images.shape[1:])
    scores = keras.layers.Dense(3, name="scores")(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, keras.layers.Softmax()(scores))
    model.get_layer("scores").bias.assign([900.0, 0.0, 0.0])
    with pytest.warns(
        UserWarning, match="same score behind every mask in 2 of 2 images, the first at index 0"
    ):
        assert not explain.rise(model, images[:2], 1, masks=5, cells=3).any()
    assert explain.rise(model, images[:2], 1, masks=5, cells=3, score="logits").any()


def test_rise_masks_show_each_pixel_as_often_as_asked_for():
    draw = Masks((20, 31), (4, 5), 0.3, seed=1)
    masks = np.stack([draw(number) for number in range(3000)])
    assert masks.min() == 0 and masks.max() == 1
    # The mean of 3000 values in 0..1 with a deviation of at most sqrt(0.3 * 0.7).
    assert np.abs(masks.mean(0) - 0.3).max() < 5 * np.sqrt(0.21 / 3000)
    # Cells are 5 and 7 pixels wide: neighbors differ by at most one cell's slope.
    assert np.abs(np.diff(masks, axis=1)).max() <= 1 / 5 + 1e-6
    assert np.abs(np.diff(masks, axis=2)).max() <= 1 / 7 + 1e-6
    np.testing.assert_array_equal(masks[70], Masks((20, 31), (4, 5), 0.3, seed=1)(70))


@pytest.mark.parametrize("options", [{"masks": 0}, {"keep": 1.0}, {"cells": 40}])
def test_masks_that_show_nothing_or_everything_are_refused(linear, images, options):
    with pytest.raises(ValueError, match="rise expects"):
        explain.rise(linear[0], images, **options)
