"""Saliency against closed forms and finite differences."""

import keras
import numpy as np
import pytest

from recipes import explain

pytestmark = pytest.mark.numerics


def test_saliency_of_a_linear_model_is_its_weights(linear, images):
    model, weights, _ = linear
    classes = [0, 1, 2, 1]
    expected = np.moveaxis(weights, -1, 0)[classes]
    np.testing.assert_allclose(explain.saliency(model, images, classes, reduce=None), expected, atol=1e-6)
    np.testing.assert_allclose(explain.saliency(model, images, classes), np.abs(expected).max(-1), atol=1e-6)
    np.testing.assert_allclose(
        explain.saliency(model, images, classes, reduce="mean"), expected.mean(-1), atol=1e-6
    )
    np.testing.assert_allclose(
        explain.saliency(model, images, classes, reduce="l2"), np.sqrt((expected**2).sum(-1)), atol=1e-6
    )


def test_saliency_of_a_trained_network_agrees_with_finite_differences(trained_cnn):
    model, images, _ = trained_cnn
    image = images[0].astype("float32")
    head = keras.Model(model.inputs[0], model.get_layer("logits").output)
    gradient = explain.saliency(model, image, 4, reduce="sum")
    for row, column in [(2, 3), (4, 4), (6, 2)]:
        step = np.zeros_like(image)
        step[row, column] = 0.5
        change = np.diff(head.predict(np.stack([image - step, image + step]), verbose=0)[:, 4])[0]
        np.testing.assert_allclose(gradient[row, column], change, atol=2e-3, rtol=2e-2)


def test_probability_scores_follow_the_softmax_derivative(linear, images):
    model, weights, _ = linear
    probabilities = model.predict(images, verbose=0)
    # d p_k / d x = p_k (w_k - sum_j p_j w_j)
    expected = probabilities[:, 1, None, None, None] * (
        weights[..., 1] - np.einsum("hwck,nk->nhwc", weights, probabilities)
    )
    maps = explain.saliency(model, images, 1, reduce=None, score="probability")
    np.testing.assert_allclose(maps, expected, atol=1e-6)


def test_gradient_times_input_of_a_linear_model_sums_to_the_score_without_its_bias(linear, images):
    model, weights, _ = linear
    maps = explain.gradient_times_input(model, images, 2)
    assert maps.shape == (4, 6, 5)
    np.testing.assert_allclose(maps.sum((1, 2)), np.einsum("nhwc,hwc->n", images, weights[..., 2]), rtol=1e-5)


def test_an_unknown_reduction_names_the_known_ones(linear, images):
    with pytest.raises(ValueError, match="absmax"):
        explain.saliency(linear[0], images, reduce="max")
