"""Guided backpropagation and the deconvnet against a second implementation with hand-made gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import explain

pytestmark = pytest.mark.numerics

layers = keras.layers


def rectifier(gate, activation, rule):
    """An autograd-only rectifier: its gradient is written out by hand."""

    @tf.custom_gradient
    def apply(x):
        def gradient(upstream):
            positive = tf.maximum(upstream, 0)
            return positive * gate(x) if rule == "guided" else positive

        return activation(x), gradient

    return apply


@pytest.fixture(scope="module")
def nested():
    """Every form of rectifier, in a model inside a model."""
    inner_inputs = keras.Input((10, 10, 2))
    x = layers.Conv2D(4, 3, activation="relu", name="fused")(inner_inputs)
    x = layers.Conv2D(4, 3, name="capped")(x)
    x = layers.ReLU(max_value=0.2)(x)
    x = layers.Conv2D(4, 3, name="leaky")(x)
    x = layers.LeakyReLU(0.3)(x)
    inner = keras.Model(inner_inputs, x, name="inner")
    inputs = keras.Input((10, 10, 2))
    x = layers.Conv2D(4, 2, name="named")(inner(inputs))
    x = layers.Activation("relu")(x)
    x = layers.Dense(6, name="functional")(layers.Flatten()(x))
    x = keras.ops.relu(x)
    x = layers.Dense(6, name="six")(x)
    x = layers.Activation(keras.activations.relu6)(x)
    return keras.Sequential([keras.Model(inputs, x), layers.Dense(3, activation="softmax", name="head")])


def oracle(model, images, number, rule):
    inner = model.layers[0].get_layer("inner")

    def step(x):
        return tf.cast(x, "float32")

    relu = rectifier(lambda x: step(x > 0), tf.nn.relu, rule)
    capped = rectifier(lambda x: step((x > 0) & (x < 0.2)), lambda x: tf.clip_by_value(x, 0, 0.2), rule)
    leaky = rectifier(lambda x: tf.where(x > 0, 1.0, 0.3), lambda x: tf.nn.leaky_relu(x, 0.3), rule)
    relu6 = rectifier(lambda x: step((x > 0) & (x < 6)), tf.nn.relu6, rule)

    def conv(x, layer):
        return tf.nn.conv2d(x, layer.kernel, 1, "VALID") + layer.bias

    images = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        x = relu(conv(images, inner.get_layer("fused")))
        x = capped(conv(x, inner.get_layer("capped")))
        x = leaky(conv(x, inner.get_layer("leaky")))
        x = relu(conv(x, model.layers[0].get_layer("named")))
        x = tf.reshape(x, (len(images), -1))
        for name, activation in [("functional", relu), ("six", relu6)]:
            dense = model.layers[0].get_layer(name)
            x = activation(x @ dense.kernel + dense.bias)
        head = model.layers[1]
        score = (x @ head.kernel + head.bias)[:, number]
    return tape.gradient(score, images)


@pytest.mark.parametrize(
    ("method", "rule"), [(explain.guided_backprop, "guided"), (explain.deconvnet, "deconvnet")]
)
def test_every_form_of_rectifier_is_guided_also_in_nested_models(nested, method, rule):
    images = np.random.default_rng(0).normal(size=(3, 10, 10, 2)).astype("float32")
    expected = oracle(nested, images, 1, rule)
    assert np.abs(expected).max() > 0
    maps = method(nested, images, 1, reduce=None)
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())
    plain = explain.saliency(nested, images, 1, reduce=None)
    assert np.abs(plain - maps).max() > 0.1 * np.abs(maps).max()


def test_guided_grad_cam_is_the_product(trained_cnn):
    model, images, _ = trained_cnn
    maps = explain.guided_grad_cam(model, images[:2], reduce=None)
    lines, where = (
        explain.guided_backprop(model, images[:2], reduce=None),
        explain.grad_cam(model, images[:2]),
    )
    assert np.abs(maps).max() > 0
    np.testing.assert_allclose(maps, lines * where[..., None], rtol=1e-6)


def test_the_plain_gradient_comes_back_afterwards(nested):
    images = np.random.default_rng(0).normal(size=(2, 10, 10, 2)).astype("float32")
    explain.guided_backprop(nested, images)
    with tf.GradientTape() as tape:
        x = tf.constant(images)
        tape.watch(x)
        inner = nested.layers[0](x)
        score = (inner @ nested.layers[1].kernel + nested.layers[1].bias)[:, 0]
    np.testing.assert_allclose(
        explain.saliency(nested, images, 0, reduce=None), tape.gradient(score, x), rtol=1e-4, atol=1e-7
    )


@keras.saving.register_keras_serializable("tests")
class HiddenRectifier(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(4, 3)

    def call(self, inputs):
        return keras.ops.relu(self.conv(inputs))


def test_a_rectifier_hidden_in_a_call_is_refused_rather_than_ignored():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            HiddenRectifier(),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    with pytest.raises(ValueError, match="inside a layer's own code.*hidden_rectifier"):
        explain.guided_backprop(model, np.ones((1, 8, 8, 1), "float32"))


def test_a_model_without_rectifiers_is_refused(linear, images):
    with pytest.raises(ValueError, match="none that can be reached"):
        explain.guided_backprop(linear[0], images)


class Coded(layers.Layer):
    """Calls a function in its own code."""

    def __init__(self, function, **options):
        super().__init__(**options)
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


class Gate(layers.Layer):
    """Squeeze-and-excitation (Hu et al. 2018)."""

    def build(self, shape):
        self.squeeze, self.excite = (
            layers.Dense(4, activation="relu"),
            layers.Dense(shape[-1], activation="sigmoid"),
        )

    def call(self, inputs):
        return inputs * self.excite(self.squeeze(keras.ops.mean(inputs, axis=(1, 2))))[:, None, None]


def between(function):
    """A network with what the function does between two convolutions, and one relu in its head."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(4, 3)(function(layers.Conv2D(4, 3)(inputs)))
    x = layers.Dense(4, activation="relu", bias_initializer="ones")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(x))


