"""Small models of every kind an explanation must work on."""

import keras
import numpy as np
import pytest
import tensorflow as tf

layers = keras.layers


@pytest.fixture(scope="session")
def linear():
    """Logits are `images . weights + bias`: `(model, weights (6, 5, 2, 3), bias (3,))`."""
    inputs = keras.Input((6, 5, 2))
    start = keras.initializers
    dense = layers.Dense(
        3,
        activation="softmax",
        kernel_initializer=start.GlorotUniform(seed=1),
        bias_initializer=start.RandomNormal(seed=2),
    )
    dense_inputs = layers.Flatten()(inputs)
    model = keras.Model(inputs, dense(dense_inputs))
    return model, dense.kernel.numpy().reshape(6, 5, 2, 3), dense.bias.numpy()


@pytest.fixture(scope="session")
def quadratic():
    """One score, `sum of curvature * pixel^2`: `(model, curvature (6, 5, 2))`."""
    curvature = np.random.default_rng(3).normal(size=(6, 5, 2)).astype("float32")
    inputs = keras.Input((6, 5, 2))
    weighed = layers.Flatten()(keras.ops.square(inputs))
    dense = layers.Dense(1, use_bias=False)
    model = keras.Model(inputs, dense(weighed))
    dense.set_weights([curvature.reshape(-1, 1)])
    return model, curvature


@pytest.fixture
def images():
    """Four images `(6, 5, 2)`, float32."""
    return np.random.default_rng(0).normal(size=(4, 6, 5, 2)).astype("float32")


@pytest.fixture(scope="session")
def differentiates_channels_first():
    """Whether TensorFlow has that gradient here: with oneDNN alone."""

    @tf.function
    def gradient(images, kernel):
        with tf.GradientTape() as tape:
            tape.watch(images)
            out = tf.nn.conv2d(images, kernel, 1, "SAME", data_format="NCHW")
        return tape.gradient(out, images)

    try:
        gradient(tf.ones((1, 2, 4, 4)), tf.ones((3, 3, 2, 2)))
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
        return False
    return True


@pytest.fixture
def needs_channels_first(differentiates_channels_first):
    """Skips where TensorFlow itself cannot run the test."""
    if not differentiates_channels_first:
        pytest.skip("TensorFlow has no gradient of channels-first convolutions without oneDNN")
