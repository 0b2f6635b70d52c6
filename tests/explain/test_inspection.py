"""Filters, activations, features, neighbors, embeddings, landscapes, segments, noise."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import explain


def test_filters_share_one_scale_around_gray(trained_cnn):
    model, _, _ = trained_cnn
    kernel = model.get_layer("conv1").kernel.numpy()
    shown = explain.filters(model)
    assert shown.shape == (16, 3, 3, 1)
    np.testing.assert_allclose(
        shown[4, 1, 2, 0], 0.5 + 0.5 * kernel[1, 2, 0, 4] / np.abs(kernel).max(), rtol=1e-5
    )
    each = explain.filters(model, "conv1", normalize="each")
    np.testing.assert_allclose(np.abs(each - 0.5).max((1, 2, 3)), 0.5, rtol=1e-5)
    assert explain.filters(model, "conv2").shape == (32, 16, 3, 3, 1)
    linear = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    templates = explain.filters(linear)
    assert templates.shape == (10, 8, 8, 1)
    weights = linear.layers[-1].kernel.numpy()
    np.testing.assert_allclose(templates[3].ravel() * 2 - 1, weights[:, 3] / np.abs(weights).max(), atol=1e-5)
    with pytest.raises(ValueError, match="2-D convolution"):
        explain.filters(model, "pool")


def test_activations_and_features_are_those_of_a_sub_model(trained_cnn):
    model, images, _ = trained_cnn
    inner = keras.Model(
        model.inputs[0], [model.get_layer(name).output for name in ("conv1", "conv2", "average")]
    )
    conv1, conv2, average = inner.predict(images[:50], verbose=0)
    both = explain.activations(model, images[:50], ["conv1", "conv2"], batch_size=20)
    np.testing.assert_allclose(both["conv1"], conv1, atol=1e-5)
    np.testing.assert_allclose(explain.activations(model, images[:50], "conv2"), conv2, atol=1e-5)
    np.testing.assert_allclose(
        explain.features(model, images[:50]), average, atol=1e-5
    )  # what the Dense layer is fed
    dataset = tf.data.Dataset.from_tensor_slices((images[:50], np.zeros(50))).batch(16)
    np.testing.assert_allclose(
        explain.features(model, dataset, "conv2", pool="max"), conv2.max((1, 2)), atol=1e-5
    )
    assert explain.features(model, images[:2], "conv2", pool=None).shape == (2, 4 * 4 * 32)
    with pytest.raises(ValueError, match="Candidates"):
        explain.activations(model, images[:2], "conv9")


def test_nearest_neighbors_are_exact():
    generator = np.random.default_rng(0)
    features, queries = generator.normal(size=(40, 6)), generator.normal(size=(3, 6))
    indices, distances = explain.nearest_neighbors(queries, features, 4)
    all_distances = np.linalg.norm(queries[:, None] - features[None], axis=-1)
    np.testing.assert_array_equal(indices, np.argsort(all_distances, axis=1)[:, :4])
    np.testing.assert_allclose(distances, np.sort(all_distances, axis=1)[:, :4], rtol=1e-5)
    assert explain.nearest_neighbors(features[7], features, 1, metric="cosine")[0][0] == 7
    with pytest.raises(ValueError, match=r"k in 1 ... 40"):
        explain.nearest_neighbors(queries, features, 41)


def test_pca_equals_scikit_learns_and_tsne_repeats(digits):
    from sklearn.decomposition import PCA

    images, _ = digits
    flat = images[:200].reshape(200, -1).astype("float64")
    ours, theirs = explain.embed(images[:200], dimensions=3), PCA(3).fit_transform(flat)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), rtol=1e-3, atol=1e-2)
    two = np.concatenate([flat[:6], flat[:6] + 3000.0])
    places = explain.embed(two, kind="tsne", perplexity=2, seed=3)
    np.testing.assert_array_equal(places, explain.embed(two, kind="tsne", perplexity=2, seed=3))
    nearest = explain.nearest_neighbors(places, places, 2)[0][:, 1]
    assert ((nearest < 6) == (np.arange(12) < 6)).all()  # two far groups stay apart
    with pytest.raises(ValueError, match="'pca' or 'tsne'"):
        explain.embed(flat, kind="umap")


@pytest.fixture(scope="module")
def normalized(digits):
    """A small net with batch normalization and a regularizer, trained for an epoch."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(
                8, 3, strides=2, use_bias=False, kernel_regularizer=keras.regularizers.L2(1e-2)
            ),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.DepthwiseConv2D(3, padding="same"),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(*digits, epochs=2, batch_size=64, verbose=0)
    return model


