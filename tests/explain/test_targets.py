"""Targets, and the logits behind every kind of head."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import explain

layers = keras.layers


@pytest.mark.parametrize(
    "head",
    [
        lambda x: layers.Dense(3, activation="softmax", name="d")(x),
        lambda x: layers.Softmax()(layers.Dense(3, name="d")(x)),
        lambda x: layers.Activation("softmax")(layers.Dense(3, name="d")(x)),
        lambda x: keras.ops.softmax(layers.Dense(3, name="d")(x)),
        lambda x: keras.ops.log_softmax(layers.Dense(3, name="d")(x)),
        lambda x: layers.Dense(3, activation="sigmoid", name="d")(x),
        lambda x: layers.Dense(3, name="d")(x),
        lambda x: layers.Reshape((3,))(layers.Softmax()(layers.Dense(3, name="d")(x))),
        lambda x: layers.Activation("linear", dtype="float64")(layers.Dense(3, "softmax", name="d")(x)),
    ],
    ids=["fused", "layer", "activation", "functional", "log", "sigmoid", "linear", "reshaped", "cast"],
)
def test_logits_are_found_behind(head):
    """Ten thousand times too large, a softmax has no gradient left; its logits have their weights."""
    inputs = keras.Input((4, 4, 1))
    model = keras.Model(inputs, head(layers.Flatten()(inputs)))
    kernel = 1e4 * np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
    model.get_layer("d").set_weights([kernel, np.zeros(3)])
    images = np.random.default_rng(1).normal(size=(2, 4, 4, 1)).astype("float32")
    maps = explain.saliency(model, images, [2, 0], reduce=None)
    np.testing.assert_allclose(maps.reshape(2, 16), kernel.T[[2, 0]], rtol=1e-5)


def test_where_no_logits_are_found_one_warning_says_what_was_used():
    inputs = keras.Input((4, 4, 1))
    x = layers.Flatten()(inputs)
    halves = [layers.Dense(3, activation="softmax")(x) for _ in range(2)]
    model = keras.Model(inputs, layers.Maximum()(halves))
    images = np.ones((1, 4, 4, 1), "float32")
    with pytest.warns(UserWarning, match="model's output as it is") as caught:
        maps = explain.saliency(model, images, 0)
        explain.gradient_times_input(model, images, 0)
    assert len(caught) == 1
    np.testing.assert_allclose(maps, explain.saliency(model, images, 0, score="probability"))


def test_one_sigmoid_is_two_classes(images):
    inputs = keras.Input((6, 5, 2))
    model = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(layers.Flatten()(inputs)))
    weights = model.layers[-1].kernel.numpy().reshape(6, 5, 2)
    predicted = (model.predict(images, verbose=0)[:, 0] > 0.5).astype(int)
    assert set(predicted) == {0, 1}
    for target, sign in [(1, np.ones(4)), (0, -np.ones(4)), (None, 2 * predicted - 1)]:
        maps = explain.saliency(model, images, target, reduce=None)
        np.testing.assert_allclose(maps, sign.reshape(4, 1, 1, 1) * weights, atol=1e-6)
        drop = explain.occlusion(model, images, target, patch=1, stride=1)
        np.testing.assert_allclose(drop, sign.reshape(4, 1, 1) * (weights * images).sum(-1), atol=1e-5)
    with pytest.raises(ValueError, match="0 ... 1.*one sigmoid for two classes.*Received target 2"):
        explain.saliency(model, images, 2)


def test_a_regression_is_explained_by_its_value(quadratic, images):
    model, curvature = quadratic
    for target in (None, 0):
        np.testing.assert_allclose(
            explain.saliency(model, images, target, reduce=None), 2 * curvature * images, atol=1e-5
        )


def test_forms_of_a_target_mean_the_same(linear, images):
    model, weights, _ = linear
    classes = np.array([2, 0, 1, 2])
    expected = np.moveaxis(weights, -1, 0)[classes]
    rows = tf.constant(classes)
    for target in (classes, list(classes), classes.astype("float32"), np.eye(3)[classes], rows, {0: classes}):
        np.testing.assert_allclose(explain.saliency(model, images, target, reduce=None), expected, atol=1e-6)
    np.testing.assert_allclose(
        explain.saliency(model, images[0], np.eye(3)[2], reduce=None), expected[0], atol=1e-6
    )


def test_a_function_of_the_outputs_is_a_target_for_every_family(linear, images):
    model, weights, _ = linear

    def difference(outputs):
        return outputs[:, 2] - outputs[:, 0]

    slope = weights[..., 2] - weights[..., 0]
    share = (images * slope).sum(-1)
    options = {"batch_size": 3}
    maps = explain.saliency(model, images, difference, reduce=None, **options)
    np.testing.assert_allclose(maps, np.broadcast_to(slope, maps.shape), atol=1e-6)
    np.testing.assert_allclose(explain.gradient_times_input(model, images, difference), share, atol=1e-5)
    np.testing.assert_allclose(
        explain.occlusion(model, images, difference, patch=1, stride=1, **options), share, atol=2e-5
    )
    maps, delta = explain.integrated_gradients(
        model, images, difference, return_convergence_delta=True, **options
    )
    np.testing.assert_allclose(maps, share, atol=1e-5)
    np.testing.assert_allclose(delta, 0, atol=1e-5)
    with pytest.raises(ValueError, match="one score per image, shape .4,.*returned shape .4, 3."):
        explain.saliency(model, images, lambda outputs: outputs)


def test_units_channels_and_layers_are_targets(trained_cnn):
    model, images, _ = trained_cnn
    images = images[:3].astype("float32")
    sub = keras.Model(model.inputs[0], model.get_layer("conv2").output)
    for unit, choose in [
        (explain.Unit("conv2", 5, (1, 2)), lambda a: a[:, 1, 2, 5]),
        (explain.Unit("conv2", 9, (3, 0)), lambda a: a[:, 3, 0, 9]),
        (explain.Unit("conv2", 5), lambda a: tf.reduce_mean(a[..., 5], (1, 2))),
        (explain.Unit("conv2", position=(1, 2)), lambda a: tf.reduce_mean(a[:, 1, 2], -1)),
        (explain.Unit("conv2"), lambda a: tf.reduce_mean(a, (1, 2, 3))),
        (explain.Unit("average", 5), lambda a: tf.reduce_mean(a[..., 5], (1, 2))),
    ]:
        with tf.GradientTape() as tape:
            x = tf.constant(images)
            tape.watch(x)
            score = choose(sub(x))
        np.testing.assert_allclose(
            explain.saliency(model, images, unit, reduce=None), tape.gradient(score, x), rtol=1e-4, atol=1e-7
        )
    for unit, message in [
        (explain.Unit("conv2", 32), "channel in 0 ... 31"),
        (explain.Unit("conv2", 0, (4, 0)), "position in 0 ... 3"),
        (explain.Unit("conv2", 0, 1), "position of 2 numbers"),
        (explain.Unit("conv3", 0), "Candidates"),
        (explain.Unit("conv2", -1), "whole numbers from 0"),
        (explain.Unit("conv2", 1.5), "whole numbers from 0"),
        (explain.Unit("conv2", 2**63), "whole numbers from 0"),
        (explain.Unit("conv2", 0, (0, -1)), "whole numbers from 0"),
        (explain.Unit("conv2", 0, 0.5), "whole numbers from 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            explain.saliency(model, images, unit)


def test_layers_above_a_unit_are_not_run():
    class Explodes(layers.Layer):
        def call(self, inputs):
            raise RuntimeError("ran")

        def compute_output_shape(self, shape):
            return shape

    inputs = keras.Input((4, 4, 1))
    x = layers.Conv2D(2, 3, name="unit")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(Explodes(dtype="float32")(x))))
    for compile in (True, False):
        maps = explain.saliency(
            model, np.ones((1, 4, 4, 1)), explain.Unit("unit", 1), reduce=None, compile=compile
        )
        kernel = model.get_layer("unit").kernel.numpy()[..., 1]
        assert np.abs(maps).max() > 0 and np.abs(maps[0, 0, 0, 0] - kernel[0, 0, 0] / 4) < 1e-6


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (3, ValueError, "0 ... 2.*3 values.*Received target 3"),
        (-1, ValueError, "from 0. Received -1"),
        ([0, 1], ValueError, "one target per image: 4"),
        (np.full((4, 3), 1 / 3), ValueError, "one-hot rows"),
        ([0.5, 1, 2, 0], ValueError, "whole class numbers"),
        ("cat", TypeError, "expects target to be None"),
        (object, TypeError, "expects target to be None"),
        (np.inf, ValueError, "Received inf"),
        ([[1], [1, 2]], TypeError, "expects target to be None"),
        ({"a": 1, "b": 2}, ValueError, "target for one output"),
        ({4: 1}, ValueError, "Received output 4"),
    ],
)
def test_targets_that_fit_no_class_are_refused(linear, images, target, error, message):
    for method in (explain.saliency, explain.occlusion):
        options = {"patch": 2, "stride": 2} if method is explain.occlusion else {}
        with pytest.raises(error, match=message):
            method(linear[0], images, target, **options)
