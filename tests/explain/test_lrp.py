"""Layer-wise relevance propagation against loops over the units of small networks."""

import warnings

import keras
import numpy as np
import pytest

from recipes import explain

layers = keras.layers
RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(3, 6)).astype("float32")
IMAGES = RNG.uniform(0.1, 1, (2, 8, 8, 2)).astype("float32")


@pytest.fixture(scope="module")
def dense():
    keras.utils.set_random_seed(0)
    parts = [
        layers.Dense(7, activation="relu", bias_initializer="normal"),
        layers.Dense(4, activation="softmax"),
    ]
    return keras.Sequential([keras.Input((6,)), *parts])


def handed_back(model, row, target, alpha=None):
    """Relevance of the features of one row, unit by unit in float64."""
    values, weights = [row.astype("float64")], []
    for layer in model.layers:
        kernel, bias = (np.asarray(one, "float64") for one in layer.get_weights())
        weights.append((kernel, bias))
        total = values[-1] @ kernel + bias
        values.append(np.maximum(total, 0) if layer is not model.layers[-1] else total)
    relevance = np.zeros(4)
    relevance[target] = values[-1][target]
    for below, (kernel, bias) in zip(values[-2::-1], weights[::-1], strict=True):
        shares = np.zeros_like(below)
        for unit in range(kernel.shape[1]):
            added = below * kernel[:, unit]
            if alpha is None:
                shares += added / (added.sum() + bias[unit]) * relevance[unit]
            else:
                for weight, part in ((alpha, np.maximum), (1 - alpha, np.minimum)):
                    whole = part(added, 0).sum() + part(bias[unit], 0)
                    shares += weight * part(added, 0) / (whole or 1) * relevance[unit]
        relevance = shares
    return relevance


@pytest.mark.parametrize(("rule", "alpha"), [("epsilon", None), ("alpha_beta", 2.0), ("alpha_beta", 1.0)])
def test_relevance_is_handed_back_unit_by_unit(dense, rule, alpha):
    maps = explain.lrp(dense, FEATURES, [1, 3, 0], rule=rule, epsilon=1e-9, alpha=alpha or 2.0)
    expected = [
        handed_back(dense, row, target, alpha) for row, target in zip(FEATURES, (1, 3, 0), strict=True)
    ]
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def shared(added, bias, relevance, alpha):
    """Equation 60 for one unit."""
    total = np.zeros_like(added)
    for weight, part in ((alpha, np.maximum), (1 - alpha, np.minimum)):
        total += weight * part(added, 0) / (part(added, 0).sum() + part(bias, 0) or 1) * relevance
    return total


