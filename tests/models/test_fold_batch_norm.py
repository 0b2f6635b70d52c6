import warnings

import keras
import numpy as np
import pytest

from recipes import models
from recipes.models import fold_batch_norm

pytestmark = pytest.mark.numerics

L = keras.layers


def norms(model):
    return [layer.name for layer in model._flatten_layers() if isinstance(layer, L.BatchNormalization)]


def lively(model):
    """Statistics and gains far from where they start, as after training."""
    random = np.random.default_rng(0)
    for layer in model._flatten_layers():
        if isinstance(layer, L.BatchNormalization):
            shape = layer.moving_mean.shape
            layer.moving_mean.assign(random.normal(size=shape) * 0.3)
            layer.moving_variance.assign(random.uniform(0.5, 2.0, shape))
            if layer.scale:
                layer.gamma.assign(random.uniform(0.5, 1.5, shape) * random.choice([-1, 1], shape))
            if layer.center:
                layer.beta.assign(random.normal(size=shape) * 0.3)
    return model


def assert_same(model, folded, x):
    expected, received = (keras.tree.flatten(net(x, training=False)) for net in (model, folded))
    for one, other in zip(expected, received, strict=True):
        assert float(np.std(one)) > 1e-6
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-4 * float(np.abs(one).max()))


LINEAR = {
    "Conv2D": lambda: L.Conv2D(6, 3),
    "Conv2D with bias": lambda: L.Conv2D(6, 3, strides=2, bias_initializer="normal"),
    "Conv2D in groups": lambda: L.Conv2D(6, 3, groups=2, use_bias=False),
    "Conv2DTranspose": lambda: L.Conv2DTranspose(6, 3, strides=2, bias_initializer="normal"),
    "DepthwiseConv2D": lambda: L.DepthwiseConv2D(3, depth_multiplier=3, use_bias=False),
    "SeparableConv2D": lambda: L.SeparableConv2D(6, 3, depth_multiplier=2, use_bias=False),
    "Dense": lambda: L.Dense(6, bias_initializer="normal"),
}


@pytest.mark.parametrize("make", LINEAR.values(), ids=LINEAR)
@pytest.mark.parametrize("options", [{}, {"scale": False, "center": False, "axis": 3}], ids=["full", "bare"])
def test_folds_into_every_linear_layer(make, options):
    image = keras.Input((8, 8, 4))
    x = L.ReLU()(L.BatchNormalization(**options)(make()(image)))
    model = lively(keras.Model(image, L.GlobalAveragePooling2D()(x)))
    folded = fold_batch_norm(model)
    assert not norms(folded) and len(folded.layers) == len(model.layers) - 1
    assert_same(model, folded, np.random.default_rng(1).normal(size=(5, 8, 8, 4)).astype("float32"))


def test_folds_resnet50_and_mobilenet_v2_of_keras_applications_completely():
    x = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 3)).astype("float32")
    for build in (keras.applications.ResNet50, keras.applications.MobileNetV2):
        model = lively(build(weights=None, input_shape=(64, 64, 3), classes=7, classifier_activation=None))
        folded = fold_batch_norm(model)
        assert not norms(folded)
        assert {layer.name for layer in folded.layers} <= {layer.name for layer in model.layers}
        assert_same(model, folded, x)


def test_folds_nested_graphs_and_sequences_once_even_when_they_are_shared():
    image = keras.Input((8, 8, 3))
    encoder = keras.Model(image, L.ReLU()(L.BatchNormalization()(L.Conv2D(4, 3)(image))), name="encoder")
    head = keras.Sequential(
        [keras.Input((4,)), L.Dense(5), L.BatchNormalization(), L.ReLU(), L.Dense(2)], name="head"
    )
    left, right = keras.Input((8, 8, 3), name="left"), keras.Input((8, 8, 3), name="right")
    both = [L.GlobalAveragePooling2D()(encoder(side)) for side in (left, right)]
    model = lively(keras.Model({"left": left, "right": right}, head(L.Subtract()(both))))
    folded = fold_batch_norm(model)
    assert not norms(folded)
    assert len(folded.weights) == 6
    x = {side: np.random.default_rng(i).normal(size=(3, 8, 8, 3)) for i, side in enumerate(("left", "right"))}
    assert_same(model, folded, x)


