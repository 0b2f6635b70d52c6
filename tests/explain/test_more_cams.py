"""HiResCAM, XGrad-CAM, Eigen-CAM, Ablation-CAM and Finer-CAM against closed forms and loops of their own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import explain
from recipes.explain.attribution.eigen_cam import project
from recipes.explain.attribution.finer_cam import contrast_weights

layers = keras.layers


def network(head, shape=(8, 6, 2), classes=4):
    """`(model, function from images to the last map)`; the map follows a ReLU."""
    keras.utils.set_random_seed(5)
    inputs = keras.Input(shape)
    low = layers.Conv2D(
        5, 3, padding="same", activation="relu", name="low", bias_initializer="random_normal"
    )(inputs)
    high = layers.Conv2D(3, 3, padding="same", activation="relu", name="high")(layers.MaxPooling2D(2)(low))
    pooled = layers.Flatten()(high) if head == "flat" else layers.GlobalAveragePooling2D()(high)
    outputs = layers.Dense(classes, "softmax", name="head", bias_initializer="random_normal")(pooled)
    model = keras.Model(inputs, outputs)
    return model, lambda images: keras.Model(inputs, high).predict(images, verbose=0)


@pytest.fixture(scope="module")
def flat():
    return network("flat")


@pytest.fixture(scope="module")
def averaged():
    return network("average")


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(5, 8, 6, 2)).astype("float32")


def test_hires_cam_sums_to_the_logit_minus_its_bias(flat, images):
    model, high = flat
    weights, bias = model.get_layer("head").get_weights()
    targets = np.array([0, 3, 2, 1, 1])
    maps = explain.hires_cam(model, images, targets, relu=False, resize=False)
    contributions = high(images) * weights.T[targets].reshape(5, 4, 3, 3)
    np.testing.assert_allclose(maps, contributions.sum(-1), rtol=1e-4, atol=1e-6)
    logits = high(images).reshape(5, -1) @ weights
    np.testing.assert_allclose(maps.sum((1, 2)), logits[range(5), targets], rtol=1e-4, atol=1e-5)
    positive = explain.hires_cam(model, images, targets, resize=False)
    np.testing.assert_allclose(positive, np.maximum(maps, 0), rtol=1e-5)


@pytest.mark.parametrize("method", [explain.hires_cam, explain.xgrad_cam])
def test_after_an_average_gradients_are_flat_as_in_grad_cam(method, averaged, images):
    model, _ = averaged
    expected = explain.grad_cam(model, images, 2, relu=False)
    np.testing.assert_allclose(method(model, images, 2, relu=False), expected, rtol=1e-4, atol=1e-7)


def test_xgrad_cam_averages_gradients_over_activation(flat, images):
    model, high = flat
    values, weights = high(images), model.get_layer("head").get_weights()[0][:, 1].reshape(4, 3, 3)
    expected = np.zeros((5, 4, 3))
    for n in range(5):
        for k in range(3):
            total = values[n, :, :, k].sum()
            alpha = (
                0
                if total == 0
                else sum(values[n, i, j, k] / total * weights[i, j, k] for i in range(4) for j in range(3))
            )
            expected[n] += alpha * values[n, :, :, k]
    maps = explain.xgrad_cam(model, images, 1, relu=False, resize=False)
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-6)
    # Conservation: what all channels contribute adds up to the logit without its bias.
    logits = values.reshape(5, -1) @ model.get_layer("head").get_weights()[0][:, 1]
    np.testing.assert_allclose(maps.sum((1, 2)), logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 2, 2, 7), (3, 5, 4, 6)], ids=["more channels", "more positions"])
def test_eigen_cam_projects_on_numpys_first_singular_vector(shape):
    values = np.random.default_rng(1).normal(size=shape).astype("float32")
    for one, found in zip(values, project(values), strict=True):
        flat = one.reshape(-1, shape[-1])
        _, _, rows = np.linalg.svd(flat)
        expected = flat @ rows[0]
        expected *= np.sign(expected.sum())
        np.testing.assert_allclose(found.ravel(), expected, rtol=1e-3, atol=1e-5)


def test_eigen_cam_is_the_same_for_every_class(flat, images):
    model, high = flat
    maps = explain.eigen_cam(model, images, 1, resize=False)
    np.testing.assert_array_equal(maps, explain.eigen_cam(model, images, resize=False))
    np.testing.assert_allclose(maps, project(high(images)), rtol=1e-4, atol=1e-6)
    assert maps.min() >= 0


def test_ablation_cam_of_an_averaged_head_is_the_share_of_each_channel(averaged, images):
    model, high = averaged
    weights, bias = model.get_layer("head").get_weights()
    means = high(images).mean((1, 2))
    logit = (means @ weights + bias)[:, 2]
    shares = means * weights[:, 2] / np.abs(logit)[:, None]
    expected = np.maximum(np.einsum("nijc,nc->nij", high(images), shares), 0)
    maps = explain.ablation_cam(model, images, 2, resize=False)
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("batch_size", [3, 64])
def test_ablation_cam_sets_channels_to_zero_inside_the_network(flat, images, batch_size):
    model, _ = flat
    middle = keras.Input((8, 6, 5))
    rest = layers.MaxPooling2D(2)(middle)
    for name in ("high", "head"):
        layer = model.get_layer(name)
        if name == "head":
            rest = layers.Flatten()(rest)
        rest = layer(rest)
    upper = keras.Model(middle, rest)
    values = keras.Model(model.inputs, model.get_layer("low").output).predict(images, verbose=0)

    def logit(maps):
        return np.log(upper.predict(maps, verbose=0)[:, 1])

    before = logit(values)
    expected = np.zeros((5, 8, 6))
    for k in range(5):
        without = values.copy()
        without[..., k] = 0
        weight = (before - logit(without)) / np.abs(before)
        expected += weight[:, None, None] * values[..., k]
    maps = explain.ablation_cam(
        *(model, images, lambda logits: keras.ops.log_softmax(logits)[:, 1]),
        layer="low",
        batch_size=batch_size,
    )
    np.testing.assert_allclose(maps, np.maximum(expected, 0), rtol=1e-3, atol=1e-5)
    few = explain.ablation_cam(model, images[0], 1, layer="low", top=1)
    chosen = values[0].reshape(-1, 5).std(0).argmax()
    where = values[0, ..., chosen] > 0
    assert (few[~where] == 0).all()


def test_finer_cam_subtracts_the_most_similar_classes(averaged, images):
    model, high = averaged
    weights, bias = model.get_layer("head").get_weights()
    values = high(images)
    logits = values.mean((1, 2)) @ weights + bias
    targets = np.array([0, 1, 2, 3, 0])
    expected = np.zeros((5, 4, 3))
    for n, target in enumerate(targets):
        near = sorted((abs(logits[n, d] - logits[n, target]), d) for d in range(4) if d != target)[:2]
        odds = [np.exp(logits[n, d]) for _, d in near]
        direction = weights[:, target] - 0.5 * sum(
            o / sum(odds) * weights[:, d] for o, (_, d) in zip(odds, near, strict=True)
        )
        expected[n] = np.maximum(values[n] @ direction / 12, 0)
    for batch_size in (2, 64):
        maps = explain.finer_cam(
            *(model, images, targets), similar=2, strength=0.5, resize=False, batch_size=batch_size
        )
        np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-6)


def test_of_equally_similar_classes_the_first_ones_are_compared():
    weights = contrast_weights(tf.constant([[2.0, 1.0, 3.0, 1.0, 0.0]]), tf.constant([0]), 2, 0.5)
    odds = np.exp([1.0, 3.0]) / np.exp([1.0, 3.0]).sum()
    np.testing.assert_allclose(weights, [[1, -0.5 * odds[0], -0.5 * odds[1], 0, 0]], rtol=1e-6)


def test_finer_cam_says_which_classes_there_are(averaged, images):
    with pytest.raises(ValueError, match=r"class in 0 \.\.\. 3"):
        explain.finer_cam(averaged[0], images, 4)


def test_finer_cam_without_strength_is_grad_cam(averaged, images):
    model, _ = averaged
    found = explain.finer_cam(model, images, strength=0)
    np.testing.assert_allclose(found, explain.grad_cam(model, images), rtol=1e-4, atol=1e-7)


def test_finer_cam_takes_one_sigmoid_for_two_classes(images):
    model, _ = network("average", classes=4)
    binary = keras.Model(model.inputs, layers.Dense(1, "sigmoid")(model.get_layer("high").output[:, 0, 0]))
    found = explain.finer_cam(binary, images, 1, layer="high")
    np.testing.assert_allclose(
        found, 2 * explain.grad_cam(binary, images, 1, layer="high"), rtol=1e-4, atol=1e-7
    )


def test_finer_cam_refuses_what_has_no_similar_classes(averaged, images):
    model, _ = averaged
    with pytest.raises(ValueError, match="expects a class as target"):
        explain.finer_cam(model, images, lambda outputs: outputs[:, 0])
    with pytest.raises(ValueError, match="expects strength >= 0"):
        explain.finer_cam(model, images, strength=-1)
    with pytest.raises(ValueError, match="similar to be a whole number"):
        explain.finer_cam(model, images, similar=0)
