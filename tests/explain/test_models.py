"""Every kind of model: the map is that of an equivalent plain model, or of an explicit calculation."""

from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import explain
from recipes.explain.attribution.cam import fold_tokens
from recipes.explain.engine import tracing

layers = keras.layers

# Small random networks leave Score-CAM without a place that speaks for a class; test_score_cam looks at that.
pytestmark = [pytest.mark.numerics, pytest.mark.filterwarnings("ignore:score_cam found no place")]


def body(x, **options):
    x = layers.Conv2D(4, 3, padding="same", activation="relu", **options)(x)
    x = layers.MaxPooling2D(2, **options)(x)
    x = layers.Conv2D(6, 3, padding="same", **options)(x)
    return layers.ReLU()(x)


def head(x, **options):
    return layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D(**options)(x))


def plain(shape=(12, 10, 2)):
    inputs = keras.Input(shape)
    return keras.Model(inputs, head(body(inputs)))


@pytest.fixture(scope="module")
def reference():
    """A Functional model, images, and its maps: what every other way of writing it must reproduce."""
    keras.utils.set_random_seed(3)
    model = plain()
    images = np.random.default_rng(0).normal(size=(3, 12, 10, 2)).astype("float32")
    return model, images, explain.saliency(model, images, 1), explain.grad_cam(model, images, 1)


