"""Orthogonalized updates against singular values from numpy; everything else against Keras' SGD."""

import keras
import numpy as np
import pytest

from recipes.optimizers import MuonSGD
from recipes.optimizers.muon_sgd import orthogonalize


def variables(*shapes):
    rng = np.random.default_rng(0)
    return [
        keras.Variable(rng.normal(size=shape).astype("float32"), name=f"v{i}")
        for i, shape in enumerate(shapes)
    ]


def gradients(*shapes, seed=1):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype("float32") for shape in shapes]


@pytest.mark.parametrize("shape", [(27, 16), (16, 27), (8, 8)])
def test_iterations_keep_singular_vectors_with_values_as_the_polynomial_says(shape):
    matrix = np.random.default_rng(2).normal(size=shape)
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    values = values / np.sqrt((matrix**2).sum())
    for _ in range(3):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    received = keras.ops.convert_to_numpy(
        orthogonalize(keras.ops.convert_to_tensor(matrix.astype("float32")), 3)
    )
    np.testing.assert_allclose(received, left * values @ right, atol=2e-5)


def test_everything_that_is_no_hidden_kernel_is_updated_as_sgd_does():
    shapes = [(7,), (3, 3, 5, 1), (6, 4)]
    ours, theirs = variables(*shapes), variables(*shapes)
    muon = MuonSGD(0.3, 0.8, sgd_only=["v2"], weight_decay=0.1)
    sgd = keras.optimizers.SGD(0.3, 0.8, nesterov=True, weight_decay=0.1)
    for seed in range(3):
        for optimizer, values in ((muon, ours), (sgd, theirs)):
            optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients(*shapes, seed=seed)], values)
    for received, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(received.numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)


def test_a_convolution_moves_as_far_in_every_direction_whatever_its_gradients_length():
    (kernel,), (gradient,) = variables((3, 3, 4, 8)), gradients((3, 3, 4, 8))
    before = kernel.numpy()
    MuonSGD(0.2, iterations_per_step=5).apply([keras.ops.convert_to_tensor(1e-6 * gradient)], [kernel])
    moved = np.linalg.svd((kernel.numpy() - before).reshape(36, 8), compute_uv=False)
    assert 0.1 * 0.65 < moved.min() and moved.max() < 0.1 * 1.25  # muon_ratio 0.5 x 0.2, Jordan's 0.7 to 1.2


def test_it_is_saved_with_a_model_and_goes_on_as_if_it_had_not_been(tmp_path):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(6, activation="relu"), keras.layers.Dense(3, name="head")]
    model = keras.Sequential([keras.Input((5,)), *layers])
    model.compile(MuonSGD(0.1, sgd_only=["head"], weight_decay=0.01), "mse")
    x, y = np.random.default_rng(0).normal(size=(2, 32, 5)).astype("float32"), np.zeros((32, 3), "float32")
    model.fit(x[0], y, verbose=0, shuffle=False)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for one in (model, loaded):
        one.fit(x[1], y, verbose=0, shuffle=False)
    for received, expected in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(received, expected)


@pytest.mark.parametrize(
    "options", [{"momentum": 1.0}, {"muon_ratio": 0}, {"iterations_per_step": 0}, {"sgd_only": 3}]
)
def test_arguments_outside_their_ranges_are_refused(options):
    with pytest.raises(ValueError, match="MuonSGD expects"):
        MuonSGD(**options)