ops = keras.ops
UNGUIDED = {
    "swish": (layers.Activation("swish"), r"swish \(silu\) of layer"),
    "gelu": (layers.Activation("gelu"), "gelu of layer"),
    "elu": (lambda x: layers.ELU()(x), r"\(ELU\)"),
    "tanh": (layers.Activation("tanh"), "tanh of layer"),
    "hard swish": (layers.Activation("hard_swish"), "hard_swish"),
    "where": (lambda x: ops.where(x > 0, x, 0.0), "where at"),
    "threshold": (lambda x: ops.threshold(x, 0.0, 0.0), "threshold at"),
    "product with a comparison": (lambda x: x * ops.cast(x > 0, "float32"), "multiply at"),
    "half of the sum with its absolute": (lambda x: (x + ops.abs(x)) / 2, "absolute at"),
    "maximum": (lambda x: ops.maximum(x, 1e-3), "maximum at"),
    "clip": (lambda x: ops.clip(x, 0, 1), "clip at"),
    "square": (lambda x: ops.square(x), "square at"),
    "lambda": (
        lambda x: layers.Lambda(lambda t: tf.where(t > 0, t, tf.zeros_like(t)))(x),
        "where inside a layer's own",
    ),
    "own code": (lambda x: Coded(tf.nn.silu, name="mine")(x), "sigmoid inside a layer's own code, at 'mine'"),
    "tf.function": (
        lambda x: Coded(tf.function(tf.math.softplus), name="mine")(x),
        "softplus in a tf.function",
    ),
}