def same(model, images, saliency, grad_cam, **options):
    np.testing.assert_allclose(explain.saliency(model, images, 1, **options), saliency, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(explain.grad_cam(model, images, 1, **options), grad_cam, rtol=1e-4, atol=1e-7)


class Subclassed(keras.Model):
    """No graph to look into: layers in a list, called in a loop, the softmax in plain TensorFlow."""

    def __init__(self):
        super().__init__()
        self.stages = [
            layers.Conv2D(4, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            keras.Sequential([layers.Conv2D(6, 3, padding="same"), layers.ReLU()], name="late"),
            layers.GlobalAveragePooling2D(),
        ]
        self.classify = layers.Dense(3)

    def call(self, inputs):
        for stage in self.stages:
            inputs = stage(inputs)
        return tf.nn.softmax(self.classify(inputs))


def test_the_last_convolution_inside_a_nested_base_is_found(reference):
    model, images, saliency, grad_cam = reference
    inner = keras.Input((12, 10, 2))
    base = keras.Model(inner, body(inner), name="base")
    inputs = keras.Input((12, 10, 2))
    nested = keras.Model(inputs, head(layers.Dropout(0.5)(keras.Sequential([base], name="wrap")(inputs))))
    nested.set_weights(model.get_weights())
    same(nested, images, saliency, grad_cam)
    late = [layer.name for layer in base.layers if isinstance(layer, layers.Conv2D)][-1]
    for name in (late, f"wrap/base/{late}", base.get_layer(late)):
        maps = explain.grad_cam(nested, images, 1, layer=name, resize=False)
        expected = explain.grad_cam(
            model,
            images,
            1,
            layer=[layer for layer in model.layers if "conv" in layer.name][-1],
            resize=False,
        )
        np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-7)


def test_subclassed_models_are_explained_like_functional_ones(reference):
    model, images, saliency, grad_cam = reference
    subclassed = Subclassed()
    subclassed(images)
    subclassed.set_weights(model.get_weights())
    same(subclassed, images, saliency, grad_cam)
    np.testing.assert_allclose(
        explain.grad_cam(subclassed, images[1], 1, layer="late"), grad_cam[1], rtol=1e-4
    )
    same(model, images, saliency, grad_cam, compile=False)
    with pytest.raises(ValueError, match=r"shape \(n, None, None, 2\)"):
        explain.saliency(subclassed, images[..., 0, 0])
    with pytest.raises(
        ValueError, match=r"one image without the first axis. Received shape \(3, 12, 10, 1\)"
    ):
        explain.saliency(subclassed, images[..., :1])


def test_saved_and_loaded_models_give_the_same_maps(reference, tmp_path):
    model, images, saliency, grad_cam = reference
    model.save(tmp_path / "model.keras")
    same(keras.models.load_model(tmp_path / "model.keras"), images, saliency, grad_cam)


def test_integer_images_are_read_as_the_numbers_they_are(reference):
    model, _, _, _ = reference
    images = np.random.default_rng(1).integers(0, 256, (2, 12, 10, 2)).astype("uint8")
    for method in (explain.saliency, explain.grad_cam, explain.gradient_times_input):
        np.testing.assert_array_equal(method(model, images), method(model, images.astype("float32")))


def channels_first(model):
    """The reference with its channels first."""
    inputs = keras.Input((2, 12, 10))
    first = {"data_format": "channels_first"}
    other = keras.Model(inputs, head(body(inputs, **first), **first))
    other.set_weights(model.get_weights())
    return other


def test_a_processor_without_that_gradient_says_what_to_do(
    reference, monkeypatch, differentiates_channels_first
):
    model, images, *_ = reference
    if differentiates_channels_first:
        failure = tf.errors.InvalidArgumentError(
            None, None, "Conv2DCustomBackpropInputOp only supports NHWC."
        )
        monkeypatch.setattr(tracing, "_evaluate", mock.Mock(side_effect=failure))
    with pytest.raises(ValueError, match="TF_ENABLE_ONEDNN_OPTS=1"):
        explain.saliency(channels_first(model), np.moveaxis(images, -1, 1))


def test_channels_first_gives_the_same_maps(reference, needs_channels_first):
    model, images, saliency, grad_cam = reference
    other = channels_first(model)
    turned = np.moveaxis(images, -1, 1)
    same(other, turned, saliency, grad_cam)
    for method, options in [
        (explain.occlusion, {"patch": 4, "stride": 3, "value": "mean"}),
        (explain.rise, {"masks": 8, "cells": 3}),
        (explain.score_cam, {"top": 2}),
        (explain.class_activation_map, {}),
        (explain.layer_cam, {}),
        (explain.integrated_gradients, {"steps": 4, "baseline": "blur"}),
        (explain.guided_grad_cam, {}),
    ]:
        np.testing.assert_allclose(
            method(other, turned, 1, **options), method(model, images, 1, **options), rtol=1e-3, atol=1e-5
        )


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_stays_close_to_single(reference, policy):
    model, images, saliency, grad_cam = reference
    keras.config.set_dtype_policy(policy)
    try:
        inputs = keras.Input((12, 10, 2))
        x = layers.Dense(3)(layers.GlobalAveragePooling2D()(body(inputs)))
        half = keras.Model(inputs, layers.Activation("softmax", dtype="float32")(x))
    finally:
        keras.config.set_dtype_policy("float32")
    half.set_weights(model.get_weights())
    close = 0.01 if policy == "mixed_float16" else 0.06
    for method, expected in ((explain.saliency, saliency), (explain.grad_cam, grad_cam)):
        maps = method(half, images, 1)
        assert maps.dtype == "float32"
        assert np.abs(maps - expected).max() < close * np.abs(expected).max()
    assert half.layers[1].dtype_policy.name == policy


def test_signals_and_volumes():
    """A signal is an image one pixel high, a volume whose depth never mixes a stack of them."""
    keras.utils.set_random_seed(4)
    rng = np.random.default_rng(0)
    inputs = keras.Input((16, 2))
    x = layers.Conv1D(5, 3, padding="same", activation="relu")(inputs)
    model = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))
    images = rng.normal(size=(2, 16, 2)).astype("float32")
    inputs = keras.Input((1, 16, 2))
    x = layers.Conv2D(5, (1, 3), padding="same", activation="relu")(inputs)
    flat = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    flat.set_weights([w[None] if w.ndim == 3 else w for w in model.get_weights()])
    inputs = keras.Input((1, 1, 16, 2))
    x = layers.Conv3D(5, (1, 1, 3), padding="same", activation="relu")(inputs)
    deep = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling3D()(x)))
    deep.set_weights([w[None, None] if w.ndim == 3 else w for w in model.get_weights()])
    for method, options in [
        (explain.saliency, [{}] * 3),
        (explain.grad_cam, [{"relu": False}] * 3),
        (explain.layer_cam, [{}] * 3),
        (explain.guided_backprop, [{}] * 3),
        (
            explain.occlusion,
            [
                {"patch": 5, "stride": 3},
                {"patch": (1, 5), "stride": (1, 3)},
                {"patch": (1, 1, 5), "stride": (1, 1, 3)},
            ],
        ),
    ]:
        maps = method(model, images, 2, **options[0])
        assert maps.shape == (2, 16) and np.abs(maps).max() > 0
        np.testing.assert_allclose(method(flat, images[:, None], 2, **options[1])[:, 0], maps, atol=1e-6)
        np.testing.assert_allclose(
            method(deep, images[:, None, None], 2, **options[2])[:, 0, 0], maps, atol=1e-6
        )
    assert method(model, images[0], 2, **options[0]).shape == (16,)