@pytest.mark.parametrize("alpha", [None, 2.0], ids=["composite", "alpha 2"])
@pytest.mark.parametrize("signed", [False, True], ids=["behind a rectifier", "signed"])
def test_convolutions_share_among_what_speaks_for_and_against(signed, alpha):
    """In loops over places; negative inputs speak for a unit through negative weights."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4, 5, 2))
    x = inputs if signed else layers.ReLU()(inputs)
    x = layers.Conv2D(3, 2, bias_initializer="normal", activation="relu")(x)
    model = keras.Model(inputs, layers.Dense(2, use_bias=False)(layers.Flatten()(x)))
    image = np.random.default_rng(2).normal(size=(4, 5, 2))
    below = image if signed else np.maximum(image, 0)
    kernel, bias, dense = (np.asarray(one, "float64") for one in model.get_weights())
    windows = np.lib.stride_tricks.sliding_window_view(below, (2, 2), (0, 1)).transpose(0, 1, 3, 4, 2)
    above = np.maximum(np.einsum("yxijc,ijcd->yxd", windows, kernel) + bias, 0)
    added = above * dense[:, 1].reshape(above.shape)
    relevance = added if alpha is None else shared(added, 0.0, added.sum(), alpha)
    expected = np.zeros_like(image)
    for y, x, d in np.ndindex(above.shape):
        parts = windows[y, x] * kernel[..., d]
        expected[y : y + 2, x : x + 2] += shared(parts, bias[d], relevance[y, x, d], alpha or 1.0)
    rule = {"rule": "alpha_beta", "alpha": alpha} if alpha else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the model ends in logits
        maps = explain.lrp(model, image, 1, epsilon=1e-9, reduce=None, score="probability", **rule)
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def residual():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 2))
    conv = lambda name: layers.Conv2D(4, 3, padding="same", use_bias=False, activation="relu", name=name)  # noqa: E731
    x = conv("first")(inputs)
    x = layers.MaxPooling2D()(layers.Add(name="sum")([x, conv("branch")(x)]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(3, use_bias=False, activation="softmax")(x))


@pytest.mark.parametrize("rule", ["epsilon", "alpha_beta", "composite"])
def test_the_score_is_kept_from_layer_to_layer_of_a_residual_network(rule):
    model = residual()
    maps, kept = explain.lrp(model, IMAGES, 1, rule=rule, return_layers=True)
    scores = explain.lrp(model, IMAGES, lambda logits: logits[:, 1], rule=rule).sum((1, 2))
    last = [layer for layer in model.layers if isinstance(layer, layers.Dense)][-1]
    pooled = keras.Model(model.inputs[0], last.input)(IMAGES).numpy()
    logit = pooled @ last.kernel.numpy()[:, 1]
    np.testing.assert_allclose(scores, maps.sum((1, 2)), rtol=1e-3)
    assert {"first", "branch", "sum"} < set(kept)
    if rule != "alpha_beta":  # of two parts of opposite signs, both have to be there
        np.testing.assert_allclose(kept["sum"], logit, rtol=1e-3)
        np.testing.assert_allclose(kept["first"], logit, rtol=1e-3)
        np.testing.assert_allclose(maps.sum((1, 2)), logit, rtol=1e-3)


@pytest.mark.parametrize(
    "bound",
    [
        lambda x: layers.Conv2D(4, 3, use_bias=False, activation="relu6")(x),
        lambda x: layers.ReLU(6.0)(layers.Conv2D(4, 3, use_bias=False)(x)),
        lambda x: layers.Activation("silu")(layers.Conv2D(4, 3, use_bias=False)(x)),
        lambda x: keras.ops.leaky_relu(layers.Conv2D(4, 3, use_bias=False)(x)),
    ],
    ids=["relu6", "bounded layer", "swish", "leaky operation"],
)
def test_nonlinearities_of_single_values_hand_on_all_relevance(bound):
    """Also where they are flat, as a relu6 above 6: the score is kept."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 2))
    x = layers.Flatten()(bound(inputs))
    model = keras.Model(inputs, layers.Dense(3, use_bias=False)(x))
    images = 30 * IMAGES
    score = model(images).numpy()[:, 1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # these models end in logits
        maps = explain.lrp(model, images, 1, rule="epsilon", score="probability")
    np.testing.assert_allclose(maps.sum((1, 2)), score, rtol=1e-3, atol=1e-3 * np.abs(score).max())


def test_normalization_and_depthwise_convolutions_share_as_linear_layers_do():
    """As in a MobileNet; without offsets nothing is lost."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(4, 3, use_bias=False)(inputs)
    x = layers.BatchNormalization(gamma_initializer="random_uniform")(x)
    x = layers.ReLU(6.0)(layers.DepthwiseConv2D(3, use_bias=False)(x))
    x = layers.PReLU(alpha_initializer=keras.initializers.Constant(0.2))(x)
    model = keras.Model(inputs, layers.Dense(3, use_bias=False)(layers.GlobalAveragePooling2D()(x)))
    maps = explain.lrp(model, IMAGES, 1, rule="epsilon", score="probability")
    np.testing.assert_allclose(maps.sum((1, 2)), model(IMAGES).numpy()[:, 1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "middle",
    [
        lambda x: layers.UpSampling2D(interpolation="bilinear")(x),
        lambda x: layers.SeparableConv2D(4, 3, use_bias=False)(x),
        lambda x: layers.Conv2DTranspose(4, 3, use_bias=False)(x),
        lambda x: layers.Average()([x, layers.Conv2D(4, 1, use_bias=False)(x)]),
        lambda x: layers.Subtract()([x, layers.Conv2D(4, 1, use_bias=False)(x)]),
        lambda x: layers.CenterCrop(4, 3)(x),
        lambda x: 3.0 * keras.ops.mean(x / 127.5, (1, 2), keepdims=True)[:, :, 0],
        lambda x: layers.Conv2D(3, 1, activation="sigmoid", use_bias=False)(x),
    ],
    ids=["resizing", "separable", "transposed", "average", "difference", "cropped", "operations", "sigmoid"],
)
def test_the_score_is_kept_through_linear_layers(middle):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 2))
    x = middle(layers.Conv2D(4, 3, use_bias=False, activation="relu")(inputs))
    model = keras.Model(inputs, layers.Dense(3, use_bias=False)(layers.Flatten()(x)))
    maps = explain.lrp(model, IMAGES, 1, rule="epsilon", score="probability")
    score = model(IMAGES).numpy()[:, 1]
    np.testing.assert_allclose(maps.sum((1, 2)), score, rtol=1e-3, atol=1e-4 * np.abs(score).max())


def test_causal_convolutions_keep_the_score():
    """Of a signal, whose first steps see zeros before it."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((9, 3))
    x = layers.Conv1D(4, 3, padding="causal", dilation_rate=2, use_bias=False, activation="relu")(inputs)
    model = keras.Model(inputs, layers.Dense(3, use_bias=False)(layers.Flatten()(x)))
    signals = np.random.default_rng(0).normal(size=(3, 9, 3)).astype("float32")
    maps = explain.lrp(model, signals, 1, rule="epsilon", score="probability")
    np.testing.assert_allclose(maps.sum(1), model(signals).numpy()[:, 1], rtol=1e-3, atol=1e-5)


def test_the_relevance_of_a_probability_adds_up_to_it():
    """A softmax hands on what it gets."""
    model = residual()
    maps = explain.lrp(model, IMAGES, 1, score="probability", rule="epsilon")
    np.testing.assert_allclose(maps.sum((1, 2)), model(IMAGES).numpy()[:, 1], rtol=1e-3)


def test_logits_of_a_dense_layer_are_no_probability_in_disguise():
    """A warning, which is an error here, would say so."""
    inputs = keras.Input((8, 8, 2))
    model = keras.Model(inputs, layers.Dense(3, use_bias=False)(layers.Flatten()(inputs)))
    maps = explain.lrp(model, IMAGES, 1)
    np.testing.assert_allclose(maps.sum((1, 2)), model(IMAGES).numpy()[:, 1], rtol=1e-3, atol=1e-5)


def test_a_layer_that_cannot_share_is_refused_by_name():
    inputs = keras.Input((8, 8, 2))
    x = layers.Multiply(name="gate")([inputs, layers.Conv2D(2, 1, activation="sigmoid")(inputs)])
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))
    with pytest.raises(ValueError, match="gate"):
        explain.lrp(model, IMAGES, 1)
    product = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(inputs * inputs)))
    with pytest.raises(ValueError, match="both depend on the input"):
        explain.lrp(product, IMAGES, 1)
