"""What uses keras.ops alone runs on Keras' JAX backend; what needs TensorFlow says so. JAX comes with the tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys

import keras
import numpy as np

assert keras.backend.backend() == "jax"
import recipes
from recipes import callbacks, layers, schedules
from recipes.checkpoints import ensemble_snapshots

assert "tensorflow" not in sys.modules and "tensorflow_datasets" not in sys.modules
callbacks.WarmupDecay(), callbacks.SnapshotEnsemble(), callbacks.Backup("none.npz")
callbacks.ExponentialMovingAverage()
assert "tensorflow" not in sys.modules


def refused(name, use):
    try:
        use()
    except RuntimeError as error:
        words = str(error)
        assert name + " expects Keras on TensorFlow" in words, words
        assert "Received the backend 'jax'. Set KERAS_BACKEND=tensorflow before importing keras" in words, words
    else:
        raise AssertionError(name)


monitors = "UpdateRatioMonitor DeadReluDetector GradientMonitor ActivationMonitor NonFiniteGuard TrainingDoctor"
for name in monitors.split():
    getattr(callbacks, name)(every_steps=2)
assert recipes.probe.Hub.__name__ == "Hub"
assert "tensorflow" not in sys.modules
for name in recipes.explain.__all__:
    refused(f"recipes.explain.{name}", lambda: getattr(recipes.explain, name)(None, None))
assert recipes.probe.Record().notes == []

from recipes import initialize, models

keras.utils.set_random_seed(0)
image = keras.Input((8, 8, 3))
x = layers.DropConnect(keras.layers.Conv2D(8, 3, padding="same"), 0.3, seed=1)(image)
x = layers.InstanceNormalization()(layers.FractionalMaxPooling2D(1.5, seed=2)(x))
x = keras.layers.Add()([x, layers.StochasticDepth(0.3, seed=3)(layers.MaxoutConv2D(8, 3, padding="same")(x))])
x = layers.ScalarAffine(use_gain=True)(layers.IdentityShortcut(12, 2)(x))
x = layers.Maxout(4, kernel_constraint=layers.MaxNorm(2.0))(keras.layers.GlobalAveragePooling2D()(x))
model = keras.Model(image, keras.layers.Dense(3)(x))
layers.add_l1_l2(model, l2=1e-4)
pixels = np.random.default_rng(0).normal(size=(64, 8, 8, 3)).astype("float32")
initialize.lsuv(model, pixels)
model.compile(keras.optimizers.Adam(schedules.Warmup(schedules.Cosine(2e-3, 6), 2)), "mse")
losses = model.fit(pixels, pixels[:, :3, 0, 0], epochs=3, verbose=0).history["loss"]
assert losses[-1] < losses[0], losses
# The second increment of the warm-up, then half a cosine: worked out by hand.
steps = np.arange(8)
rates = keras.ops.convert_to_numpy(model.optimizer._learning_rate(steps))
falling = 1e-3 * (1 + np.cos(np.pi * np.clip(steps - 1, 0, 6) / 6))
np.testing.assert_allclose(rates, np.where(steps < 2, 1e-3 * (steps + 1), falling), rtol=1e-5, atol=1e-9)

normed = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.BatchNormalization()])
normed.compile("sgd", "mse")
rows = np.random.default_rng(0).normal(2, 3, size=(64, 4)).astype("float32")
average = callbacks.StochasticWeightAveraging(0.5, data=rows)
assert len(normed.fit(rows, np.zeros((64, 8)), epochs=4, verbose=0, callbacks=[average]).epoch) == 4
hidden = np.asarray(normed.layers[0](rows))
np.testing.assert_allclose(normed.layers[1].moving_mean, hidden.mean(0), rtol=1e-4, atol=1e-5)
np.testing.assert_allclose(normed.layers[1].moving_variance, hidden.var(0), rtol=1e-4)

network = models.resnet((8, 8, 3), 4, depth=8, stochastic_depth=0.2)
folded = models.fold_batch_norm(network)
np.testing.assert_allclose(folded(pixels), network(pixels), rtol=1e-3, atol=1e-4)
assert models.transfer(network, 2, features="top_relu").output_shape == (None, 2)
"""

# What judges data and finished runs does without a look into training steps.
WITHOUT_PROBE = """
import sys

import keras
import numpy as np
import recipes
from recipes import diagnose, evaluate, preprocess, schedules

images = np.random.default_rng(0).integers(0, 256, (64, 4, 4, 1)).astype("uint8")
labels = np.arange(64) % 2
(finding,) = diagnose.read_curves({"loss": [2.3, float("nan")]})
assert isinstance(finding, diagnose.Finding) and finding.code == "diverged"
standardize = preprocess.Standardize()
standardize.adapt(images)
scaled = np.asarray(standardize(images))
assert abs(scaled.mean()) < 1e-4 and abs(scaled.std() - 1) < 1e-2
assert float(keras.ops.convert_to_numpy(schedules.Cosine(0.1, 10)(10))) < 1e-6
keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2, "softmax")])
model.compile("sgd", "sparse_categorical_crossentropy")
assert "labels_out_of_range" in [one.code for one in diagnose.data_check(model, (images, labels + 2)).findings]
right = np.mean(model.predict(images, verbose=0).argmax(1) == labels)
assert abs(evaluate.classifier(model, (images, labels)).accuracy - right) < 1e-6
assert not [name for name in sys.modules if name.startswith("recipes.probe")]
"""


def test_layers_schedules_and_builders_run_on_jax_and_what_needs_tensorflow_says_so(tmp_path):
    run(SCRIPT, tmp_path)


def test_curves_data_and_scores_are_judged_on_jax_without_the_probe(tmp_path):
    run(WITHOUT_PROBE, tmp_path)


def run(script, folder):
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_backend_optimization_level=0",  # compiles in half the time
            "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
