import keras
import numpy as np
import pytest

import recipes
from recipes import models
from recipes.models import transfer, unfreeze

L = keras.layers


@pytest.fixture
def backbone():
    model = models.resnet((8, 8, 3), 5, depth=8)
    return keras.Model(model.input, model.get_layer("top_relu").output, name="backbone")


@pytest.fixture
def data():
    random = np.random.default_rng(0)
    return random.integers(0, 256, (32, 8, 8, 3), dtype="uint8"), random.integers(0, 3, 32)


def changed(before, model):
    return {
        variable.path
        for variable, old in zip(model.weights, before, strict=True)
        if not np.array_equal(old, np.asarray(variable))
    }


def test_first_the_head_learns_then_the_upper_layers_and_never_a_normalization(backbone, data):
    before_all = backbone.get_weights()
    model = transfer(backbone, 3)
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    model.fit(*data, epochs=2, verbose=0)
    assert changed(before, model) == {"predictions/kernel", "predictions/bias"}
    model = unfreeze(model, from_layer="stage3_block1_conv1")
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    model.fit(*data, epochs=2, verbose=0)
    assert changed(before, model) == {
        "stage3_block1_conv1/kernel",
        "stage3_block1_conv2/kernel",
        "predictions/kernel",
        "predictions/bias",
    }
    # The given backbone is another model, as trainable as it was.
    for old, new in zip(before_all, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert len(backbone.trainable_variables) > 20


def test_the_head_sees_the_backbones_averaged_features(backbone, data):
    model = transfer(backbone, 3, classifier_activation=None)
    features = np.asarray(backbone(data[0])).mean(axis=(1, 2))
    kernel, bias = model.get_layer("predictions").get_weights()
    np.testing.assert_allclose(model(data[0]), features @ kernel + bias, rtol=1e-4, atol=1e-5)
    # One flat graph, so that a layer can be pointed at.
    look = keras.Model(model.input, model.get_layer("top_relu").output)
    np.testing.assert_allclose(look(data[0]), backbone(data[0]), rtol=1e-5, atol=1e-5)


def test_an_application_with_its_preprocessing_is_one_model_that_takes_raw_pixels(tmp_path):
    backbone = keras.applications.MobileNetV2(
        weights=None, include_top=False, alpha=0.35, input_shape=(32, 32, 3)
    )
    preprocess = keras.applications.mobilenet_v2.preprocess_input
    model = transfer(backbone, 3, preprocess=preprocess, classifier_activation=None)
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    features = np.asarray(backbone(preprocess(images.copy()))).mean(axis=(1, 2))
    kernel, bias = model.get_layer("predictions").get_weights()
    np.testing.assert_allclose(model(images), features @ kernel + bias, rtol=1e-3, atol=1e-6)
    model.save(tmp_path / "model.keras")
    np.testing.assert_allclose(
        keras.models.load_model(tmp_path / "model.keras")(images), model(images), rtol=1e-5
    )


def test_an_old_classifier_is_replaced_by_naming_the_layer_before_it(data):
    old = models.resnet((8, 8, 3), 5, depth=8)
    old.compile("sgd", "mse")
    with pytest.raises(ValueError, match="classifier 'predictions'.*include_top=False"):
        transfer(old, 3)
    model = transfer(old, 3, features="top_average")
    assert model.output_shape == (None, 3) and not model.compiled
    np.testing.assert_allclose(
        keras.Model(model.input, model.get_layer("top_average").output)(data[0]),
        keras.Model(old.input, old.get_layer("top_average").output)(data[0]),
        rtol=1e-5,
    )
    sequence = keras.Sequential([keras.Input((4,)), L.Dense(6), L.ReLU()])
    assert transfer(sequence, 2).output_shape == (None, 2)


def test_both_phases_run_in_recipes_train(backbone, data):
    model = transfer(backbone, 3)
    before = model.get_weights()
    options = {
        "epochs": 1,
        "batch_size": 16,
        "augment": None,
        "preflight": False,
        "monitor": False,
        "verbose": 0,
    }
    run = recipes.train(model, data, data, optimizer="adam", learning_rate=1e-2, unfreeze=None, **options)
    assert changed(before, run.model) == {"predictions/kernel", "predictions/bias"}
    upper = unfreeze(run.model, from_layer="stage3_block1_conv2")
    before = upper.get_weights()
    run = recipes.train(upper, data, data, optimizer="adam", learning_rate=1e-3, **options)
    assert changed(before, run.model) == {
        "stage3_block1_conv2/kernel",
        "predictions/kernel",
        "predictions/bias",
    }


def test_unusable_backbones_are_refused(backbone):
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    two = [keras.Input((4,)), keras.Input((4,))]
    for bad, options, message in (
        (Subclassed(), {}, "of type Subclassed"),
        (keras.Sequential([L.Dense(3)]), {}, "not built"),
        (keras.Model(two, L.Add()(two)), {}, "which has 2"),
        (backbone, {"features": "block5"}, r"features='block5'.*'top_relu'"),
        (backbone, {"dropout": 1.0}, "dropout=1.0"),
        (backbone, {"classes": 0}, "classes=0"),
        (keras.Sequential([keras.Input((4, 3)), L.Dense(3)]), {}, r"Received shape \(None, 4, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            transfer(bad, **{"classes": 3, **options})
    with pytest.raises(ValueError, match="from_layer='block5'"):
        unfreeze(transfer(backbone, 3), from_layer="block5")


def application(name):
    options = {"weights": None, "include_top": False, "input_shape": (64, 64, 3)}
    return getattr(keras.applications, name)(**options)


@pytest.mark.parametrize(
    ("name", "family", "expected"),
    [
        ("MobileNetV2", "mobilenet_v2", [-1.0, 1.0]),
        ("VGG16", "vgg16", [-103.939, 255 - 103.939]),
        ("EfficientNetB0", None, [0.0, 255.0]),
    ],
)
def test_preprocessing_of_an_application_is_found_and_becomes_part_of_the_model(name, family, expected):
    keras.backend.clear_session()  # the names of layers are numbered anew
    backbone = application(name)
    facts = models.describe_backbone(backbone)
    assert (facts.family, facts.image_size) == (family, (64, 64))
    model = transfer(backbone, 3)
    first = next(one for one in model.layers if one.weights or one.name == "rescaling")
    looked = keras.Model(model.input, first.input if not isinstance(first.input, list) else first.input[0])
    images = np.stack([np.zeros((64, 64, 3)), np.full((64, 64, 3), 255.0)]).astype("float32")
    seen = np.asarray(looked(images))
    # What reaches the first layer: of black and of white, in its first channel; padding aside.
    middle = seen.shape[1] // 2
    np.testing.assert_allclose(seen[:, middle, middle, 0], expected, rtol=1e-5)


def test_families_whose_size_is_open_tell_that_of_their_weights():
    backbone = keras.applications.MobileNetV2(weights=None, include_top=False)
    assert models.describe_backbone(backbone).image_size == (224, 224)


def test_the_upper_half_begins_where_half_of_the_kernels_lie_behind(backbone, data):
    model = transfer(backbone, 3)
    opened = unfreeze(model)
    learning = [one.name for one in opened.layers if one.trainable and one.weights]
    # Of 7 convolutions in a row (the ResNet's) and the classifier: levels 5 to 8.
    assert learning[0] == models.describe_backbone(model).freeze_point == "stage2_block1_conv2"


def test_a_transferred_network_learns_whole_at_rates_by_depth_by_default(backbone, data):
    options = {"augment": None, "monitor": False, "preflight": False, "verbose": 0}
    options |= {"epochs": 2, "batch_size": 16}
    keras.utils.set_random_seed(0)
    model = transfer(backbone, 3)
    before = model.get_weights()
    recipes.train(model, data, **options)
    moved = changed(before, model)
    assert "stem_conv/kernel" in moved and not any("bn" in path or "norm" in path for path in moved)
    keras.utils.set_random_seed(0)
    by_hand = unfreeze(transfer(backbone, 3), from_layer="stem_conv")
    recipes.train(by_hand, data, rates=0.75, optimizer="adam", **options)
    assert list(model.optimizer.factors) == list(by_hand.optimizer.factors)
    for one, other in zip(model.get_weights(), by_hand.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_rates_of_the_user_stay_when_a_transferred_network_is_freed(backbone, data):
    model = transfer(backbone, 3)
    rates = {"head": 1.0, "backbone": 0.1}
    options = {"augment": None, "monitor": False, "preflight": False, "verbose": 0}
    recipes.train(model, data, epochs=1, batch_size=16, rates=rates, **options)
    assert sorted(set(model.optimizer.factors)) == [0.1, 1.0]


def test_unfreezing_is_left_out_where_it_is_not_wanted(backbone, data):
    model = transfer(backbone, 3)
    before = model.get_weights()
    options = {"augment": None, "monitor": False, "preflight": False, "verbose": 0}
    recipes.train(model, data, epochs=4, batch_size=16, unfreeze=None, **options)
    assert changed(before, model) == {"predictions/kernel", "predictions/bias"}


def test_a_user_who_freed_layers_has_said_what_learns(backbone, data):
    model = unfreeze(transfer(backbone, 3), from_layer="stage3_block1_conv2")
    learning = {variable.path for variable in model.trainable_variables}
    before = model.get_weights()
    options = {"augment": None, "monitor": False, "preflight": False, "verbose": 0}
    run = recipes.train(model, data, epochs=4, batch_size=16, **options)
    assert changed(before, model) == learning
    assert {variable.path for variable in run.model.trainable_variables} == learning
    assert type(run.model.optimizer) is keras.optimizers.Adam  # at one rate
