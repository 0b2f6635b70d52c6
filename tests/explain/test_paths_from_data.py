"""Expected gradients, integrated gradients at a layer, targets that are no classes: against closed forms and numpy."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import explain

layers, ops = keras.layers, keras.ops
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(-1, 1, (2, 6, 5, 2)).astype("float32")
BACKGROUND = RNG.uniform(-1, 1, (4, 6, 5, 2)).astype("float32")


def test_expected_gradients_of_a_linear_model_are_weights_times_the_difference_to_the_mean(linear):
    model, weights, _ = linear
    maps = explain.expected_gradients(model, IMAGES, 1, background=BACKGROUND, samples=8, reduce=None)
    np.testing.assert_allclose(maps, (IMAGES - BACKGROUND.mean(0)) * weights[..., 1], rtol=1e-4, atol=1e-6)


def test_a_background_may_come_by_the_name_of_the_input(linear):
    given, named = BACKGROUND, {linear[0].inputs[0].name: BACKGROUND}
    one, other = (explain.expected_gradients(linear[0], IMAGES, 1, background=b) for b in (given, named))
    np.testing.assert_array_equal(one, other)


def test_expected_gradients_add_up_to_the_score_less_that_of_the_background(quadratic):
    model, curvature = quadratic
    options = {"background": BACKGROUND, "score": "probability"}
    maps = explain.expected_gradients(model, IMAGES, 0, samples=400, **options)
    scores = (curvature * IMAGES**2).sum((1, 2, 3)) - (curvature * BACKGROUND**2).sum((1, 2, 3)).mean()
    np.testing.assert_allclose(maps.sum((1, 2)), scores, atol=0.03 * np.abs(curvature).sum())
    np.testing.assert_array_equal(
        explain.expected_gradients(model, IMAGES[1], 0, samples=400, **options), maps[1]
    )


def test_a_background_of_another_shape_is_refused(linear):
    with pytest.raises(ValueError, match="background of images"):
        explain.expected_gradients(linear[0], IMAGES, 1, background=BACKGROUND[:, :3])


@pytest.fixture(scope="module")
def text():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,), dtype="int32")
    vectors = layers.Embedding(9, 3, name="embedding")(inputs)
    hidden = ops.square(layers.Dense(3, name="hidden")(vectors))
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(hidden)))


@pytest.mark.parametrize("target", [1, lambda outputs: outputs[:, 1]])
def test_integrated_gradients_of_an_embedding_add_up_to_the_change_in_score(text, target):
    ids = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    values = explain.layer_integrated_gradients(text, ids, target, layer="embedding", baseline=0)
    change = text(ids).numpy()[:, 1] - text(0 * ids).numpy()[:, 1]
    assert values.shape == (2, 4, 3)
    np.testing.assert_allclose(values.sum((1, 2)), change, rtol=1e-4, atol=1e-6)
    # A square's mean slope is that at the midpoint: the way is exact with one step.
    once = explain.layer_integrated_gradients(text, ids, target, layer="embedding", baseline=0, steps=1)
    np.testing.assert_allclose(once, values, rtol=1e-4, atol=1e-6)


def test_gradients_on_the_way_are_those_of_the_predicted_class_however_they_are_cut(text):
    """A target may know which image is which, as it sees them a step at a time."""
    ids = np.array([[1, 2, 3, 4], [5, 6, 7, 8], [2, 2, 8, 1]])
    options = {"layer": "hidden", "baseline": 0, "steps": 7}
    found = explain.layer_integrated_gradients(text, ids, **options)
    chosen = text(ids).numpy().argmax(1)
    by_image = explain.layer_integrated_gradients(
        text, ids, lambda outputs: tf.gather(outputs, chosen, axis=1, batch_dims=1), **options
    )
    np.testing.assert_allclose(found, by_image, rtol=1e-5, atol=1e-7)
    for batch_size in (2, 5):
        cut = explain.layer_integrated_gradients(text, ids, batch_size=batch_size, **options)
        np.testing.assert_allclose(cut, found, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("method", ["layer_integrated_gradients", "smooth_grad"])
def test_the_progress_of_a_target_with_a_function_is_full_once(method, capsys):
    inputs = keras.Input((6, 5, 2))
    x = layers.Conv2D(3, 2, name="maps")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    getattr(explain, method)(model, IMAGES, lambda outputs: outputs[:, 1], batch_size=3, verbose=1)
    shown = capsys.readouterr().out
    assert len([done for done, total in re.findall(r"(\d+)/(\d+)", shown) if done == total]) == 1


def test_sentences_folded_into_the_batch_have_the_gradients_of_their_text(text):
    """As documents of several sentences, which an encoder reads one by one."""
    inputs = keras.Input((2, 4), dtype="int32")
    weight = keras.Input((3,))
    read = ops.reshape(text(ops.reshape(inputs, (-1, 4))), (-1, 2, 2))
    model = keras.Model([inputs, weight], layers.Dense(2)(ops.mean(read, 1)) + weight[:, :2])
    ids = np.array([[[1, 2, 3, 4], [5, 6, 7, 8]], [[2, 2, 8, 1], [0, 3, 3, 4]], [[8, 8, 1, 5], [7, 1, 0, 2]]])
    given = [ids, np.random.default_rng(0).normal(size=(3, 3)).astype("float32")]
    options = {"layer": "embedding", "baseline": 0, "wrt": 0}
    values = explain.layer_integrated_gradients(model, given, 1, batch_size=7, **options)
    change = (model(given) - model([0 * ids, given[1]])).numpy()[:, 1]
    assert values.shape == (6, 4, 3)
    np.testing.assert_allclose(values.reshape(3, -1).sum(1), change, rtol=1e-4, atol=1e-6)


def test_a_mask_scores_the_mean_of_its_class():
    inputs = keras.Input((6, 5, 2))
    model = keras.Model(inputs, layers.Conv2D(3, 1, kernel_initializer="ones")(inputs))
    mask = np.zeros((6, 5), bool)
    mask[1:3, 2:4] = True
    maps = explain.saliency(model, IMAGES, explain.mask_score(mask, 2))
    np.testing.assert_allclose(maps, np.broadcast_to(mask / mask.sum(), maps.shape), rtol=1e-6)
    with pytest.raises(ValueError, match="true somewhere"):
        explain.mask_score(np.zeros((6, 5)))
    with pytest.raises(ValueError, match="mask_score expects an output"):
        explain.saliency(model, IMAGES, explain.mask_score(np.ones((5, 5)), 2))


def test_a_box_scores_the_class_of_the_prediction_that_overlaps_it_most():
    boxes = tf.constant(
        [[[0, 0, 2, 2], [1, 1, 5, 5], [4, 4, 6, 6]], [[2, 2, 5, 5], [0, 0, 1, 1], [3, 3, 4, 4]]]
    )
    scores = tf.random.stateless_normal((2, 3, 4), (0, 1))
    target = explain.box_score((2, 2, 5, 5), 3, scores=0, boxes=1)
    np.testing.assert_array_equal(target([scores, boxes]), [scores[0, 1, 3], scores[1, 0, 3]])
    np.testing.assert_array_equal(explain.box_score(2, 1)(scores), scores[:, 2, 1])
    with pytest.raises(ValueError, match="boxes="):
        explain.box_score((2, 2, 5, 5), 3)
    swapped = {"box": (2, 2, 5, 5), "scores": 1, "boxes": 0}
    for wrong in ({"box": 3}, {"class_number": 4}, {"scores": 2}, swapped):
        with pytest.raises(ValueError, match=r"scores= of shape \(n, boxes, classes\)"):
            explain.box_score(**{"box": 0, "class_number": 0, **wrong})([scores[..., :3], boxes])
    with pytest.raises(ValueError, match=r"which none does in 2 of 2 images.*lie in 0 \.\.\. 6"):
        explain.box_score((50, 50, 60, 60), 3, scores=0, boxes=1)([scores, boxes])


def test_similarity_is_the_cosine_to_another_embedding():
    inputs = keras.Input((6, 5, 2))
    dense = layers.Dense(4)
    model = keras.Model(inputs, dense(layers.Flatten()(inputs)))
    other = model(BACKGROUND[:1])[0]
    kernel, unit = dense.kernel.numpy(), other.numpy() / np.linalg.norm(other)
    values = IMAGES.reshape(2, -1) @ kernel
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    slope = unit / lengths - values * (values @ unit)[:, None] / lengths**3
    maps = explain.saliency(model, IMAGES, explain.similarity_to(other), reduce=None)
    np.testing.assert_allclose(maps, (slope @ kernel.T).reshape(IMAGES.shape), rtol=1e-3, atol=1e-6)


def test_an_interval_scores_the_distance_to_its_nearer_end(quadratic):
    model, curvature = quadratic
    images = np.random.default_rng(0).normal(size=(4, 6, 5, 2)).astype("float32")
    value = (curvature * images**2).sum((1, 2, 3))
    low, high = np.sort(value)[[1, 2]] + [-0.1, 0.5]
    target, slope = explain.interval_score(low, high), 2 * curvature * images
    rising = np.where(value - low < high - value, 1, -1).reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(
        explain.saliency(model, images, target, reduce=None), rising * slope, rtol=1e-4, atol=1e-5
    )
    one_sided = explain.interval_score(high=high)
    np.testing.assert_allclose(one_sided(value[:, None]), high - value, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(target(value), np.minimum(value - low, high - value), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ends", [(2, 1), (), (np.nan, 1)])
def test_what_is_no_interval_is_refused(ends):
    with pytest.raises(ValueError, match="low < high"):
        explain.interval_score(*ends)


def test_a_token_is_explained_by_the_context_before_it():
    """A writer whose logits are a running sum of its embeddings: each token speaks with its own row."""
    keras.utils.set_random_seed(0)
    ids = keras.Input((4,), dtype="int32")
    sums = keras.ops.cumsum(keras.layers.Embedding(7, 5, name="embedding")(ids), 1)
    model = keras.Model(ids, keras.layers.Dense(7, "softmax", use_bias=False, name="head")(sums))
    text = np.array([[1, 2, 3, 4], [6, 5, 0, 2]])
    table, head = model.get_layer("embedding").get_weights()[0], model.get_layer("head").get_weights()[0]
    options = {"layer": "embedding", "baseline": 0}
    found = explain.layer_integrated_gradients(model, text, explain.token_score(6), **options).sum(-1)
    np.testing.assert_allclose(found, (table[text] - table[0]) @ head[:, 6], atol=1e-5)
    second = explain.layer_integrated_gradients(model, text, explain.token_score(3, 1), **options).sum(-1)
    np.testing.assert_allclose(second[:, :2], ((table[text] - table[0]) @ head[:, 3])[:, :2], atol=1e-5)
    np.testing.assert_allclose(second[:, 2:], 0, atol=1e-7)
    with pytest.raises(ValueError, match="that has token 9 and position -1"):
        explain.saliency(model, text, explain.token_score(9))
