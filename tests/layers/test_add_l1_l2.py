import keras
import numpy as np
import pytest

from recipes import layers
from recipes.layers import add_l1_l2


@pytest.fixture
def model():
    """Every kind of kernel: dense, conv, depthwise and separable, recurrent, attention, wrapped, nested."""
    image = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(image)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.SeparableConv2D(4, 2, name="separable")(x)
    x = keras.layers.DepthwiseConv2D(2, name="depthwise")(x)
    x = keras.layers.Reshape((4, 4))(x)
    x = keras.layers.MultiHeadAttention(2, 2, name="attention")(x, x)
    x = keras.layers.LSTM(3, name="lstm")(x)
    x = layers.DropConnect(keras.layers.Dense(5), 0.5, name="dropped")(x)
    x = keras.Sequential([keras.Input((5,)), layers.Maxout(2)], name="nested")(x)
    return keras.Model(image, x)


def test_the_penalty_is_the_elastic_net_over_all_kernels_and_nothing_else(model):
    penalized = add_l1_l2(model, l1=0.01, l2=0.1)
    kernels = [variable for variable in model.trainable_variables if len(variable.shape) > 1]
    # The attention's biases (heads, size) have two axes as well.
    kernels = [variable for variable in kernels if variable.name != "bias"]
    assert len(penalized) == len(kernels) == 1 + 2 + 1 + 4 + 2 + 1 + 1
    expected = sum(0.01 * np.abs(k).sum() + 0.1 * np.square(k).sum() for k in map(np.asarray, kernels))
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)


def test_the_penalties_are_saved_with_the_model(model, tmp_path):
    add_l1_l2(model, l2=0.1)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert len(loaded.losses) == 12
    assert float(sum(loaded.losses)) == pytest.approx(float(sum(model.losses)), rel=1e-6)


def test_a_compiled_and_fitted_model_is_penalized_from_the_next_fit():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    x = np.zeros((4, 2), "float32")  # no gradient but the penalty's reaches the kernel
    model.fit(x, np.zeros(4), batch_size=4, verbose=0)
    kernel = np.array([[2.0], [-3.0]], "float32")
    model.layers[0].kernel.assign(kernel)
    add_l1_l2(model, l1=0.5, l2=0.25)
    model.fit(x, np.zeros(4), batch_size=4, verbose=0)
    expected = kernel - 0.1 * (0.5 * np.sign(kernel) + 2 * 0.25 * kernel)
    np.testing.assert_allclose(model.layers[0].kernel, expected, rtol=1e-6)


def test_bad_requests_leave_the_model_alone():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3), keras.layers.Dense(1)])
    for bad in ({"l1": -1.0}, {"l2": -1.0}, {}):
        with pytest.raises(ValueError, match="l1 >= 0 and l2 >= 0"):
            add_l1_l2(model, **bad)
    with pytest.raises(ValueError, match="has none yet"):
        add_l1_l2(keras.Sequential([keras.layers.Dense(3)]), l2=0.1)
    assert not model.losses
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(3), keras.layers.Dense(1, kernel_regularizer="l1")]
    )
    with pytest.raises(ValueError, match="kernels without a penalty"):
        add_l1_l2(model, l2=0.1)
    assert len(model.losses) == 1
