"""Layers, initializers and builders use keras.ops alone, so they run on Keras' other backends."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import keras
import numpy as np

from recipes import initialize, layers, models

assert keras.backend.backend() == "jax"
image = keras.Input((8, 8, 3))
x = layers.DropConnect(keras.layers.Conv2D(8, 3, padding="same"), 0.3, seed=1)(image)
x = layers.InstanceNormalization()(layers.FractionalMaxPooling2D(1.5, seed=2)(x))
x = keras.layers.Add()([x, layers.StochasticDepth(0.3, seed=3)(layers.MaxoutConv2D(8, 3, padding="same")(x))])
x = layers.ScalarAffine(use_gain=True)(layers.IdentityShortcut(12, 2)(x))
x = layers.Maxout(4, kernel_constraint=layers.MaxNorm(2.0))(keras.layers.GlobalAveragePooling2D()(x))
model = keras.Model(image, keras.layers.Dense(3)(x))
layers.weight_decay(model, l2=1e-4)
pixels = np.random.default_rng(0).normal(size=(64, 8, 8, 3)).astype("float32")
initialize.lsuv(model, pixels)
model.compile("adam", "mse")
losses = model.fit(pixels, pixels[:, :3, 0, 0], epochs=3, verbose=0).history["loss"]
assert losses[-1] < losses[0], losses

network = models.resnet((8, 8, 3), 4, depth=8, stochastic_depth=0.2)
folded = models.fold_batch_norm(network)
np.testing.assert_allclose(folded(pixels), network(pixels), rtol=1e-3, atol=1e-4)
assert models.transfer(network, 2, features="top_relu").output_shape == (None, 2)
"""


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs JAX")
def test_layers_initializers_and_builders_run_on_jax():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
