"""Scores of saturated outputs, against gradients taken of the logits they were made from."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import explain

pytestmark = pytest.mark.numerics
layers, ops = keras.layers, keras.ops
IMAGES = np.random.default_rng(0).uniform(-1, 1, (3, 6, 6, 2)).astype("float32")


def log_of_sum(*terms):
    return tf.reduce_logsumexp(tf.stack(terms), 0)


def softmax(values):
    return tf.nn.log_softmax(values)[:, 1]


def hand_made(values):
    powers = ops.exp(values - ops.max(values, -1, keepdims=True))
    return powers / ops.sum(powers, -1, keepdims=True)


def squares(values):
    return ops.softmax(values) ** 2


def without_third(probabilities):
    left = probabilities * np.array([1, 1, 0, 1, 1], "float32")
    return left / ops.sum(left, -1, keepdims=True)


def rest(values):
    """Of five logits, what the four beside class 1 come to."""
    return log_of_sum(*[values[:, number] for number in (0, 2, 3, 4)])


# How the model goes on from two Dense layers: what class 1 scores, from their values.
SINGLE = {
    "cast": (lambda a, b: ops.cast(layers.Softmax(dtype="float16")(a), "float32"), lambda a, b: a[:, 1]),
    "temperature": (lambda a, b: ops.softmax(a / 3.0), lambda a, b: a[:, 1] / 3),
    "log-softmax": (lambda a, b: ops.log_softmax(a), lambda a, b: a[:, 1]),
    "log of softmax": (lambda a, b: ops.log(ops.softmax(a) + 1e-9), lambda a, b: a[:, 1]),
    "softmax by hand": (lambda a, b: hand_made(a), lambda a, b: a[:, 1]),
    "sharpened by hand": (
        lambda a, b: squares(a) / ops.sum(squares(a), -1, keepdims=True),
        lambda a, b: 2 * a[:, 1],
    ),
    "without NaN": (lambda a, b: ops.nan_to_num(ops.softmax(a)), lambda a, b: a[:, 1]),
    "rectified": (lambda a, b: ops.relu(ops.softmax(a)), lambda a, b: a[:, 1]),
    "without a class": (lambda a, b: without_third(ops.softmax(a)), lambda a, b: a[:, 1]),
    "mask of a layer": (
        lambda a, b: layers.Softmax()(a, mask=ops.ones_like(a, dtype="bool")),
        lambda a, b: a[:, 1],
    ),
    "log-softmax by hand": (lambda a, b: a - ops.logsumexp(a, -1, keepdims=True), lambda a, b: a[:, 1]),
    "smoothed": (lambda a, b: ops.softmax(a) * 0.9 + 0.02, lambda a, b: a[:, 1]),
    "clipped": (lambda a, b: ops.clip(ops.softmax(a), 1e-7, 1 - 1e-7), lambda a, b: a[:, 1]),
    "some classes": (lambda a, b: ops.softmax(a)[:, 1:4], lambda a, b: a[:, 1]),
    "one probability": (lambda a, b: ops.softmax(a)[:, 1], lambda a, b: a[:, 1] - rest(a)),
    "two heads beside": (
        lambda a, b: layers.Concatenate()([ops.softmax(a), ops.softmax(b)]),
        lambda a, b: a[:, 1],
    ),
    "many sigmoids": (lambda a, b: ops.sigmoid(a), lambda a, b: a[:, 1]),
    "mean of log-softmax": (
        lambda a, b: (ops.log_softmax(a) + ops.log_softmax(b)) / 2,
        lambda a, b: (a + b)[:, 1] / 2,
    ),
    "scaled values": (lambda a, b: a / 2.5, lambda a, b: a[:, 1] / 2.5),
}
SEVERAL = {
    "average": (
        lambda a, b: layers.Average()([ops.softmax(a), ops.softmax(b)]),
        lambda a, b: log_of_sum(softmax(a), softmax(b)),
    ),
    "sum": (lambda a, b: ops.softmax(a) + ops.softmax(b), lambda a, b: log_of_sum(softmax(a), softmax(b))),
    "weighted": (
        lambda a, b: 0.25 * ops.softmax(a) + 0.75 * ops.softmax(b),
        lambda a, b: log_of_sum(softmax(a), softmax(b) + np.log(3)),
    ),
    "mean of a stack": (
        lambda a, b: ops.mean(ops.stack([ops.softmax(a), ops.softmax(b)], 1), 1),
        lambda a, b: log_of_sum(softmax(a), softmax(b)),
    ),
    "matrix product": (
        lambda a, b: ops.einsum(
            "m,mnc->nc", np.float32([0.5, 0.5]), ops.stack([ops.softmax(a), ops.softmax(b)])
        ),
        lambda a, b: log_of_sum(softmax(a), softmax(b)),
    ),
    "product": (lambda a, b: ops.softmax(a) * ops.softmax(b), lambda a, b: softmax(a) + softmax(b)),
    "sigmoids": (
        lambda a, b: layers.Average()([ops.sigmoid(a), ops.sigmoid(b)]),
        lambda a, b: log_of_sum(tf.math.log_sigmoid(a[:, 1]), tf.math.log_sigmoid(b[:, 1])),
    ),
}
# One value stands for two classes: what class 0 scores.
BINARY = {
    "reshaped": lambda a, b: layers.Reshape(())(ops.sigmoid(a)),
    "squeezed": lambda a, b: ops.squeeze(ops.sigmoid(a), -1),
    "sliced": lambda a, b: ops.sigmoid(a)[:, 0],
    "from -1 to 1": lambda a, b: 2 * ops.sigmoid(a) - 1,
    "two columns": lambda a, b: layers.Concatenate()([1 - ops.sigmoid(a), ops.sigmoid(a)]),
    "by hand": lambda a, b: 1 / (1 + ops.exp(-a)),
}


def built(end, classes):
    """`(model, model of the two Dense layers)`; the Dense layers are so large that probabilities saturate."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 2))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3, activation="relu")(inputs))
    wide = keras.initializers.RandomNormal(stddev=40.0)
    first, second = (layers.Dense(classes, kernel_initializer=wide)(x) for _ in range(2))
    return keras.Model(inputs, end(first, second)), keras.Model(inputs, [first, second])