def test_landscapes_center_is_the_models_loss_and_its_edges_that_of_moved_weights(normalized, digits):
    from recipes.explain.inspection.loss_landscape import filter_normalized_direction

    model, (x, y) = normalized, (digits[0][:300], digits[1][:300])
    before = [weights.copy() for weights in model.get_weights()]
    found = explain.loss_landscape(model, x, y, points=3, span=0.5, batch_size=128)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    loss, accuracy = model.evaluate(x, y, verbose=0)
    np.testing.assert_allclose([found.loss[1], found.accuracy[1]], [loss, accuracy], rtol=1e-4)
    direction = filter_normalized_direction(model, [0, 0])
    copy = keras.models.clone_model(model)
    copy.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    copy.set_weights(before)
    for variable, change in zip(copy.trainable_variables, direction, strict=True):
        variable.assign_add(0.5 * change)
    loss, accuracy = copy.evaluate(x, y, verbose=0)
    np.testing.assert_allclose([found.loss[2], found.accuracy[2]], [loss, accuracy], rtol=1e-4)
    plane = explain.loss_landscape(model, x, y, dimensions=2, points=3, span=0.5)
    assert plane.loss.shape == (3, 3)
    np.testing.assert_allclose(plane.loss[:, 1], found.loss, rtol=1e-4)


def test_directions_are_as_long_as_the_filters(normalized):
    from recipes.explain.inspection.loss_landscape import filter_normalized_direction

    direction = filter_normalized_direction(normalized, 0)
    for variable, change in zip(normalized.trainable_variables, direction, strict=True):
        weights = variable.numpy()
        if weights.ndim == 1:
            assert not change.any()
        elif variable is normalized.layers[4].kernel:
            np.testing.assert_allclose(
                np.linalg.norm(change, axis=(0, 1)), np.linalg.norm(weights, axis=(0, 1)), rtol=1e-4
            )
        else:
            flat = [values.reshape(-1, values.shape[-1]) for values in (change, weights)]
            np.testing.assert_allclose(*[np.linalg.norm(values, axis=0) for values in flat], rtol=1e-4)


def test_batch_statistics_change_the_landscape_but_not_the_model(normalized, digits):
    x, y = digits[0][:200], digits[1][:200]
    moving = normalized.layers[2].moving_mean.numpy()
    by_batch = explain.loss_landscape(normalized, x, y, points=3, batch_norm="batch", batch_size=200)
    np.testing.assert_array_equal(moving, normalized.layers[2].moving_mean.numpy())
    maps = keras.Model(normalized.inputs[0], normalized.layers[1].output).predict(x, verbose=0)
    copy = keras.models.clone_model(normalized)
    copy.set_weights(normalized.get_weights())
    copy.layers[2].moving_mean.assign(maps.mean((0, 1, 2)))
    copy.layers[2].moving_variance.assign(maps.var((0, 1, 2)))
    copy.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    np.testing.assert_allclose(by_batch.loss[1], copy.evaluate(x, y, verbose=0, batch_size=200)[0], rtol=1e-3)
    with pytest.raises(ValueError, match="an odd number of points"):
        explain.loss_landscape(normalized, x, y, points=4)


def test_segment_finds_the_disk_that_the_map_points_at():
    pytest.importorskip("cv2")
    rows, columns = np.mgrid[:48, :48]
    disk = (rows - 24) ** 2 + (columns - 20) ** 2 < 12**2
    generator = np.random.default_rng(0)
    image = np.where(disk[..., None], (200, 60, 40), (40, 120, 180)) + generator.normal(0, 8, (48, 48, 3))
    map = np.exp(-((rows - 24) ** 2 + (columns - 20) ** 2) / 60) + generator.uniform(0, 0.01, (48, 48))
    found = explain.segment(np.clip(image, 0, 255), map)
    assert (found & disk).sum() / (found | disk).sum() > 0.95
    with pytest.raises(ValueError, match="almost"):
        explain.segment(np.clip(image, 0, 255), np.ones((48, 48)))


def test_noise_response_reports_softmax_of_the_noise(trained_cnn):
    model, _, _ = trained_cnn
    found = explain.noise_response(model, count=40, batch_size=16)
    probabilities = model.predict(found.images, verbose=0)
    np.testing.assert_allclose(found.probabilities, probabilities, atol=1e-5)
    np.testing.assert_allclose(found.share, np.bincount(probabilities.argmax(1), minlength=10) / 40)
    np.testing.assert_allclose(found.confidence, probabilities.max(1).mean(), rtol=1e-4)
    flat = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(5, kernel_initializer="zeros")]
    )
    honest = explain.noise_response(flat, kind="constant", count=3)
    np.testing.assert_allclose([honest.confidence, honest.entropy], [1 / 5, np.log(5)], rtol=1e-5)
    with pytest.raises(ValueError, match="kind to be one of"):
        explain.noise_response(model, kind="pink")
