"""CAM, Grad-CAM, Grad-CAM++, LayerCAM and Score-CAM against explicit sub-models, closed forms and loops."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import explain

layers = keras.layers

# Small random networks leave Score-CAM without a place that speaks for a class; test_score_cam looks at that.
pytestmark = [pytest.mark.numerics, pytest.mark.filterwarnings("ignore:score_cam found no place")]


@pytest.fixture(scope="module")
def flat():
    """A head that is no average, so that gradients differ between positions: `(model, images (3, 9, 9, 2))`."""
    keras.utils.set_random_seed(5)
    inputs = keras.Input((9, 9, 2))
    x = layers.Conv2D(5, 3, name="early", activation="tanh")(inputs)
    x = layers.Conv2D(6, 3, name="late", activation="relu")(x)
    model = keras.Model(inputs, layers.Dense(4, activation="softmax", name="head")(layers.Flatten()(x)))
    return model, np.random.default_rng(0).normal(size=(3, 9, 9, 2)).astype("float32")


def maps_and_gradients(model, images, name, number):
    """The activations of a layer, and the logit's gradient by them, through a sub-model."""
    head = model.layers[-1]
    sub = keras.Model(model.inputs[0], [model.get_layer(name).output, head.input])
    with tf.GradientTape() as tape:
        activations, features = sub(images)
        score = (features @ head.kernel + head.bias)[:, number]
    return activations.numpy(), tape.gradient(score, activations).numpy()


@pytest.mark.parametrize("name", ["late", "early"])
def test_gradient_maps_follow_their_papers_equations(flat, name):
    model, images = flat
    a, g = maps_and_gradients(model, images, name, 2)
    weights = g.mean((1, 2))
    expected = {
        explain.grad_cam: sum(weights[:, None, None, k] * a[..., k] for k in range(a.shape[-1])),
        explain.layer_cam: (np.maximum(g, 0) * a).sum(-1),
    }
    shares = g**2 / (2 * g**2 + g**3 * a.sum((1, 2), keepdims=True) + (g == 0))
    shares /= shares.sum((1, 2), keepdims=True) + (g == 0).all((1, 2), keepdims=True)
    weights = (shares * np.maximum(g, 0)).sum((1, 2))
    expected[explain.grad_cam_plus_plus] = (a * weights[:, None, None]).sum(-1)
    for method, value in expected.items():
        maps = method(model, images, 2, layer=name, resize=False)
        assert maps.max() > 0
        np.testing.assert_allclose(maps, np.maximum(value, 0), rtol=1e-3, atol=1e-5 * np.abs(value).max())
    signed = explain.grad_cam(model, images, 2, layer=name, resize=False, relu=False)
    assert signed.min() < 0
    np.testing.assert_allclose(signed, expected[explain.grad_cam], rtol=1e-3, atol=1e-6)


def test_maps_are_resized_with_aligned_pixel_centers(flat):
    """A bright pixel of the layer stays in the middle of its part of the image."""
    model, images = flat
    small = explain.grad_cam(model, images, 2, resize=False)
    expected = tf.image.resize(small[..., None], (9, 9))[..., 0]
    np.testing.assert_allclose(explain.grad_cam(model, images, 2), expected, atol=1e-6)


def test_class_activation_map_averages_to_the_logit_without_its_bias(trained_cnn):
    model, images, _ = trained_cnn
    images = images[:5]
    head = model.get_layer("logits")
    logits = keras.Model(model.inputs[0], head.output).predict(images, verbose=0)
    for target in (3, None):
        numbers = np.full(5, 3) if target == 3 else logits.argmax(1)
        maps = explain.class_activation_map(model, images, target, resize=False)
        expected = logits[np.arange(5), numbers] - head.bias.numpy()[numbers]
        np.testing.assert_allclose(maps.mean((1, 2)), expected, rtol=1e-4, atol=1e-4)


def test_class_activation_map_refuses_another_head(flat):
    model, images = flat
    with pytest.raises(ValueError, match="one Dense layer of the average.*grad_cam"):
        explain.class_activation_map(model, images)
    with pytest.raises(ValueError, match="class as target"):
        explain.class_activation_map(model, images, lambda outputs: outputs[:, 0])


@pytest.mark.parametrize("top", [None, 3])
def test_score_cam_is_a_loop_over_masked_images(flat, top):
    model, images = flat
    activations = keras.Model(model.inputs[0], model.get_layer("late").output).predict(images, verbose=0)
    maps = explain.score_cam(model, images, 1, top=top, baseline=0.5, batch_size=4, resize=False)
    for image, planes, received in zip(images, activations, maps, strict=True):
        nothing = np.full_like(image, 0.5)
        before = model(nothing[None])[0, 1]
        order = np.argsort(-planes.std((0, 1)))
        expected = np.zeros(planes.shape[:2])
        for k in order[:top]:
            mask = tf.image.resize(planes[..., k, None], (9, 9)).numpy()
            mask = (mask - mask.min()) / max(np.ptp(mask), 1e-9)
            after = model((mask * image + (1 - mask) * nothing)[None])[0, 1]
            expected += float(after - before) * planes[..., k]
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(received, np.maximum(expected, 0), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "method", ["grad_cam", "grad_cam_plus_plus", "layer_cam", "score_cam", "class_activation_map"]
)
def test_a_layer_without_spatial_axes_is_refused(flat, method):
    model, images = flat
    with pytest.raises(ValueError, match="2 spatial axes"):
        getattr(explain, method)(model, images, layer="head")
    with pytest.raises(ValueError, match="Candidates: 'late'"):
        getattr(explain, method)(model, images, layer="latte")
