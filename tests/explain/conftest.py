"""Small models of every kind an explanation must work on."""

import keras
import numpy as np
import pytest

layers = keras.layers


@pytest.fixture(scope="session")
def linear():
    """Logits are `images . weights + bias`: `(model, weights (6, 5, 2, 3), bias (3,))`."""
    inputs = keras.Input((6, 5, 2))
    dense = layers.Dense(3, activation="softmax", bias_initializer=keras.initializers.RandomNormal(seed=2))
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
