"""What `recipes.train` says no to, before a step is made or at the first batch that shows it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from quick_runs import as_dataset, quietly, small_model

from recipes import augment


@pytest.fixture(scope="module")
def split(digits):
    images, labels = digits
    order = np.random.default_rng(0).permutation(len(labels))  # the writers come one after the other
    images, labels = images[order], labels[order]
    return (images[:800], labels[:800]), (images[800:1100], labels[800:1100])


def generator():
    yield np.zeros((8, 8, 1), "float32"), 0


def nan_images():
    images = np.zeros((20, 8, 8, 1), "float32")
    images[13, 2, 2] = np.nan
    return images, np.zeros(20, "int64")


def two_sizes():
    signature = (tf.TensorSpec((None, None, 1), tf.uint8), tf.TensorSpec((), tf.int64))
    sizes = [8, 8, 9]
    return tf.data.Dataset.from_generator(
        lambda: ((np.zeros((side, side, 1), "uint8"), 0) for side in sizes), output_signature=signature
    )


ZEROS = np.zeros((20, 8, 8, 1), "uint8")


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        (lambda: (ZEROS[:0], np.zeros(0, "int64")), {}, "at least one example"),
        (lambda: as_dataset((ZEROS, np.zeros(20, "int64"))).take(0), {}, "at least one example"),
        (lambda: (ZEROS, np.full(20, 10)), {}, r"in 0\.\.9.*Received label 10"),
        (lambda: (ZEROS, np.full(20, -1)), {}, "Received label -1"),
        (lambda: as_dataset((ZEROS, np.full(20, 11))), {}, "Received label 11"),
        (lambda: (ZEROS, np.full(20, 1.0)), {}, "integer class numbers.*float64"),
        (lambda: (ZEROS, np.eye(7)[np.zeros(20, int)]), {}, "rows of 10.*classes=7"),
        (lambda: (ZEROS, np.zeros(19, "int64")), {}, r"lengths \[20, 19\]"),
        (lambda: (ZEROS[..., 0], np.zeros(20, "int64")), {}, r"x\[\.\.\., None\]"),
        (lambda: ([ZEROS[0], ZEROS[0, :5]], np.zeros(2, "int64")), {}, "images of one size"),
        (two_sizes, {}, "images of one size"),
        (generator, {}, "one-shot generator"),
        (nan_images, {}, "finite pixels.*image 13"),
        (lambda: as_dataset(nan_images()), {}, "finite pixels.*element 13"),
        (lambda: (ZEROS, np.zeros(20, "int64")), {"epochs": 0}, "epochs >= 1"),
        (
            lambda: (ZEROS, np.zeros(20, "int64")),
            {"loss": "cross_entropie"},
            "loss to be a Keras loss or its name",
        ),
        (lambda: (ZEROS, np.zeros(20, "int64")), {"batch_size": 0}, "batch_size >= 1"),
        (lambda: (ZEROS, np.zeros(20, "int64")), {"label_smoothing": 1.0}, "label_smoothing in"),
        (lambda: (ZEROS, np.zeros(20, "int64")), {"resume": True}, "run_dir="),
        (
            lambda: (ZEROS, np.zeros(20, "int64")),
            {"callbacks": [keras.callbacks.BackupAndRestore("/tmp/nowhere")]},
            "only one that resumes.*Received BackupAndRestore.*run_dir=",
        ),
        (lambda: (ZEROS, np.zeros(20, "int64")), {"steps_per_epoch": 99}, "repeat"),
        (lambda: as_dataset((ZEROS, np.zeros(20, "int64"))).repeat(), {}, "never ends.*steps_per_epoch"),
        (
            lambda: as_dataset((ZEROS, np.zeros(20, "int64"))).filter(lambda x, y: True),
            {},
            "does not know its length",
        ),
        (lambda: as_dataset((ZEROS, np.zeros(20, "int64"))).batch(2).batch(2), {}, "Batch once"),
        (lambda: as_dataset(ZEROS), {}, r"\(image, label\)"),
    ],
)
def test_bad_input_is_refused_before_training_with_what_to_do(data, options, words):
    began = []
    watch = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: began.append(True))
    with pytest.raises(ValueError, match=words):
        quietly(small_model(), data(), **{"epochs": 1, "callbacks": [watch], **options})
    assert not began


def test_what_only_later_examples_show_stops_the_first_epoch_in_the_same_words(monkeypatch):
    from recipes.training import data_checks

    monkeypatch.setattr(data_checks, "PEEK_SECONDS", 0.0)
    labels = np.zeros(40, "int64")
    labels[30] = 12
    data = as_dataset((np.zeros((40, 8, 8, 1), "uint8"), labels))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"labels of train in 0\.\.9"):
        quietly(small_model(), data, epochs=1, batch_size=8)
    images = np.zeros((40, 8, 8, 1), "float32")
    images[33] = np.nan
    with pytest.raises(tf.errors.InvalidArgumentError, match="finite pixels in train"):
        quietly(small_model(), as_dataset((images, np.zeros(40, "int64"))), epochs=1, batch_size=8)


def test_a_run_dir_with_another_run_is_left_alone(split, tmp_path):
    quietly(small_model(), split[0], epochs=1, run_dir=tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="holds run.json"):
        quietly(small_model(), split[0], epochs=1, run_dir=tmp_path)
    with pytest.raises(ValueError, match="Received others: batch_size: 128, now 64"):
        quietly(small_model(), split[0], epochs=2, run_dir=tmp_path, batch_size=64, resume=True)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_a_model_with_other_classes_than_the_data_set_is_refused(split):
    class Info:
        class_names = tuple("abc")
        source = "three letters"

    with pytest.raises(ValueError, match="classes=3"):
        quietly(small_model(), split[0], info=Info())


def test_looking_at_a_data_set_that_never_ends_stops_when_its_time_is_up(split, monkeypatch):
    from recipes.training import data_checks

    monkeypatch.setattr(data_checks, "PEEK_SECONDS", 0.0)
    read = []
    endless = (
        as_dataset(split[0])
        .repeat()
        .map(lambda x, y: (x, tf.numpy_function(lambda y: read.append(1) or y, [y], y.dtype)))
    )
    data_checks.peek(endless, "train", batched=False, classes=None)
    assert 1 <= len(read) < 10


def test_pixels_of_0_to_1_are_refused_under_a_pipeline_of_bytes_that_colors():
    images, labels = np.random.default_rng(0).random((20, 8, 8, 1), "float32"), np.zeros(20, "int64")
    noisy = augment.Pipeline([augment.Flip(), augment.GaussianNoise(0.05)])
    with pytest.raises(
        ValueError, match=r"value_range of the Pipeline.*from 0\.0.* to .*value_range=\(0, 1\)"
    ):
        quietly(small_model(), (images, labels), augment=noisy)
    moved = augment.Pipeline([augment.Flip()])  # does the same in any range
    assert quietly(small_model(), (images, labels), augment=moved).history["loss"]
