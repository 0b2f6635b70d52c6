"""SmoothGrad on models whose gradients are known."""

import numpy as np
import pytest

from recipes import explain


def test_noise_leaves_a_constant_gradient_alone(linear, images):
    model, weights, _ = linear
    expected = weights[..., 1]
    maps = explain.smooth_grad(model, images, 1, samples=7, reduce=None)
    np.testing.assert_allclose(maps, np.broadcast_to(expected, maps.shape), atol=1e-6)
    squares = explain.smooth_grad(model, images, 1, samples=7, kind="square", reduce=None)
    np.testing.assert_allclose(squares, np.broadcast_to(expected**2, maps.shape), atol=1e-6)
    variance = explain.smooth_grad(model, images, 1, samples=7, kind="variance", reduce=None)
    np.testing.assert_allclose(variance, 0, atol=1e-9)


def test_moments_of_a_quadratic_are_those_of_the_noise(quadratic, images):
    """The gradient is 2 c (x + e) with e of deviation noise * range, so its moments are known."""
    model, curvature = quadratic
    samples, noise = 2000, 0.1
    width = noise * np.ptp(images.reshape(4, -1), axis=1)[:, None, None, None]
    slope = 2 * curvature
    error = np.abs(slope) * width / np.sqrt(samples)
    mean = explain.smooth_grad(model, images, samples=samples, noise=noise, reduce=None)
    assert np.all(np.abs(mean - slope * images) < 5 * error)
    variance = explain.smooth_grad(model, images, samples=samples, noise=noise, kind="variance", reduce=None)
    # The variance of n normal draws is off by sqrt(2 / n) of itself.
    np.testing.assert_allclose(variance, (slope * width) ** 2, rtol=5 * np.sqrt(2 / samples))


def test_signs_cancel_before_the_absolute_value(quadratic):
    """At 0 the gradients of the noisy copies average out; had abs come first, 0.8 of their deviation would
    be left."""
    model, curvature = quadratic
    image = np.zeros((6, 5, 2), "float32")
    image[0, 0] = [-1, 1]  # the range that scales the noise: 2
    maps = explain.smooth_grad(model, image, samples=500, noise=0.5, reduce="absmax")
    left_if_abs_came_first = 0.8 * np.abs(2 * curvature).max(-1)
    assert np.mean(maps[1:] / left_if_abs_came_first[1:]) < 0.2


def test_every_image_gets_the_same_noise_whatever_the_chunks(quadratic, images):
    model, _ = quadratic
    whole = explain.smooth_grad(model, images, samples=5, seed=3)
    np.testing.assert_allclose(
        explain.smooth_grad(model, images, samples=5, seed=3, batch_size=3), whole, rtol=1e-5
    )
    np.testing.assert_allclose(explain.smooth_grad(model, images[2], samples=5, seed=3), whole[2], rtol=1e-5)
    assert np.abs(explain.smooth_grad(model, images, samples=5, seed=4) - whole).max() > 0.01


def test_predicted_class_is_that_of_the_clean_image(linear, images):
    """Under heavy noise the prediction flips; the class explained must not."""
    model, weights, _ = linear
    predicted = model.predict(images, verbose=0).argmax(1)
    maps = explain.smooth_grad(model, images, samples=20, noise=5.0, reduce=None)
    np.testing.assert_allclose(maps, np.moveaxis(weights, -1, 0)[predicted], atol=1e-6)


@pytest.mark.parametrize(
    "options", [{"samples": 0}, {"noise": -1}, {"kind": "median"}, {"kind": "variance", "samples": 1}]
)
def test_nonsense_is_refused(linear, images, options):
    with pytest.raises(ValueError, match="smooth_grad expects"):
        explain.smooth_grad(linear[0], images, **options)
