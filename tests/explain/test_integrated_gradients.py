"""Integrated gradients: closed forms and completeness."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from recipes import explain

pytestmark = pytest.mark.numerics


@pytest.mark.parametrize("rule", ["midpoint", "gauss_legendre"])
def test_integral_of_a_quadratic_is_the_difference_of_squares(quadratic, images, rule):
    model, curvature = quadratic
    start = np.random.default_rng(1).normal(size=(6, 5, 2)).astype("float32")
    maps = explain.integrated_gradients(model, images, baseline=start, steps=3, method=rule, reduce=None)
    np.testing.assert_allclose(maps, curvature * (images**2 - start**2), atol=2e-5)


def test_maps_of_a_trained_network_add_up_to_the_change_in_score(trained_cnn):
    model, images, _ = trained_cnn
    images = images[:6]
    maps, delta = explain.integrated_gradients(
        model, images, 3, steps=200, baseline="blur", return_convergence_delta=True
    )
    blurred = gaussian_filter(images.astype("float32"), (0, 0.8, 0.8, 0), mode="nearest")
    sub = [model.get_layer(name) for name in ("scale", "conv1", "pool", "conv2", "average", "logits")]

    def logits(x):
        for layer in sub:
            x = layer(x)
        return np.asarray(x)[:, 3]

    change = logits(images.astype("float32")) - logits(blurred)
    np.testing.assert_allclose(maps.sum((1, 2)), change, atol=3e-3 * np.abs(change).max())
    np.testing.assert_allclose(delta, maps.sum((1, 2)) - change, atol=1e-4 * np.abs(change).max())


def test_several_baselines_are_averaged(quadratic, images):
    model, curvature = quadratic
    maps = explain.integrated_gradients(model, images, baseline=[0.0, 1.0, "mean"], steps=2, reduce=None)
    mean = images.mean((1, 2), keepdims=True)
    expected = curvature * (images**2 - (0 + 1 + mean**2) / 3)
    np.testing.assert_allclose(maps, expected, atol=2e-5)


def test_a_baseline_for_each_image_survives_groups_and_chunks(quadratic, images):
    model, curvature = quadratic
    starts = images[::-1].copy()
    maps = explain.integrated_gradients(model, images, baseline=starts, steps=5, batch_size=3, reduce=None)
    np.testing.assert_allclose(maps, curvature * (images**2 - starts**2), atol=2e-5)


@pytest.mark.parametrize(
    "options", [{"steps": 0}, {"method": "trapezoid"}, {"baseline": "noise"}, {"baseline": np.ones(7)}]
)
def test_nonsense_is_refused(linear, images, options):
    with pytest.raises(ValueError, match="integrated_gradients expects"):
        explain.integrated_gradients(linear[0], images, **options)
