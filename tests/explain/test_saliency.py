"""Saliency against closed forms and finite differences."""

import keras
import numpy as np
import pytest

from recipes import explain


@pytest.fixture(scope="module")
def linear():
    """Scores are `images . weights + bias`, then a softmax: `(model, weights (6, 5, 2, 3))`."""
    inputs = keras.Input((6, 5, 2))
    outputs = keras.layers.Dense(3, activation="softmax", bias_initializer="normal")(
        keras.layers.Flatten()(inputs)
    )
    model = keras.Model(inputs, outputs)
    return model, model.layers[-1].kernel.numpy().reshape(6, 5, 2, 3)


def test_saliency_of_a_linear_model_is_its_weights(linear):
    model, weights = linear
    images = np.random.default_rng(0).normal(size=(4, 6, 5, 2)).astype("float32")
    for image, number in zip(
        explain.saliency(model, images, [0, 1, 2, 1], reduce=None), [0, 1, 2, 1], strict=True
    ):
        np.testing.assert_allclose(image, weights[..., number], atol=1e-6)
    np.testing.assert_allclose(
        explain.saliency(model, images, 2)[0], np.abs(weights[..., 2]).max(-1), atol=1e-6
    )


def test_without_a_target_the_predicted_class_is_explained(linear):
    model, weights = linear
    images = np.random.default_rng(1).normal(size=(8, 6, 5, 2)).astype("float32")
    predicted = model.predict(images, verbose=0).argmax(1)
    assert len(set(predicted)) > 1
    expected = np.moveaxis(weights, -1, 0)[predicted]
    np.testing.assert_allclose(explain.saliency(model, images, reduce=None), expected, atol=1e-6)


def test_saliency_of_a_trained_network_agrees_with_finite_differences(trained_cnn):
    model, images, _ = trained_cnn
    image = images[0].astype("float32")
    head = keras.Model(model.inputs, model.get_layer("logits").output)
    gradient = explain.saliency(model, image, 4, reduce="sum")
    for row, column in [(2, 3), (4, 4), (6, 2)]:
        step = np.zeros_like(image)
        step[row, column] = 0.5
        change = np.diff(head.predict(np.stack([image - step, image + step]), verbose=0)[:, 4])[0]
        np.testing.assert_allclose(gradient[row, column], change, atol=2e-3, rtol=2e-2)
