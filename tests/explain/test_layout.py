"""Where the channels of an input are, and what becomes of inputs without any."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import explain

pytestmark = pytest.mark.numerics
layers, ops = keras.layers, keras.ops
RNG = np.random.default_rng(0)
LAST = RNG.normal(size=(2, 10, 12, 3)).astype("float32")
FIRST = np.moveaxis(LAST, -1, 1)


@pytest.fixture(scope="module")
def parts():
    """A convolution and a head that all models here share, and the model of them alone."""
    keras.utils.set_random_seed(0)
    body = layers.Conv2D(4, 3, activation="relu", name="body")
    head = keras.Sequential([layers.GlobalAveragePooling2D(), layers.Dense(3)])
    inputs = keras.Input((10, 12, 3))
    return body, head, keras.Model(inputs, head(body(inputs)))


TURNS = {
    "permute": layers.Permute((2, 3, 1)),
    "transpose": lambda x: ops.transpose(x, (0, 2, 3, 1)),
    "moveaxis": lambda x: ops.moveaxis(x, 1, -1),
    "after a scaling": lambda x: ops.transpose(layers.Rescaling(1.0)(x), (0, 2, 3, 1)),
    "lambda": lambda x: layers.Lambda(lambda t: tf.transpose(t, [0, 2, 3, 1]))(x),
}
METHODS = {
    "saliency": {},
    "integrated_gradients": {"steps": 2, "baseline": "mean"},
    "smooth_grad": {"samples": 2, "noise": 0.0},
    "guided_grad_cam": {},
    "grad_cam": {"relu": False},
    "occlusion": {"patch": 4, "stride": 3, "value": "mean"},
    "rise": {"masks": 4, "cells": 2},
    "score_cam": {"top": 2, "weights": "score"},
}


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("name", ["saliency", "grad_cam"])
def test_channels_first_images_that_the_model_turns_give_the_same_maps(parts, turn, name):
    body, head, plain = parts
    inputs = keras.Input((3, 10, 12))
    model = keras.Model(inputs, head(body(TURNS[turn](inputs))))
    expected = getattr(explain, name)(plain, LAST, 1, **METHODS[name])
    maps = getattr(explain, name)(model, FIRST, 1, **METHODS[name])
    np.testing.assert_allclose(maps, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", METHODS)
def test_every_method_follows_the_layout_of_the_input(parts, name):
    body, head, plain = parts

    class Turned(keras.Model):
        def __init__(self):
            super().__init__()
            self.body, self.head = body, head

        def call(self, inputs):
            return self.head(self.body(tf.transpose(inputs, [0, 2, 3, 1])))

    model = Turned()
    model(FIRST)
    expected = getattr(explain, name)(plain, LAST, 1, **METHODS[name])
    maps = getattr(explain, name)(model, FIRST, 1, **METHODS[name])
    assert maps.shape == (2, 10, 12)
    np.testing.assert_allclose(maps, expected, atol=1e-5 * np.abs(expected).max())


def test_channels_last_images_may_meet_channels_first_convolutions(parts, needs_channels_first):
    _, head, plain = parts
    inputs = keras.Input((10, 12, 3))
    first = layers.Conv2D(4, 3, activation="relu", data_format="channels_first")
    x = layers.GlobalAveragePooling2D(data_format="channels_first")(first(layers.Permute((3, 1, 2))(inputs)))
    model = keras.Model(inputs, layers.Dense(3)(x))
    model.set_weights(plain.get_weights())
    expected = explain.saliency(plain, LAST, 1)
    np.testing.assert_allclose(explain.saliency(model, LAST, 1), expected, atol=1e-5 * expected.max())


def test_images_that_fit_both_ways_are_asked_about():
    model = keras.Sequential([keras.Input((3, 8, 3)), layers.Flatten(), layers.Dense(2)])
    images = RNG.normal(size=(2, 3, 8, 3)).astype("float32")
    with pytest.raises(ValueError, match=r"\(3, 8, 3\) have them first or last.*data_format="):
        explain.saliency(model, images, 1)
    kernel = np.abs(model.layers[-1].kernel.numpy()[:, 1].reshape(3, 8, 3))
    for data_format, axis in (("channels_first", 0), ("channels_last", 2)):
        maps = explain.saliency(model, images, 1, data_format=data_format)
        np.testing.assert_allclose(maps, np.stack([kernel.max(axis)] * 2), rtol=1e-6)
    with pytest.raises(ValueError, match="data_format to be None, 'channels_last' or"):
        explain.saliency(model, images, 1, data_format="NCHW")


def test_a_table_is_explained_by_feature():
    kernel = RNG.normal(size=(7, 3)).astype("float32")
    model = keras.Sequential([keras.Input((7,)), layers.Dense(3, use_bias=False)])
    model.set_weights([kernel])
    rows = RNG.normal(size=(4, 7)).astype("float32")
    product = rows * kernel[:, 1]
    for maps, expected in [
        (explain.saliency(model, rows, 1), np.abs(np.tile(kernel[:, 1], (4, 1)))),
        (explain.saliency(model, rows, 1, reduce="sum"), np.tile(kernel[:, 1], (4, 1))),
        (explain.gradient_times_input(model, rows, 1), product),
        (explain.integrated_gradients(model, rows, 1), product),
        (explain.occlusion(model, rows, 1, patch=1, stride=1), product),
    ]:
        np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-6)
    assert explain.rise(model, rows, 1, masks=8).shape == (4, 7)
    assert explain.saliency(model, rows[0], 1).shape == (7,)
    with pytest.raises(ValueError, match="every value is a feature of its own"):
        explain.integrated_gradients(model, rows, 1, baseline="blur")


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_token_ids_are_explained_by_their_embeddings(dtype):
    embedding = layers.Embedding(20, 5)
    inputs = keras.Input((6,), dtype=dtype)
    embedded = embedding(inputs)
    x = layers.GlobalAveragePooling1D()(layers.Conv1D(4, 2, activation="tanh")(embedded))
    model = keras.Model(inputs, layers.Dense(3)(x))
    ids = RNG.integers(0, 20, (3, 6)).astype(dtype)
    above, values = keras.Model(embedded, model.output), tf.gather(embedding.embeddings, ids.astype("int32"))
    with tf.GradientTape() as tape:
        tape.watch(values)
        score = above(values)[:, 1]
    gradient = tape.gradient(score, values).numpy()
    for compile in ("auto", False):
        maps = explain.gradient_times_input(model, ids, 1, compile=compile)
        np.testing.assert_allclose(maps, (gradient * values).numpy().sum(-1), rtol=1e-4, atol=1e-7)
        maps = explain.saliency(model, ids, 1, compile=compile)
        np.testing.assert_allclose(maps, np.abs(gradient).max(-1), rtol=1e-4)
    swapped = ids.copy()
    swapped[:, 2] = 0
    drop = (model(ids) - model(swapped))[:, 1]
    np.testing.assert_allclose(explain.occlusion(model, ids, 1, patch=1, stride=1)[:, 2], drop, atol=1e-5)
    with pytest.raises(ValueError, match="token ids.*gradient_times_input"):
        explain.smooth_grad(model, ids, 1)


def test_score_cam_says_where_nothing_speaks_for_the_class(parts):
    body, head, _ = parts
    inputs = keras.Input((10, 12, 3))
    model = keras.Model(inputs, ops.negative(head(body(inputs))))
    head.layers[-1].set_weights([np.ones((4, 3), "float32"), np.zeros(3, "float32")])
    with pytest.warns(UserWarning, match="all zero.*weights='score'"):
        maps, name = explain.score_cam(model, LAST, 1, score="logits", return_layer=True)
    assert not maps.any() and name == "body"
    maps = explain.score_cam(model, LAST, 1, weights="score", score="probability", resize=False)
    assert maps.shape == (2, 8, 10)
    with pytest.raises(ValueError, match="weights to be 'increase' or 'score'"):
        explain.score_cam(model, LAST, 1, weights="softmax")


def seen_through(turn, undo, images):
    """Grad-CAM of a network that turns its input round, against the map of its layer turned back."""
    inputs = keras.Input((8, 12, 3))
    maps = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(turn(inputs))
    outputs = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(maps))
    lower = keras.Model(inputs, [maps, outputs])
    with tf.GradientTape() as tape:
        activations, scores = lower(tf.constant(images))
        score = scores[:, 1]
    gradients = tape.gradient(score, activations).numpy()
    weighed = (activations.numpy() * gradients.mean((1, 2), keepdims=True)).sum(-1)
    return keras.Model(inputs, outputs), undo(weighed)


MOVES = {
    "transposed": (lambda x: keras.ops.transpose(x, (0, 2, 1, 3)), lambda maps: maps.transpose(0, 2, 1)),
    "mirrored": (lambda x: x[:, :, ::-1], lambda maps: maps[:, :, ::-1]),
    "upside down": (lambda x: keras.ops.flip(x, 1), lambda maps: maps[:, ::-1]),
    "rotated": (lambda x: keras.ops.rot90(x, 1, (1, 2)), lambda maps: np.rot90(maps, -1, (1, 2))),
    "cut": (
        keras.layers.Cropping2D(((2, 1), (4, 3))),
        lambda maps: np.pad(maps, ((0, 0), (2, 1), (4, 3))),
    ),
    "padded": (
        keras.layers.ZeroPadding2D(((9, 0), (0, 0))),
        lambda maps: maps[:, 9:],
    ),
}


@pytest.mark.parametrize("compile", ["auto", False])
@pytest.mark.parametrize("name", MOVES)
def test_maps_lie_where_the_model_sees_the_image(name, compile):
    images = np.random.default_rng(0).uniform(-1, 1, (2, 8, 12, 3)).astype("float32")
    model, expected = seen_through(*MOVES[name], images)
    maps = explain.grad_cam(model, images, 1, relu=False, compile=compile)
    np.testing.assert_allclose(maps, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("method", ["saliency", "grad_cam", "rise"])
def test_pictures_without_channels_have_maps_of_their_size(method):
    inputs = keras.Input((8, 12))
    x = keras.layers.Conv2D(4, 3, activation="relu")(keras.ops.expand_dims(inputs, -1))
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))
    maps = getattr(explain, method)(model, np.ones((2, 8, 12), "float32"), 1)
    assert maps.shape == (2, 8, 12)


def test_frames_whose_channels_are_turned_one_by_one_have_maps_of_their_size():
    inputs = keras.Input((3, 2, 8, 12))
    x = keras.layers.TimeDistributed(keras.layers.Permute((2, 3, 1)))(inputs)
    x = keras.layers.TimeDistributed(keras.layers.Conv2D(4, 3, activation="relu"))(x)
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling3D()(x)))
    images = np.ones((2, 3, 2, 8, 12), "float32")
    assert (
        explain.saliency(model, images, 1).shape == explain.grad_cam(model, images, 1).shape == (2, 3, 8, 12)
    )


def test_signals_turned_before_a_recurrent_layer_have_one_value_per_step():
    inputs = keras.Input((3, 20))
    x = keras.layers.LSTM(4)(keras.layers.Permute((2, 1))(inputs))
    maps = explain.saliency(keras.Model(inputs, keras.layers.Dense(3)(x)), np.ones((2, 3, 20), "float32"), 1)
    assert maps.shape == (2, 20)
