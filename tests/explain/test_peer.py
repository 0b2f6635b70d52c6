"""Agreement with tf-keras-vis where it is right: saliency, and the two Grad-CAMs before resizing."""

import warnings

import keras
import numpy as np
import pytest

from recipes import explain

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it still imports scipy.ndimage.interpolation
    gradcam = pytest.importorskip("tf_keras_vis.gradcam")
    from tf_keras_vis.saliency import Saliency
    from tf_keras_vis.utils.model_modifiers import ReplaceToLinear
    from tf_keras_vis.utils.scores import BinaryScore, CategoricalScore


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((12, 12, 3))
    x = keras.layers.Conv2D(6, 3, activation="relu")(inputs)
    x = keras.layers.Conv2D(8, 3, activation="relu")(x)
    return keras.Model([inputs], keras.layers.Dense(5, activation="softmax")(keras.layers.Flatten()(x)))


@pytest.fixture
def pictures():
    return np.random.default_rng(0).normal(size=(3, 12, 12, 3)).astype("float32")


def same_up_to_scale(ours, theirs):
    theirs = np.asarray(theirs)
    scale = (ours * theirs).sum((1, 2)) / (theirs**2).sum((1, 2))
    assert np.all(scale > 0)
    np.testing.assert_allclose(ours, scale[:, None, None] * theirs, rtol=1e-3, atol=1e-5 * ours.max())


def test_their_maps_and_ours_agree_and_their_scores_serve_as_targets(model, pictures):
    score = CategoricalScore([4, 0, 2])
    theirs = Saliency(model, model_modifier=ReplaceToLinear(), clone=True)(
        score, pictures, normalize_map=False
    )
    np.testing.assert_allclose(explain.saliency(model, pictures, score), theirs, rtol=1e-3, atol=1e-6)
    raw = {"expand_cam": False, "normalize_cam": False}
    theirs = gradcam.Gradcam(model, model_modifier=ReplaceToLinear(), clone=True)(score, pictures, **raw)
    np.testing.assert_allclose(
        explain.grad_cam(model, pictures, score, resize=False), theirs, rtol=1e-3, atol=1e-6
    )
    theirs = gradcam.GradcamPlusPlus(model, model_modifier=ReplaceToLinear(), clone=True)(
        score, pictures, **raw
    )
    # Theirs is multiplied by exp(score), one number an image.
    same_up_to_scale(explain.grad_cam_plus_plus(model, pictures, score, resize=False), theirs)


def test_binary_scores_choose_the_side_of_a_sigmoid(pictures):
    keras.utils.set_random_seed(2)
    binary = keras.Sequential(
        [keras.Input((12, 12, 3)), keras.layers.Flatten(), keras.layers.Dense(1, activation="sigmoid")]
    )
    weights = binary.layers[-1].kernel.numpy().reshape(12, 12, 3)
    maps = explain.saliency(binary, pictures, BinaryScore([True, False, True]), reduce=None)
    np.testing.assert_allclose(maps, np.array([1, -1, 1]).reshape(3, 1, 1, 1) * weights, atol=1e-6)
