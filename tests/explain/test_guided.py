"""Guided backpropagation and the deconvnet against a second implementation with hand-made gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import explain

pytestmark = pytest.mark.numerics

layers = keras.layers


def rectifier(gate, activation, rule):
    """An autograd-only rectifier: its gradient is written out by hand."""

    @tf.custom_gradient
    def apply(x):
        def gradient(upstream):
            positive = tf.maximum(upstream, 0)
            return positive * gate(x) if rule == "guided" else positive

        return activation(x), gradient

    return apply


@pytest.fixture(scope="module")
def nested():
    """Every form of rectifier, in a model inside a model."""
    inner_inputs = keras.Input((10, 10, 2))
    x = layers.Conv2D(4, 3, activation="relu", name="fused")(inner_inputs)
    x = layers.Conv2D(4, 3, name="capped")(x)
    x = layers.ReLU(max_value=0.2)(x)
    x = layers.Conv2D(4, 3, name="leaky")(x)
    x = layers.LeakyReLU(0.3)(x)
    inner = keras.Model(inner_inputs, x, name="inner")
    inputs = keras.Input((10, 10, 2))
    x = layers.Conv2D(4, 2, name="named")(inner(inputs))
    x = layers.Activation("relu")(x)
    x = layers.Dense(6, name="functional")(layers.Flatten()(x))
    x = keras.ops.relu(x)
    x = layers.Dense(6, name="six")(x)
    x = layers.Activation(keras.activations.relu6)(x)
    return keras.Sequential([keras.Model(inputs, x), layers.Dense(3, activation="softmax", name="head")])


def oracle(model, images, number, rule):
    inner = model.layers[0].get_layer("inner")

    def step(x):
        return tf.cast(x, "float32")

    relu = rectifier(lambda x: step(x > 0), tf.nn.relu, rule)
    capped = rectifier(lambda x: step((x > 0) & (x < 0.2)), lambda x: tf.clip_by_value(x, 0, 0.2), rule)
    leaky = rectifier(lambda x: tf.where(x > 0, 1.0, 0.3), lambda x: tf.nn.leaky_relu(x, 0.3), rule)
    relu6 = rectifier(lambda x: step((x > 0) & (x < 6)), tf.nn.relu6, rule)

    def conv(x, layer):
        return tf.nn.conv2d(x, layer.kernel, 1, "VALID") + layer.bias

    images = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        x = relu(conv(images, inner.get_layer("fused")))
        x = capped(conv(x, inner.get_layer("capped")))
        x = leaky(conv(x, inner.get_layer("leaky")))
        x = relu(conv(x, model.layers[0].get_layer("named")))
        x = tf.reshape(x, (len(images), -1))
        for name, activation in [("functional", relu), ("six", relu6)]:
            dense = model.layers[0].get_layer(name)
            x = activation(x @ dense.kernel + dense.bias)
        head = model.layers[1]
        score = (x @ head.kernel + head.bias)[:, number]
    return tape.gradient(score, images)


@pytest.mark.parametrize(
    ("method", "rule"), [(explain.guided_backprop, "guided"), (explain.deconvnet, "deconvnet")]
)
def test_every_form_of_rectifier_is_guided_also_in_nested_models(nested, method, rule):
    images = np.random.default_rng(0).normal(size=(3, 10, 10, 2)).astype("float32")
    expected = oracle(nested, images, 1, rule)
    assert np.abs(expected).max() > 0
    maps = method(nested, images, 1, reduce=None)
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())
    plain = explain.saliency(nested, images, 1, reduce=None)
    assert np.abs(plain - maps).max() > 0.1 * np.abs(maps).max()


def test_guided_grad_cam_is_the_product(trained_cnn):
    model, images, _ = trained_cnn
    maps = explain.guided_grad_cam(model, images[:2], reduce=None)
    lines, where = (
        explain.guided_backprop(model, images[:2], reduce=None),
        explain.grad_cam(model, images[:2]),
    )
    assert np.abs(maps).max() > 0
    np.testing.assert_allclose(maps, lines * where[..., None], rtol=1e-6)


def test_the_plain_gradient_comes_back_afterwards(nested):
    images = np.random.default_rng(0).normal(size=(2, 10, 10, 2)).astype("float32")
    explain.guided_backprop(nested, images)
    with tf.GradientTape() as tape:
        x = tf.constant(images)
        tape.watch(x)
        inner = nested.layers[0](x)
        score = (inner @ nested.layers[1].kernel + nested.layers[1].bias)[:, 0]
    np.testing.assert_allclose(
        explain.saliency(nested, images, 0, reduce=None), tape.gradient(score, x), rtol=1e-4, atol=1e-7
    )


@keras.saving.register_keras_serializable("tests")
class HiddenRectifier(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(4, 3)

    def call(self, inputs):
        return keras.ops.relu(self.conv(inputs))


def test_a_rectifier_hidden_in_a_call_is_refused_rather_than_ignored():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            HiddenRectifier(),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    with pytest.raises(ValueError, match="inside a layer's own code.*hidden_rectifier"):
        explain.guided_backprop(model, np.ones((1, 8, 8, 1), "float32"))


def test_a_model_without_rectifiers_is_refused(linear, images):
    with pytest.raises(ValueError, match="none that can be reached"):
        explain.guided_backprop(linear[0], images)