def check(model, values, score, target, compile):
    images = tf.constant(IMAGES)
    with tf.GradientTape() as tape:
        tape.watch(images)
        total = score(*values(images, training=False))
    expected = tape.gradient(total, images).numpy()
    maps = explain.saliency(model, IMAGES, target, reduce=None, compile=compile)
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", SINGLE)
def test_the_score_is_what_stands_before_the_squashing(name):
    end, score = SINGLE[name]
    model, values = built(end, 5)
    target = 0 if name == "some classes" else 1
    if name == "one probability":
        check(model, values, lambda a, b: -score(a, b), 0, "auto")
    check(model, values, score, target, "auto")
    check(model, values, score, target, False)


@pytest.mark.parametrize("name", SEVERAL)
def test_the_score_of_joined_probabilities_is_their_logarithm(name):
    end, score = SEVERAL[name]
    model, values = built(end, 5)
    with pytest.warns(UserWarning, match="averaged, added or multiplied"):
        check(model, values, score, 1, "auto")
    check(model, values, score, 1, False)  # said once


@pytest.mark.parametrize("name", BINARY)
def test_a_single_sigmoid_is_two_classes_however_it_is_shaped(name):
    model, values = built(BINARY[name], 1)
    for target, sign in ((0, -1), (1, 1)):
        for compile in ("auto", False):
            check(model, values, lambda a, b, sign=sign: sign * a[:, 0], target, compile)


def test_averaged_sigmoids_score_both_classes():
    model, values = built(lambda a, b: layers.Average()([ops.sigmoid(a), ops.sigmoid(b)]), 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for target, sign in ((0, -1), (1, 1)):
            log = lambda value, sign=sign: tf.math.log_sigmoid(sign * value[:, 0])  # noqa: E731
            check(model, values, lambda a, b, log=log: log_of_sum(log(a), log(b)), target, "auto")


def test_what_cannot_be_taken_apart_is_said_once():
    model, _ = built(lambda a, b: ops.maximum(ops.softmax(a), ops.softmax(b)), 5)
    with pytest.warns(UserWarning, match="did not find it"):
        explain.saliency(model, IMAGES, 1)
    explain.saliency(model, IMAGES, 1, compile=False)
    with pytest.warns(UserWarning, match="did not find it"):
        explain.saliency(keras.Model(model.inputs, model.outputs), IMAGES, lambda outputs: outputs[:, 1])


class Subclassed(keras.Model):
    """Its softmax is called in its own code."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def call(self, inputs):
        return tf.nn.softmax(self.values(inputs)[0])


@pytest.mark.parametrize("method", ["saliency", "grad_cam", "class_activation_map", "occlusion"])
def test_an_eager_pass_explains_what_a_traced_one_does(method):
    _, values = built(lambda a, b: a, 5)
    model = Subclassed(values)
    model(IMAGES)
    options = {"patch": 2, "stride": 2} if method == "occlusion" else {}
    maps = [
        getattr(explain, method)(model, IMAGES, 1, compile=compile, **options) for compile in ("auto", False)
    ]
    assert np.abs(maps[0]).max() > 1e-3
    np.testing.assert_allclose(maps[1], maps[0], rtol=1e-3, atol=1e-4 * np.abs(maps[0]).max())