@pytest.fixture(scope="module")
def two_sided():
    """Two image inputs and a number; two outputs; one convolution shared by both images."""
    left, right, number = (
        keras.Input((8, 8, 1), name="left"),
        keras.Input((8, 8, 1), name="right"),
        keras.Input((1,), name="number"),
    )
    shared = layers.Conv2D(4, 3, activation="relu", name="shared")
    a, b = (layers.GlobalAveragePooling2D()(shared(side)) for side in (left, right))
    x = layers.Concatenate()([a, keras.ops.multiply(b, 2.0), number])
    outputs = {
        "kind": layers.Dense(3, activation="softmax", name="kind")(x),
        "size": layers.Dense(1, name="size")(x),
    }
    model = keras.Model([left, right, number], outputs)
    rng = np.random.default_rng(0)
    images = [rng.normal(size=(2, 8, 8, 1)).astype("float32") for _ in range(2)]
    return model, [*images, np.ones((2, 1), "float32")]


def test_inputs_outputs_and_calls_are_chosen_by_name(two_sided):
    model, inputs = two_sided
    kernel = model.get_layer("size").kernel.numpy()[:, 0]
    shared = model.get_layer("shared")
    for call_index, (name, weights) in enumerate({"left": kernel[:4], "right": 2 * kernel[4:8]}.items()):
        activations = np.asarray(shared(inputs[call_index]))
        # Behind an average over 36 positions every position's gradient is weight / 36.
        expected = np.maximum((activations * weights / 36).sum(-1), 0)
        maps = explain.grad_cam(
            model, inputs, {"size": 0}, layer="shared", call_index=call_index, wrt=name, resize=False
        )
        np.testing.assert_allclose(maps, expected, atol=1e-6)
        with tf.GradientTape() as tape:
            x = [tf.constant(value) for value in inputs]
            tape.watch(x)
            size = model(x)["size"]
        gradient = tape.gradient(size, x[call_index])
        for given in (inputs, dict(zip(["left", "right", "number"], inputs, strict=True))):
            np.testing.assert_allclose(
                explain.saliency(model, given, {"size": 0}, wrt=name, reduce="sum"),
                gradient[..., 0],
                atol=1e-6,
            )
    maps = explain.occlusion(model, inputs, {"kind": None}, wrt="right", patch=3, stride=3)
    assert maps.shape == (2, 8, 8) and np.abs(maps).max() > 0


def test_what_is_ambiguous_is_asked_for(two_sided):
    model, inputs = two_sided
    for options, message in [
        ({"target": {"size": 0}}, "wrt= among"),
        ({"target": 0, "wrt": 0}, "2 outputs.*target=.*kind"),
        ({"target": {"weight": 0}, "wrt": 0}, "Received output 'weight'"),
        ({"target": {"size": 0}, "wrt": "up"}, "wrt='up'"),
    ]:
        with pytest.raises(ValueError, match=message):
            explain.saliency(model, inputs, **options)
    with pytest.raises(ValueError, match="call_index=2"):
        explain.grad_cam(model, inputs, {"size": 0}, wrt=0, layer="shared", call_index=2)
    with pytest.raises(ValueError, match="list of 3 arrays"):
        explain.saliency(model, inputs[:2], {"size": 0}, wrt=0)


