import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import layers, models
from recipes.diagnose import gradient_check

L = keras.layers


@keras.saving.register_keras_serializable(package="tests")
class WrongToInputs(keras.layers.Layer):
    """The identity, whose gradient claims to be 3 % larger."""

    def call(self, inputs):
        @tf.custom_gradient
        def identity(x):
            return tf.identity(x), lambda upstream: 1.03 * upstream

        return identity(inputs)


@keras.saving.register_keras_serializable(package="tests")
class WrongToWeights(keras.layers.Dense):
    """A Dense layer that forgets the batch's last example when it differentiates its kernel."""

    def call(self, inputs):
        @tf.custom_gradient
        def matmul(x, kernel):
            def gradient(upstream):
                return upstream @ tf.transpose(kernel), tf.transpose(x[:-1]) @ upstream[:-1]

            return x @ kernel, gradient

        return matmul(inputs, tf.convert_to_tensor(self.kernel)) + self.bias


def vectors(examples=6, features=5, classes=3):
    random = np.random.default_rng(0)
    return random.normal(size=(examples, features)).astype("float32"), random.integers(classes, size=examples)


def images(examples=4, size=8, channels=2):
    random = np.random.default_rng(0)
    return random.normal(size=(examples, size, size, channels)).astype("float32"), random.integers(
        3, size=examples
    )


def network(*stack, shape=(5,)):
    model = keras.Sequential([keras.Input(shape), *stack])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def test_a_smooth_network_agrees_to_the_lectures_seven_digits():
    report = gradient_check(network(L.Dense(7, activation="tanh"), L.Dense(3)), vectors(), samples=4)
    assert report.dtype == "float64" and report.examples == 6
    assert len(report.checks) == 4 and report.worst < 1e-7 and report.verdict == "fine"
    assert not report.wrong_layers
    assert "4 variables checked in float64 on 6 examples: fine" in str(report)


def test_the_numbers_reported_are_the_derivatives():
    model = keras.Sequential([keras.Input((2,)), L.Dense(1, use_bias=False)])
    model.compile("sgd", "mse")
    model.layers[0].kernel.assign([[1.0], [2.0]])
    x, y = np.array([[3.0, 1.0]], "float32"), np.array([[1.0]], "float32")
    (check,) = gradient_check(model, (x, y), samples=1).checks
    assert check.variable.endswith("kernel") and check.layer == model.layers[0].path
    # Squared error of 5 against 1: the gradient is 2 * 4 * (3, 1), along an axis or another unit vector.
    assert 0 < abs(check.analytic) <= 8 * np.sqrt(10) * 1.01
    assert check.numeric == pytest.approx(check.analytic, rel=1e-8)


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.MaxoutConv2D(3, 3),
        lambda: layers.DropConnect(L.Conv2D(3, 3), 0.5, seed=1),
        lambda: layers.FractionalMaxPooling2D(1.5, seed=1),
        lambda: layers.FractionalMaxPooling2D(1.3, seed=1, pseudo_random=True, overlapping=True),
        lambda: layers.InstanceNormalization(),
        lambda: layers.IdentityShortcut(4, 2),
        lambda: layers.ScalarAffine(use_gain=True),
        lambda: layers.StochasticDepth(0.5, seed=1),
        lambda: layers.Maxout(4),
    ],
    ids="maxout_conv drop_connect fractional fractional_overlap instance shortcut affine depth maxout".split(),
)
def test_every_layer_of_ours_passes(layer):
    model = network(L.Conv2D(3, 3, name="below"), layer(), L.Flatten(), L.Dense(3), shape=(8, 8, 2))
    report = gradient_check(model, images(), samples=2)
    assert report.dtype == "float64"
    assert report.worst < 1e-6, report


def test_dropout_batch_normalization_and_penalties_are_differentiated_as_training_does():
    model = network(
        L.Dense(8, kernel_regularizer="l2"),
        L.BatchNormalization(),
        L.Dropout(0.5),
        L.GaussianNoise(0.3),
        L.Dense(3),
    )
    norm = model.layers[1]
    before = [np.asarray(variable) for variable in model.variables]
    report = gradient_check(model, vectors(examples=8), samples=2)
    assert report.worst < 1e-6, report
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert norm.compute_dtype == "float32" and keras.config.floatx() == "float32"


def test_kinks_are_no_mistakes():
    # Black images and zero biases: every pre-activation of those examples is exactly 0.
    model = network(L.Dense(6, activation="relu"), L.Dense(6), L.ReLU(), L.Dense(3))
    x, y = vectors()
    x[:3] = 0
    report = gradient_check(model, (x, y), samples=4)
    assert report.verdict == "fine", report


def test_a_wrong_gradient_to_the_inputs_is_caught_and_its_layer_named():
    model = network(L.Dense(6, name="first"), WrongToInputs(name="planted"), L.Dense(3, name="last"))
    report = gradient_check(model, vectors())
    errors = {"/".join(check.variable.split("/")[-2:]): check.error for check in report.checks}
    # 3 % too large everywhere below the layer, right above it.
    assert errors["first/kernel"] == pytest.approx(0.03 / 1.03, rel=1e-3)
    assert errors["first/bias"] == pytest.approx(0.03 / 1.03, rel=1e-3)
    assert errors["last/kernel"] < 1e-6
    assert report.verdict == "wrong" and [path.split("/")[-1] for path in report.wrong_layers] == ["planted"]
    assert "planted' is wrong" in str(report)