def test_folds_one_normalization_behind_two_layers_and_one_pair_used_twice():
    one, two = keras.Input((5,)), keras.Input((5,))
    norm, dense = L.BatchNormalization(), L.Dense(4)
    model = lively(keras.Model([one, two], [norm(L.Dense(4)(one)), norm(L.Dense(4)(two))]))
    x = [np.random.default_rng(i).normal(size=(3, 5)).astype("float32") for i in (0, 1)]
    assert_same(model, fold_batch_norm(model), x)
    pair = L.BatchNormalization()
    model = lively(keras.Model([one, two], [pair(dense(one)), L.ReLU()(pair(dense(two)))]))
    folded = fold_batch_norm(model)
    assert not norms(folded)
    assert_same(model, folded, x)


def test_keeps_operations_and_what_it_cannot_fold_and_says_why():
    image = keras.Input((8, 8, 3))
    x = L.BatchNormalization(name="on_input")(image)
    x = keras.ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
    x = L.Conv2D(4, 3, activation="relu", name="active")(x)
    x = L.BatchNormalization(name="after_relu")(x)
    forked = L.Conv2D(4, 3, name="forked")(x)
    x = L.Add()([forked, L.BatchNormalization(name="on_fork")(forked)])
    x = L.BatchNormalization(name="by_batch")(L.Conv2D(4, 1, name="fed")(x), training=True)
    x = L.BatchNormalization(axis=1, name="rows")(L.Conv2D(4, 1, name="map")(x))
    x = L.TimeDistributed(L.BatchNormalization(name="wrapped"), name="each_row")(x)
    x = L.BatchNormalization(name="folded")(L.Conv2D(4, 1)(x))
    model = lively(keras.Model(image, x))
    with pytest.warns(UserWarning) as caught:
        folded = fold_batch_norm(model)
    (message,) = [str(warning.message) for warning in caught if warning.category is UserWarning]
    for reason in (
        "'on_input' (follows",
        "'after_relu' (follows the activation inside 'active')",
        "'on_fork' ('forked' before it is also used by 'add",
        "'by_batch' (called with training=True)",
        "'wrapped' (inside the layer 'each_row')",
        "'rows' (normalizes another axis than the channels of 'map')",
    ):
        assert reason in message
    assert "'folded'" not in message
    assert set(norms(folded)) == {"on_input", "after_relu", "on_fork", "by_batch", "rows", "wrapped"}
    assert_same(model, folded, np.random.default_rng(1).normal(size=(5, 8, 8, 3)).astype("float32"))


def test_our_networks_fold():
    x = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype="uint8")
    model = lively(models.resnet((16, 16, 3), 4, depth=8))
    folded = fold_batch_norm(model)
    assert not norms(folded)
    assert_same(model, folded, x)
    model = lively(models.resnet((16, 16, 3), 4, depth=10, block="preactivation"))
    with pytest.warns(UserWarning, match="'top_norm' \\(follows 'stage3_block1_add'"):
        folded = fold_batch_norm(model)
    # Before a block's first normalization the way forks into branch and shortcut.
    assert norms(folded) == ["stage1_block1_norm1", "stage2_block1_norm1", "stage3_block1_norm1", "top_norm"]
    assert_same(model, folded, x)


def test_the_given_model_keeps_weights_and_predictions(digits, tmp_path):
    pixels, labels = digits
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            L.Conv2D(8, 3, use_bias=False),
            L.BatchNormalization(),
            L.ReLU(),
            L.Flatten(),
            L.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    model.fit(pixels / 255.0, labels, verbose=0)
    before = model.get_weights()
    folded = fold_batch_norm(model)
    folded.layers[0].kernel.assign(np.zeros((3, 3, 1, 8)))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    folded = fold_batch_norm(model)
    assert isinstance(folded, keras.Sequential)
    folded.save(tmp_path / "folded.keras")
    assert_same(model, keras.models.load_model(tmp_path / "folded.keras"), pixels[:50] / 255.0)


def test_refuses_shared_convolutions_subclassed_models_and_models_without_norms():
    one = keras.Input((8, 8, 3))
    shared = L.Conv2D(4, 3, name="shared")
    x = L.BatchNormalization(name="first")(shared(one))
    y = L.BatchNormalization(name="second")(shared(L.ReLU()(one)))
    model = lively(keras.Model(one, [x, y]))
    before = model.get_weights()
    with pytest.raises(
        ValueError, match=r"'shared', which is called 2 times and feeds \['first', 'second'\]"
    ):
        fold_batch_norm(model)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)

    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ValueError, match="of type Subclassed. Fold the Functional parts"):
        fold_batch_norm(Subclassed())
    with pytest.raises(ValueError, match="which has none"):
        fold_batch_norm(models.mlp((3,), 2))
    with pytest.raises(ValueError, match="expects a built model"):
        fold_batch_norm(keras.Sequential([L.Dense(3), L.BatchNormalization()]))


def test_nothing_left_means_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fold_batch_norm(models.mlp((3,), 2, norm="batch"))
