"""What holds for every method: independence, nothing changed, nothing kept, nothing traced twice."""

import gc
import weakref

import keras
import numpy as np
import pytest

from recipes import explain

layers = keras.layers

# Small random networks leave Score-CAM without a place that speaks for a class; test_score_cam looks at that.
pytestmark = [pytest.mark.numerics, pytest.mark.filterwarnings("ignore:score_cam found no place")]

METHODS = {
    "saliency": {},
    "gradient_times_input": {},
    "smooth_grad": {"samples": 3},
    "integrated_gradients": {"steps": 3, "baseline": "mean"},
    "guided_backprop": {},
    "deconvnet": {},
    "guided_grad_cam": {},
    "class_activation_map": {},
    "grad_cam": {},
    "grad_cam_plus_plus": {},
    "layer_cam": {},
    "score_cam": {"top": 3},
    "occlusion": {"patch": 3, "stride": 2},
    "rise": {"masks": 6, "cells": 3},
}


@pytest.mark.parametrize("name", METHODS)
def test_a_map_depends_on_its_image_alone(trained_cnn, name):
    """Not on its batch-mates, their order, or how the work is cut; and raw float32 comes out."""
    model, images, _ = trained_cnn
    images, method, options = images[:5], getattr(explain, name), METHODS[name]
    whole = method(model, images, **options)
    assert whole.shape == (5, 8, 8) and whole.dtype == "float32" and np.abs(whole).max() > 0
    close = {"rtol": 1e-4, "atol": 1e-6 * np.abs(whole).max()}
    np.testing.assert_allclose(method(model, images[::-1], **options)[::-1], whole, **close)
    np.testing.assert_allclose(method(model, images, batch_size=2, **options), whole, **close)
    alone = method(model, images[3], **options)
    assert alone.shape == (8, 8)
    np.testing.assert_allclose(alone, whole[3], **close)


def fingerprint(model):
    return [
        (
            layer.name,
            layer.trainable,
            layer.dtype_policy.name,
            sorted(vars(layer)),
            getattr(layer, "activation", None),
        )
        for layer in model._flatten_layers()
    ]


@pytest.mark.parametrize("name", METHODS)
def test_the_model_is_left_as_it_was(name):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(3, 3, activation="relu", trainable=False)(inputs)
    x = layers.BatchNormalization()(x)
    model = keras.Model(inputs, layers.Dense(2, activation="softmax")(layers.GlobalAveragePooling2D()(x)))
    weights, before = model.get_weights(), fingerprint(model)
    method = getattr(explain, name)
    method(model, np.random.default_rng(0).normal(size=(2, 8, 8, 1)), 1, **METHODS[name])
    with pytest.raises(ValueError, match=r"0 \.\.\. 1"):
        method(model, np.ones((2, 8, 8, 1)), 2, **METHODS[name])
    assert fingerprint(model) == before
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_model_is_left_as_it_was_by_an_exception_in_its_own_call():
    class Fails(layers.Layer):
        fail = False

        def call(self, inputs):
            if self.fail:
                raise RuntimeError("out of order")
            return inputs

    broken = Fails()
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(3, 3, activation="relu"),
            broken,
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    before = fingerprint(model)
    Fails.fail = True
    for method in (explain.grad_cam, explain.guided_backprop, explain.saliency):
        with pytest.raises(RuntimeError, match="out of order"):
            method(model, np.ones((1, 8, 8, 1)))
        assert fingerprint(model) == before


class Counted(keras.Model):
    """Counts how often its Python code runs, which is once per trace."""

    def __init__(self):
        super().__init__()
        self.runs = [0]
        self.conv = layers.Conv2D(3, 3, activation="relu")
        self.classify = layers.Dense(2)

    def call(self, inputs):
        self.runs[0] += 1
        return self.classify(keras.ops.mean(self.conv(inputs), axis=(1, 2)))


def test_methods_of_a_family_share_a_trace_and_batch_sizes_need_no_new_one():
    model = Counted()
    images = np.random.default_rng(0).normal(size=(5, 8, 8, 1)).astype("float32")
    model(images)
    families = [
        ["saliency", "gradient_times_input", "smooth_grad", "integrated_gradients"],
        ["grad_cam", "grad_cam_plus_plus", "layer_cam", "class_activation_map"],
        ["occlusion", "rise"],
    ]
    for family in families:
        runs = model.runs[0]
        for name in family:
            for batch in (images, images[:2], images[0]):
                for target in (None, 1, [0] * (1 if batch.ndim == 3 else len(batch))):
                    getattr(explain, name)(model, batch, target, score="logits", **METHODS[name])
        assert model.runs[0] == runs + 1