def test_a_wrong_gradient_to_the_weights_is_caught_inside_a_nested_model():
    inner = keras.Sequential([keras.Input((6,)), WrongToWeights(4, name="planted"), L.ReLU()], name="inner")
    report = gradient_check(network(L.Dense(6), inner, L.Dense(3)), vectors())
    assert report.verdict == "wrong"
    assert [path.split("/")[-1] for path in report.wrong_layers] == ["planted"]
    worst = max(report.checks, key=lambda check: check.error)
    assert worst.variable.endswith("planted/kernel")


def test_of_a_layer_made_of_layers_the_part_at_fault_is_named():
    wrapped = layers.DropConnect(WrongToWeights(4, name="planted"), 0.0, name="wrapper")
    report = gradient_check(network(L.Dense(6), wrapped, L.Dense(3)), vectors())
    assert [path.split("/")[-1] for path in report.wrong_layers] == ["planted"]


class Untold(keras.Model):
    """Takes what no configuration can hold."""

    def __init__(self, function, planted):
        super().__init__()
        self.function = function
        self.first = keras.layers.Dense(6)
        self.planted = WrongToInputs(name="planted") if planted else keras.layers.Identity()
        self.last = keras.layers.Dense(3)

    def call(self, inputs):
        return self.last(self.planted(self.function(self.first(inputs))))


def test_in_float32_kinks_are_left_out_and_counted():
    # A ReLU that stands at 0 for black images, in a model that cannot be copied to be moved from there.
    model = Untold(lambda x: keras.ops.relu(x), False)
    x, y = vectors()
    x[:3] = 0
    model(x)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    report = gradient_check(model, (x, y), samples=3)
    assert report.dtype == "float32" and report.verdict == "fine", report
    assert {check.variable.split("/")[-1] for check in report.checks if check.kinks} == {"bias"}


@pytest.mark.parametrize("planted", [False, True])
def test_a_model_that_cannot_be_copied_is_checked_in_float32_and_says_so(planted):
    model = Untold(lambda x: keras.ops.tanh(x), False)
    model.planted = WrongTwofold(name="planted") if planted else model.planted
    x, y = vectors()
    model(x)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = model.get_weights()
    report = gradient_check(model, (x, y))
    assert report.dtype == "float32" and "could not be copied to float64" in str(report)
    assert report.verdict == ("wrong" if planted else "fine"), report
    assert [path.split("/")[-1] for path in report.wrong_layers] == ["planted"] * planted
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


class WrongTwofold(keras.layers.Layer):
    def call(self, inputs):
        @tf.custom_gradient
        def identity(x):
            return tf.identity(x), lambda upstream: 2.0 * upstream

        return identity(inputs)


def test_sample_weights_several_outputs_and_mixed_precision():
    image = keras.Input((5,))
    x = L.Dense(6, activation="gelu", dtype="mixed_float16")(image)
    outputs = {
        "class": L.Dense(3, name="class", dtype="float32")(x),
        "value": L.Dense(1, name="value", dtype="float32")(x),
    }
    model = keras.Model(image, outputs)
    losses = {"class": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "value": "mse"}
    model.compile("sgd", losses, loss_weights={"class": 1.0, "value": 0.3})
    x, y = vectors()
    report = gradient_check(model, (x, {"class": y, "value": x[:, :1]}))
    assert report.dtype == "float64" and report.worst < 1e-6, report
    single = network(L.Dense(3))
    first, last = (
        gradient_check(single, (x, y, weights), samples=0).checks[0].analytic
        for weights in (np.ones(6, "float32"), np.full(6, 2.0, "float32"))
    )
    assert last == pytest.approx(2 * first)


def test_our_networks_have_right_gradients(digits):
    pixels, labels = digits
    model = models.resnet((8, 8, 1), 10, depth=8, activation="gelu", norm="group")
    report = gradient_check(
        model, (pixels[:4], labels[:4]), loss="sparse_categorical_crossentropy", samples=0
    )
    assert report.worst < 1e-5, report


def test_unusable_requests_are_refused():
    model = keras.Sequential([keras.Input((5,)), L.Dense(3)])
    x, y = vectors()
    with pytest.raises(ValueError, match="compiled model or loss="):
        gradient_check(model, (x, y))
    with pytest.raises(ValueError, match=r"batch=\(inputs, labels\)"):
        gradient_check(model, x, loss="mse")
    with pytest.raises(ValueError, match="expects a finite loss"):
        gradient_check(network(L.Dense(3)), (x * np.nan, y))
    model.trainable = False
    with pytest.raises(ValueError, match="something to train"):
        gradient_check(model, (x, y), loss="mse")

    class Restless(keras.layers.Layer):
        def call(self, inputs):
            return inputs * tf.random.uniform(())

    with pytest.raises(ValueError, match="the same loss from the same weights"):
        gradient_check(network(L.Dense(3), Restless()), (x, y))
