import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import ensemble


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(2, 3, size=(50, 5, 4, 3)).astype("float32")


def test_statistics_are_those_of_all_values_together_however_the_data_is_batched(images):
    model = keras.Sequential([keras.Input((5, 4, 3)), keras.layers.BatchNormalization()])
    norm = model.layers[0]
    mean, variance = images.mean((0, 1, 2)), images.var((0, 1, 2))
    given = [
        images,
        (images, np.zeros(50)),
        tf.data.Dataset.from_tensor_slices(images),
        tf.data.Dataset.from_tensor_slices((images, np.zeros(50))).batch(7),
    ]
    for data in given:
        norm.moving_mean.assign(mean * 0 + 9)
        assert ensemble.refresh_batch_norm(model, data, batch_size=16) is model
        np.testing.assert_allclose(norm.moving_mean, mean, rtol=1e-5)
        np.testing.assert_allclose(norm.moving_variance, variance, rtol=1e-5)


def test_the_layer_after_sees_batches_normalized_by_their_own_statistics(images):
    """By hand, in numpy, for two normalizations with something between them."""
    first, second = keras.layers.BatchNormalization(axis=1), keras.layers.BatchNormalization(scale=False)
    model = keras.Sequential([keras.Input((5, 4, 3)), first, keras.layers.ReLU(), second])
    gain, offset = np.linspace(0.5, 2, 5), np.linspace(-1, 1, 5)
    first.set_weights([gain, offset, np.zeros(5), np.ones(5)])
    batches = [images[:32].astype("float64"), images[32:].astype("float64")]
    seen = []
    for batch in batches:
        mean, variance = batch.mean((0, 2, 3), keepdims=True), batch.var((0, 2, 3), keepdims=True)
        shape = (1, 5, 1, 1)
        scaled = (batch - mean) / np.sqrt(variance + 1e-3) * gain.reshape(shape) + offset.reshape(shape)
        seen.append(np.maximum(scaled, 0))
    ensemble.refresh_batch_norm(model, images, batch_size=32)
    np.testing.assert_allclose(first.moving_variance, images.var((0, 2, 3)), rtol=1e-5)
    values = np.concatenate(seen)
    np.testing.assert_allclose(second.moving_mean, values.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(second.moving_variance, values.var((0, 1, 2)), rtol=1e-5)


def test_dropout_is_off_frozen_layers_keep_theirs_and_nested_shared_and_half_precision_work(images):
    inner = keras.Sequential(
        [keras.Input((5, 4, 3)), keras.layers.BatchNormalization(name="shared", dtype="mixed_bfloat16")],
        name="inner",
    )
    frozen = keras.layers.BatchNormalization(trainable=False, name="frozen")
    inputs = keras.Input((5, 4, 3))
    x = keras.layers.Dropout(0.9)(inputs)
    outputs = keras.layers.Add()([inner(x), inner(keras.layers.Rescaling(2.0)(x))])
    model = keras.Model(inputs, frozen(outputs))
    ensemble.refresh_batch_norm(model, images)
    both = np.concatenate([images, 2 * images])
    norm = inner.get_layer("shared")
    np.testing.assert_allclose(norm.moving_mean, both.mean((0, 1, 2)), rtol=1e-2)
    np.testing.assert_allclose(norm.moving_variance, both.var((0, 1, 2)), rtol=1e-2)
    np.testing.assert_array_equal(frozen.moving_mean, np.zeros(3))
    assert "call" not in vars(norm)


def test_masked_steps_do_not_count():
    sequences = np.random.default_rng(0).normal(size=(6, 4, 3)).astype("float32")
    sequences[:, 2:] = 0
    model = keras.Sequential([keras.Input((4, 3)), keras.layers.Masking(), keras.layers.BatchNormalization()])
    ensemble.refresh_batch_norm(model, sequences, batch_size=4)
    np.testing.assert_allclose(model.layers[-1].moving_mean, sequences[:, :2].mean((0, 1)), rtol=1e-4)
    np.testing.assert_allclose(model.layers[-1].moving_variance, sequences[:, :2].var((0, 1)), rtol=1e-4)


def test_replicas_get_the_statistics_too(images, two_replicas):
    with two_replicas.scope():
        model = keras.Sequential([keras.Input((5, 4, 3)), keras.layers.BatchNormalization()])
    ensemble.refresh_batch_norm(model, images)
    for replica in model.layers[0].moving_mean.value.values:
        np.testing.assert_allclose(replica, images.mean((0, 1, 2)), rtol=1e-5)


def test_data_that_cannot_do_says_what_to_do(images):
    model = keras.Sequential([keras.Input((5, 4, 3)), keras.layers.BatchNormalization()])
    data = tf.data.Dataset.from_tensor_slices(images)
    with pytest.raises(ValueError, match="at least one example"):
        ensemble.refresh_batch_norm(model, images[:0])
    with pytest.raises(ValueError, match="at least one example"):
        ensemble.refresh_batch_norm(model, data.batch(8).filter(lambda batch: False))
    with pytest.raises(ValueError, match="take"):
        ensemble.refresh_batch_norm(model, data.repeat())
    with pytest.raises(TypeError, match="from_generator"):
        ensemble.refresh_batch_norm(model, iter([images]))
    plain = keras.Sequential([keras.Input((5, 4, 3)), keras.layers.Flatten()])
    assert ensemble.refresh_batch_norm(plain, images) is plain