@pytest.mark.parametrize("name", UNGUIDED)
def test_a_network_of_which_a_part_is_not_guided_is_refused_by_name(name):
    function, message = UNGUIDED[name]
    model = between(function)
    with pytest.raises(ValueError, match=f"Found 1 that is.*{message}.*strict=False"):
        explain.guided_backprop(model, np.ones((1, 8, 8, 2), "float32"), 1)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: layers.LayerNormalization()(layers.ReLU(6.0)(x)),
        lambda x: layers.UnitNormalization()(layers.LeakyReLU()(x)),
        lambda x: layers.MaxPooling2D(2, 1)(layers.Dropout(0.5)(ops.relu(x))),
        lambda x: Gate()(layers.PReLU()(x)),
    ],
)
def test_pooling_normalization_or_gates_are_no_reason_to_refuse(function):
    maps = explain.guided_backprop(between(function), np.random.default_rng(0).normal(size=(1, 8, 8, 2)), 1)
    assert maps.shape == (1, 8, 8) and np.abs(maps).max() > 0


def test_what_is_not_guided_is_named_in_one_warning_where_asked_for():
    model = between(layers.Activation("swish", name="curved"))
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 2)).astype("float32")
    with pytest.warns(UserWarning, match="Found 1 that is, and 1 that cannot be: swish.*'curved'"):
        maps = explain.guided_backprop(model, images, 1, reduce=None, strict=False)
    dense, last = model.layers[-2:]
    lower = keras.Model(model.inputs, model.layers[-3].output)
    with tf.GradientTape() as tape:
        x = tf.constant(images)
        tape.watch(x)
        relu = rectifier(lambda x: tf.cast(x > 0, "float32"), tf.nn.relu, "guided")
        score = (relu(lower(x) @ dense.kernel + dense.bias) @ last.kernel + last.bias)[:, 1]
    np.testing.assert_allclose(maps, tape.gradient(score, x), rtol=1e-4, atol=1e-7)
    with pytest.raises(ValueError, match="strict to be True or False"):
        explain.guided_backprop(model, images, 1, strict="maybe")


def test_a_curve_in_a_loop_is_counted():
    with pytest.raises(ValueError, match="tanh of layer"):
        explain.guided_backprop(recurrent(unroll=False, activation="tanh"), SIGNALS, 1)


@pytest.mark.parametrize("kind", [keras.layers.SimpleRNN, keras.layers.GRU])
def test_a_rectifier_in_a_loop_is_guided_as_without_one(kind):
    maps = [explain.guided_backprop(recurrent(kind, unroll=unroll), SIGNALS, 1) for unroll in (True, False)]
    np.testing.assert_allclose(maps[1], maps[0], rtol=1e-5, atol=1e-7)


BENDS = {
    "log": lambda y: keras.ops.log(y + 1.0),
    "rsqrt": lambda y: keras.ops.rsqrt(y + 1.0),
    "quotient": lambda y: y / (1 + y),
    "power": lambda y: keras.ops.power(y + 0.1, 1.5),
    "sqrt": lambda y: keras.ops.sqrt(y + 0.1),
    "floor": lambda y: y - keras.ops.floor(y),
    "tan": keras.ops.tan,
}


@pytest.mark.parametrize("name", BENDS)
def test_what_bends_a_value_is_counted(name):
    inputs = keras.Input((6, 3))
    x = BENDS[name](keras.layers.Conv1D(4, 3, activation="relu")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling1D()(x)))
    with pytest.raises(ValueError, match="1 that is, and 1 that cannot be"):
        explain.guided_backprop(model, SIGNALS, 1)


SIGNALS = np.random.default_rng(0).normal(size=(2, 6, 3)).astype("float32")


def recurrent(kind=keras.layers.SimpleRNN, *, unroll, activation="relu"):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 3))
    x = keras.layers.Conv1D(4, 3, activation="relu")(inputs)
    return keras.Model(inputs, keras.layers.Dense(3)(kind(4, activation=activation, unroll=unroll)(x)))
