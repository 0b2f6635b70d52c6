import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import augment, models
from recipes.training import train_head
from recipes.training.train_head import split_at_frozen

QUIET = {"verbose": 0}


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    backbone = models.resnet((8, 8, 3), 5, depth=8)
    backbone = keras.Model(backbone.input, backbone.get_layer("top_relu").output, name="backbone")
    return models.transfer(backbone, 3, dropout=0.0)


@pytest.fixture
def data():
    random = np.random.default_rng(0)
    return random.integers(0, 256, (24, 8, 8, 3), dtype="uint8"), random.integers(0, 3, 24)


def test_the_head_learns_as_it_does_behind_the_whole_network(model, data):
    # One batch an epoch, no dropout: the order of the examples does not matter.
    options = {
        "epochs": 3,
        "batch_size": 24,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "schedule": None,
        "warmup": 0,
    }
    start = model.get_weights()
    train_head(model, data, **options, **QUIET)
    head = model.get_layer("predictions").get_weights()
    model.set_weights(start)
    twin = keras.models.clone_model(model)
    twin.set_weights(start)
    decay = keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=5e-3)
    decay.exclude_from_weight_decay(var_names=["bias"])
    twin.compile(decay, "sparse_categorical_crossentropy")
    twin.fit(*data, batch_size=24, epochs=3, verbose=0)
    for one, other in zip(head, twin.get_layer("predictions").get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_frozen_part_sees_every_image_once(model, data):
    seen = []
    count = keras.layers.Lambda(
        lambda x: tf.ensure_shape(tf.py_function(_counted(seen), [x], x.dtype), (None, 8, 8, 3)),
        output_shape=(8, 8, 3),
    )
    backbone = keras.Model(model.input, model.get_layer("top_relu").output)
    model = models.transfer(backbone, 3, preprocess=count)
    train_head(model, data, epochs=5, batch_size=10, **QUIET)
    assert sum(seen) == 24


def _counted(seen):
    def count(x):
        seen.append(int(x.shape[0]))
        return x

    return count


def test_the_run_is_of_the_whole_network(model, data):
    run = train_head(model, data, data, epochs=2, **QUIET)
    assert run.model is model and len(run.history["val_accuracy"]) == 2
    assert run.predict(data[0][:2]).probabilities.shape == (2, 3)


def test_the_two_parts_are_the_network(model, data):
    body, head = split_at_frozen(model)
    np.testing.assert_allclose(head(body(data[0])), model(data[0]), rtol=1e-5)
    assert head.trainable_variables == model.trainable_variables and not body.trainable_variables


def test_views_are_the_same_in_every_epoch_and_said_so(model, data, capsys):
    flips = augment.Pipeline([augment.Flip()], value_range=(0, 255), classes=3)
    run = train_head(model, data, epochs=2, augment=flips, views=3, verbose=2)
    assert run.settings["examples"] == 72
    assert "3 augmented views of each image, the same in every epoch" in capsys.readouterr().out


def test_a_network_that_learns_as_a_whole_is_refused(data):
    with pytest.raises(ValueError, match="frozen layers first"):
        train_head(models.mlp((8, 8, 3), 3), data, epochs=1, **QUIET)
