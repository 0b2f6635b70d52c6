"""What `recipes.train` says no to, before a step is made or at the first batch that shows it."""

import importlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from quick_runs import as_dataset, quietly, small_model

import recipes
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


def of_shape(*shape):
    return np.zeros((4, *shape), "uint8"), np.zeros(4, "int64")


@pytest.mark.parametrize(
    ("takes", "data", "words"),
    [
        (
            (8, 8, 3),
            of_shape(16, 16, 3),
            r"8 x 8 x 3 in train.*Received images of 16 x 16 x 3\. .*image_size=8\), or",
        ),
        ((8, 6, 3), as_dataset(of_shape(8, 8, 3)), r"image_size=\(8, 6\)"),
        (
            (None, None, 3),
            as_dataset(of_shape(8, 8, 1)).batch(2),
            "any x any x 3.*grayscale_to_rgb.*info.image_shape",
        ),
        ((8, 8, 1), of_shape(8, 8, 3), "rgb_to_grayscale"),
        ((8, 8, 3), of_shape(3, 8, 8), "np.moveaxis"),
        ((8, 8, 1), as_dataset(of_shape(8, 8)).batch(2), r"x\[\.\.\., None\]"),
        ((64,), of_shape(8, 8, 1), "reshape.*Flatten"),
        ((8, 8, 1), of_shape(64), r"reshape\(\(-1, 8, 8, 1\)\)"),
        (
            (8, 8, 1),
            as_dataset((of_shape(8, 8, 1), np.zeros(4, "int64"))).batch(2),
            "1 input .*Received 2 inputs",
        ),
    ],
)
def test_images_that_the_model_cannot_take_are_refused_with_both_shapes(takes, data, words, monkeypatch):
    module = importlib.import_module("recipes.training.train")
    monkeypatch.setattr(module, "before_training", None)  # nor does any check begin
    image = keras.Input(takes)
    mean = keras.ops.mean(image, axis=tuple(range(1, len(takes) + 1)))
    model = keras.Model(image, keras.layers.Dense(10, "softmax")(keras.ops.expand_dims(mean, -1)))
    with pytest.raises(ValueError, match=words):
        quietly(model, data, epochs=1)


def test_validation_images_of_another_size_than_the_models_are_refused():
    with pytest.raises(ValueError, match="8 x 8 x 1 in validation.*Received images of 8 x 9 x 1"):
        quietly(small_model(), of_shape(8, 8, 1), of_shape(8, 9, 1), epochs=1)


def test_shapes_are_refused_where_keras_would_refuse_them():
    from recipes.common.input_shapes import check_inputs

    sizes = (None, 1, 4)
    shapes = [(a, b) for a in sizes for b in (1, 4)] + [(1,), (4,), (4, 4, 1), (4, 4, 4)]
    for takes in shapes:
        image = keras.Input(takes)
        model = keras.Model(image, keras.layers.Dense(2)(image))
        for given in shapes:
            if None in given:
                continue
            said = []
            for tell in (lambda x: check_inputs("f", "x", model, x), lambda x: model(x)):  # noqa: B023 - called at once
                try:
                    tell(np.zeros((2, *given), "float32"))
                    said.append(True)
                except ValueError:
                    said.append(False)
            # Keras lets an axis of length 1 pass for another one.
            assert said[0] == said[1] or (1 in takes and said[1]), (takes, given)


def test_the_examples_of_several_inputs_are_compared_by_name():
    photo, facts = keras.Input((8, 8, 1), name="photo"), keras.Input((4,), name="facts")
    joined = keras.layers.Concatenate()([keras.layers.Flatten()(photo), facts])
    model = keras.Model([photo, facts], keras.layers.Dense(10, "softmax")(joined))
    images, labels = of_shape(8, 8, 1)
    with pytest.raises(ValueError, match="2 inputs .*'photo', 'facts'. Received 1 input. Map"):
        quietly(model, (images, labels), epochs=1)
    rows = {"facts": np.zeros((4, 5)), "photo": images}
    with pytest.raises(ValueError, match=r"shape \(4,\) as 'facts'.*Received examples of shape \(5,\)"):
        quietly(model, as_dataset((rows, labels)).batch(2), epochs=1)


def test_a_misspelled_argument_is_told_with_its_function_beside_the_nearest():
    with pytest.raises(TypeError, match=r"^recipes.train expects .*Received epoch=. Did you mean epochs=\?"):
        recipes.train(small_model(), (ZEROS, np.zeros(20, "int64")), epoch=1)
    with pytest.raises(
        TypeError, match=r"^data.load expects .*Received imagesize=. Did you mean image_size=\?"
    ):
        recipes.data.load("digits", imagesize=8)
    with pytest.raises(TypeError, match=r"^TrainingDoctor expects .*Received trian=. Did you mean train=\?"):
        recipes.callbacks.TrainingDoctor(trian=1)
    with pytest.raises(
        TypeError, match=r"^EarlyStopping expects .*Received patiense=. Did you mean patience=\?"
    ):
        recipes.callbacks.EarlyStopping(patiense=1)


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