@pytest.mark.parametrize("name", ["saliency", "guided_grad_cam", "score_cam", "occlusion"])
def test_a_model_explained_and_deleted_is_collected(name):
    def explained():
        model = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                layers.Conv2D(3, 3, activation="relu"),
                layers.Flatten(),
                layers.Dense(2),
            ]
        )

        def score(outputs):  # holds the model
            return model.layers[-1].bias[0] + outputs[:, 0]

        for target in (None, explain.Unit(model.layers[0], 1), score):
            getattr(explain, name)(model, np.ones((1, 8, 8, 1)), target, **METHODS[name])
        return weakref.ref(model), weakref.ref(model.layers[0].kernel)

    model, kernel = explained()
    gc.collect()
    assert model() is None
    assert kernel() is None  # nor do its weights linger in a trace


def test_another_activation_or_layer_is_noticed():
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(3, activation="tanh", name="d")]
    )
    images = np.ones((1, 4, 4, 1), "float32")
    squashed = explain.saliency(model, images, 0, score="probability")
    model.get_layer("d").activation = keras.activations.linear
    np.testing.assert_allclose(
        explain.saliency(model, images, 0, reduce=None).ravel(),
        model.get_layer("d").kernel.numpy()[:, 0],
        rtol=1e-6,
    )
    assert squashed.max() < explain.saliency(model, images, 0).max()
    model.add(layers.Dense(2, name="e"))
    expected = model.get_layer("d").kernel.numpy() @ model.get_layer("e").kernel.numpy()[:, 1]
    np.testing.assert_allclose(explain.saliency(model, images, 1, reduce=None).ravel(), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.ones((2, 9, 8, 1))}, r"shape \(n, 8, 8, 1\).*Received shape \(2, 9, 8, 1\)"),
        ({"images": np.ones((2, 8, 8))}, r"images\[..., None\]"),
        ({"images": np.ones((0, 8, 8, 1))}, "at least one image"),
        ({"images": np.full((2, 8, 8, 1), np.nan)}, "NaN or infinity in 2 of 2, the first at index 0"),
        ({"batch_size": 0}, "batch_size"),
        ({"score": "loss"}, "'logits' or 'probability'"),
        ({"compile": "always"}, "compile"),
        ({"wrt": "other"}, "wrt="),
    ],
)
def test_bad_input_says_what_to_type(trained_cnn, change, message):
    arguments = {"images": np.ones((2, 8, 8, 1)), **change}
    for method in (explain.saliency, explain.grad_cam):
        with pytest.raises(ValueError, match=message):
            method(trained_cnn[0], **arguments)


def test_kinds_that_cannot_be_explained_are_refused():
    with pytest.raises(TypeError, match="expects a keras.Model"):
        explain.saliency(layers.Dense(3), np.ones((1, 3)))
    with pytest.raises(ValueError, match="built model"):
        explain.saliency(keras.Sequential([layers.Dense(3)]), np.ones((1, 3)))
    with pytest.raises(TypeError, match="array of numbers"):
        explain.saliency(keras.Sequential([keras.Input((3,)), layers.Dense(3)]), [["a", "b", "c"]])
    whole = keras.Sequential(
        [keras.Input((4, 4, 1), dtype="uint8"), layers.Rescaling(1.0), layers.Flatten(), layers.Dense(2)]
    )
    with pytest.raises(ValueError, match="float input to differentiate.*dtype='float32'"):
        explain.saliency(whole, np.ones((1, 4, 4, 1), "uint8"))
    assert explain.occlusion(whole, np.ones((1, 4, 4, 1), "uint8"), patch=1, stride=1).shape == (1, 4, 4)
    rounded = keras.Sequential([keras.Input((3,)), layers.Lambda(keras.ops.round), layers.Dense(2)])
    with pytest.raises(TypeError, match="object, a name, a path"):
        explain.grad_cam(whole, np.ones((1, 4, 4, 1), "uint8"), layer=1.5)
    with pytest.raises(ValueError, match="index into model.layers"):
        explain.grad_cam(whole, np.ones((1, 4, 4, 1), "uint8"), layer=7)
    with pytest.raises(ValueError, match="gradient does not reach it.*rounding"):
        explain.saliency(rounded, np.ones((1, 3)), 0)
