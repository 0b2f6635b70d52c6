"""TFRecord files: their images, classes and parts are those that were written, byte for byte."""

import io
import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import recipes
from recipes import data


def encoded(number, kind="PNG"):
    """A gray square of its own brightness."""
    file = io.BytesIO()
    Image.new("RGB", (10, 8), (number * 3,) * 3).save(file, kind)
    return file.getvalue()


def feature(value):
    values = value if isinstance(value, list) else [value]
    if isinstance(values[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if isinstance(values[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


@pytest.fixture
def write(tmp_path):
    def write(name, records, compression=None):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with tf.io.TFRecordWriter(str(file), compression) as writer:
            for record in records:
                features = tf.train.Features(feature={key: feature(value) for key, value in record.items()})
                writer.write(tf.train.Example(features=features).SerializeToString())
        return file

    return write


def load(path, image_size=4, validation=0.25, **options):
    return data.load(path, image_size, validation, verbose=0, **options)


def numbers(dataset):
    """`{brightness / 3: label}` of a data set."""
    return {int(image[0, 0, 0]) // 3: label.tolist() for image, label in dataset.as_numpy_iterator()}


@pytest.mark.parametrize("cache", ["memory", None])
def test_a_folder_of_tensorflow_datasets_keeps_its_parts(write, tmp_path, cache):
    for part, first in (("train", 0), ("test", 20)):
        records = [
            {"image": encoded(n, ("PNG", "JPEG")[n % 2]), "label": n % 3} for n in range(first, first + 9)
        ]
        write(f"flowers/3.0.1/flowers-{part}.tfrecord-00000-of-00002", records[:5])
        write(f"flowers/3.0.1/flowers-{part}.tfrecord-00001-of-00002", records[5:])
    (tmp_path / "flowers/3.0.1/label.labels.txt").write_text("daisy\nrose\ntulip\n")
    train, validation, info = load(tmp_path / "flowers", cache=cache)
    assert info.class_names == ("daisy", "rose", "tulip")
    assert numbers(train) | numbers(validation) == {n: n % 3 for n in range(9)}
    assert numbers(load(tmp_path / "flowers", part="test")[0]) == {n: n % 3 for n in range(20, 29)}
    for (image, _), name in zip(train.as_numpy_iterator(), info.files["train"], strict=True):
        assert np.array_equal(data.read_image(name, 4), image)


def test_numbers_have_the_names_beside_them(write, tmp_path):
    records = [
        {"image/encoded": encoded(n), "image/class/label": 1 + n % 2, "image/class/text": [b"z", b"a"][n % 2]}
        for n in range(8)
    ]
    write("train-00000-of-00002", records[:4])
    write("train-00001-of-00002", records[4:])
    train, _, info = load(tmp_path, validation=0)
    assert info.class_names == ("z", "a")
    assert numbers(train) == {n: n % 2 for n in range(8)}


@pytest.mark.parametrize(
    "labels, expected",
    [
        ([2, 0, 2, 0], [2, 0, 2, 0]),
        ([b"b", b"a", b"b", b"c"], [1, 0, 1, 2]),
        ([1.0, 0.0, 1.0, 1.0], [1, 0, 1, 1]),
        ([[0, 1], [1, 0], [0, 1], [0, 1]], [1, 0, 1, 1]),
        ([[0, 1], [1, 1], [0, 1], [0, 1]], [[0, 1], [1, 1], [0, 1], [0, 1]]),
        ([[2], [0, 2], [1, 2], [1]], [[0, 0, 1], [1, 0, 1], [0, 1, 1], [0, 1, 0]]),
        ([9001, 17, 9001, 400], [2, 0, 2, 1]),
    ],
)
def test_labels_of_any_kind_become_class_numbers(write, labels, expected):
    file = write("a.tfrecord", [{"image": encoded(n), "label": label} for n, label in enumerate(labels)])
    assert numbers(load(file, validation=0)[0]) == dict(enumerate(expected))


def test_features_go_by_the_names_that_are_told(write, tmp_path):
    write(
        "a.tfrec",
        [{"one": encoded(n), "two": encoded(n + 9), "sex": n % 2, "species": n % 3} for n in range(6)],
    )
    train = load(
        str(tmp_path / "*.tfrec"), validation=0, labels=("two", "species"), class_names=["x", "y", "z"]
    )[0]
    assert numbers(train) == {n + 9: n % 3 for n in range(6)}


@pytest.mark.parametrize(
    "record, message",
    [
        ({"image_raw": bytes(300), "label": 1, "height": 10}, "Raw pixels are not read"),
        ({"image": encoded(1), "segmentation_mask": encoded(2)}, "Masks in records are not read"),
        ({"image": encoded(1), "image/object/bbox/xmin": [0.5]}, "Detection is not covered"),
        ({"image": encoded(1), "label": 0.5}, "Regression is not covered"),
        ({"image": encoded(1), "age": 3, "sex": 1}, "Say which it is"),
        (
            {"left": encoded(1), "right": encoded(1), "label": 1},
            "one encoded image per record, or to be told which",
        ),
        ({"image": encoded(1), "label": 0}, "at least two classes"),
        ({"image": encoded(1), "label": -1}, "no 'label' in it"),
        ({"image": b"", "label": 1}, "hold none"),
    ],
)
def test_records_of_something_else_are_refused(write, record, message):
    with pytest.raises(ValueError, match=message):
        load(write("a.tfrecord", [record] * 3))


def test_damaged_files_are_refused(write, tmp_path):
    file = write("a.tfrecord", [{"image": encoded(n), "label": n % 2} for n in range(4)])
    content = file.read_bytes()
    for damaged in (content[:-9], content[:90] + b"?" + content[91:]):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="record at byte .* cannot be read. Copy or write it again"):
            load(file)
    with pytest.raises(ValueError, match="Decompress it first"):
        load(write("b.tfrecord", [{"image": encoded(1), "label": 1}], "GZIP"))


def test_a_bad_image_in_a_record_is_skipped(write):
    records = [{"image": encoded(n), "label": n % 2} for n in range(6)]
    records[3]["image"] = records[3]["image"][:60]
    file = write("a.tfrecord", records)
    train, _, info = load(file, validation=0, on_error="skip")
    assert numbers(train) == {n: n % 2 for n in (0, 1, 2, 4, 5)}
    assert len(info.skipped) == 1 and f"{file}#" in info.skipped[0]


def test_a_packed_file_of_records_is_made_anew_when_they_change(write, tmp_path):
    cache = tmp_path / "a.packed"
    for first in (0, 10):
        file = write("a.tfrecord", [{"image": encoded(n), "label": n % 2} for n in range(first, first + 4)])
        os.utime(file, ns=(first, first))
        assert numbers(load(file, validation=0, cache=cache)[0]) == {
            n: n % 2 for n in range(first, first + 4)
        }


def test_train_takes_dictionaries_of_image_with_label():
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    images, labels = np.zeros((8, 4, 4, 3), "uint8"), np.arange(8) % 2
    images[labels == 1] = 255
    tfds = tf.data.Dataset.from_tensor_slices({"id": np.arange(8), "image": images, "label": labels})
    run = recipes.train(
        model, tfds, tfds, epochs=2, batch_size=4, augment=None, monitor=False, preflight=False, verbose=0
    )
    assert len(run.history["val_accuracy"]) == 2


@pytest.mark.parametrize("parse", [False, True])
def test_train_says_how_to_read_strings(write, parse):
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    records = tf.data.TFRecordDataset(str(write("a.tfrecord", [{"image": encoded(1), "label": 1}])))
    if parse:
        records = records.map(lambda record: {"image": record, "label": 1})
    with pytest.raises(ValueError, match="decoded images. Received strings.*data.load"):
        recipes.train(model, records, epochs=1, verbose=0)