def test_tokens_of_a_vision_transformer_fold_to_their_grid():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 24, 3))
    x = layers.Conv2D(8, 4, strides=4, name="patches")(inputs)
    x = layers.Reshape((24, 8))(x)
    start = layers.Lambda(lambda t: keras.ops.zeros_like(t[:, :1]), output_shape=(1, 8))(x)
    x = layers.Concatenate(axis=1)([start, x])
    normal = layers.LayerNormalization(name="norm")(x)
    x = layers.Add(name="sum")([x, layers.MultiHeadAttention(2, 4, name="attention")(normal, normal)])
    model = keras.Model(inputs, layers.Dense(5, name="head")(layers.Lambda(lambda t: t[:, 0])(x)))
    images = np.random.default_rng(0).normal(size=(2, 16, 24, 3)).astype("float32")
    maps = explain.grad_cam(model, images, 1, layer="norm", tokens=(4, 6), relu=False, resize=False)
    assert maps.shape == (2, 4, 6)
    lower = keras.Model(model.inputs[0], [model.get_layer("norm").output, model.get_layer("sum").input[0]])
    tokens, residual = lower(images)
    with tf.GradientTape() as tape:
        tape.watch(tokens)
        summed = residual + model.get_layer("attention")(tokens, tokens)
        score = model.get_layer("head")(summed[:, 0])[:, 1]
    gradient = tape.gradient(score, tokens).numpy()[:, 1:]
    expected = (tokens.numpy()[:, 1:] * gradient.mean(1, keepdims=True)).sum(-1).reshape(2, 4, 6)
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-6)
    guessed = explain.grad_cam(model, images, 1, layer="norm", relu=False, resize=False)
    np.testing.assert_array_equal(guessed, maps)
    with pytest.raises(ValueError, match=r"24 tokens.*image of \(12, 24\).*tokens=\(rows, columns\)"):
        fold_tokens(np.zeros((1, 24, 2)), None, (12, 24), "norm", "grad_cam")
    with pytest.raises(ValueError, match="product is 25, or up to 2 less"):
        explain.grad_cam(model, images, 1, layer="norm", tokens=(5, 6))
    entering = model.get_layer("sum").input[0]._keras_history.operation.name
    assert explain.grad_cam(model, images, 1, return_layer=True)[1] == entering


class Untraceable(keras.Model):
    """Looks at its input's values in Python, as only an eager model can."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, inputs):
        if bool(tf.reduce_sum(inputs) > 1e9):
            return 2 * self.inner(inputs)
        return self.inner(inputs)


def test_a_model_that_cannot_be_traced_runs_eagerly_and_says_so_once(reference):
    model, images, saliency, grad_cam = reference
    eager = Untraceable(model)
    eager(images)
    with pytest.warns(UserWarning, match="runs eagerly"):
        np.testing.assert_allclose(explain.saliency(eager, images, 1), saliency, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(explain.grad_cam(eager, images, 1), grad_cam, rtol=1e-4, atol=1e-7)
    with pytest.raises(Exception, match="bool"):
        explain.saliency(eager, images, 1, compile=True)


def test_a_network_of_keras_applications_is_explained_at_its_last_activation():
    model = keras.applications.MobileNetV2((64, 64, 3), alpha=0.35, weights=None, classes=4)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 3)).astype("float32")
    maps = explain.grad_cam(model, images, relu=False, resize=False)
    assert maps.shape == (2, 2, 2) and np.abs(maps).max() > 0
    np.testing.assert_array_equal(
        maps, explain.grad_cam(model, images, layer="out_relu", relu=False, resize=False)
    )
