import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
from fresh_process import FreshProcess

import recipes
from recipes.callbacks import NonFiniteGuard
from recipes.training.source import open_source, stream


def small_model(classes=10, activation="softmax", compiled=False, dropout=0.1):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(1 / 128, offset=-1),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.Dropout(dropout),
            keras.layers.Flatten(),
            keras.layers.Dense(classes, activation=activation),
        ]
    )
    if compiled:
        model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def quietly(model, *data, **options):
    """`recipes.train` without what a test does not look at."""
    off = {"augment": None, "monitor": False, "preflight": False, "verbose": 0}
    return recipes.train(model, *data, **{**off, **options})


@pytest.fixture(scope="module")
def split(digits):
    images, labels = digits
    order = np.random.default_rng(0).permutation(len(labels))  # the writers come one after the other
    images, labels = images[order], labels[order]
    return (images[:800], labels[:800]), (images[800:1100], labels[800:1100])


def as_dataset(arrays):
    return tf.data.Dataset.from_tensor_slices(arrays)


def test_train_learns_the_digits_and_logs_every_epoch(split):
    train, validation = split
    run = quietly(small_model(), train, validation, epochs=8, batch_size=32, learning_rate=0.05)
    assert run.history["val_accuracy"][-1] > 0.9
    assert set(run.history) == {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"}
    assert {len(values) for values in run.history.values()} == {8}
    # The last logged rate is that of the last step of a decay to zero.
    assert run.history["learning_rate"][-1] < 1e-3 < max(run.history["learning_rate"])
    assert [finding for finding in run.findings if finding.severity != "info"] == []


def test_arrays_and_datasets_give_the_same_checks_but_only_unbatched_data_is_reshuffled(split):
    train, _ = split
    model = small_model()
    for data in (train, as_dataset(train)):
        source = open_source(data, "train", model=model, batch_size=100, classes=10, shuffle=True, seed=0)
        epochs = [np.concatenate([y for _, y in source.batches(tf.constant(e, tf.int64))]) for e in (0, 1, 0)]
        np.testing.assert_array_equal(epochs[0], epochs[2])
        assert (epochs[0] != epochs[1]).any()
        np.testing.assert_array_equal(np.sort(epochs[0]), np.sort(train[1]))
        assert (source.steps, source.examples) == (8, 800)
    batched = open_source(
        as_dataset(train).batch(50), "train", model=model, batch_size=100, classes=10, shuffle=True, seed=0
    )
    np.testing.assert_array_equal(np.concatenate([y for _, y in batched.batches(0)]), train[1])


def test_a_stream_that_starts_late_equals_the_end_of_a_whole_one(split):
    source = open_source(
        as_dataset(split[0]), "train", model=small_model(), batch_size=64, classes=10, shuffle=True, seed=3
    )

    def numbers(first):
        tf.random.set_seed(first)  # the reader's seed has no say in it
        data = stream(
            source, first_epoch=first, epochs=3, steps=5, transform=lambda batch, seed: (batch[1], seed)
        )
        return [(labels.numpy().tolist(), seed.numpy().tolist()) for labels, seed in data]

    whole, late = numbers(0), numbers(2)
    assert late == whole[10:]
    assert [seed for _, seed in whole] == [[epoch, step] for epoch in range(3) for step in range(5)]


def test_an_endless_dataset_goes_on_across_epochs():
    count = tf.data.Dataset.counter().map(lambda i: (tf.zeros((8, 8, 1)), i % 10)).batch(4)
    source = open_source(count, "train", model=small_model(), batch_size=1, classes=10, shuffle=True, seed=0)
    data = stream(source, first_epoch=0, epochs=2, steps=3, transform=lambda batch, seed: batch[1])
    assert np.concatenate(list(data)).tolist() == [i % 10 for i in range(24)]


class _Interrupt(keras.callbacks.Callback):
    def __init__(self, at):
        super().__init__()
        self.at = at

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations.numpy()) == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("compiled", "extra"),
    [
        (False, {"early_stopping": 3, "augment": "standard"}),
        (True, {"average": "swa", "early_stopping": keras.callbacks.EarlyStopping(patience=3)}),
        (False, {"average": "ema"}),
        (False, {"snapshots": 2}),
    ],
)
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(split, tmp_path, compiled, extra):
    train, validation = split
    options = {"epochs": 4, "batch_size": 100, **extra}
    whole = quietly(small_model(compiled=compiled), train, validation, **options)
    with pytest.raises(KeyboardInterrupt):
        quietly(
            small_model(compiled=compiled),
            train,
            validation,
            callbacks=[_Interrupt(at=20)],
            run_dir=tmp_path / "run",
            **options,
        )
    assert (tmp_path / "run/backup.npz").exists()
    resumed = quietly(
        small_model(compiled=compiled), train, validation, run_dir=tmp_path / "run", resume=True, **options
    )
    for expected, received in zip(whole.model.get_weights(), resumed.model.get_weights(), strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)
    for name, values in whole.history.items():
        np.testing.assert_allclose(resumed.history[name], values, rtol=1e-4, atol=1e-5)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names - {"snapshots"} == {
        "model.keras",
        "best.keras",
        "history.csv",
        "curves.png",
        "findings.json",
        "run.json",
        "last.npz",  # what more epochs would begin with
    }
    if "snapshots" in extra:
        for expected, received in zip(whole.snapshots.members, resumed.snapshots.members, strict=True):
            np.testing.assert_allclose(
                received.get_weights()[0], expected.get_weights()[0], rtol=1e-4, atol=1e-6
            )


@pytest.mark.parametrize("average", ["ema", "swa"])
def test_averaged_runs_end_with_the_average_not_the_last_weights(split, average):
    train, validation = split
    plain = quietly(small_model(), train, validation, epochs=3, batch_size=100)
    averaged = quietly(small_model(), train, validation, epochs=3, batch_size=100, average=average)
    difference = np.abs(averaged.model.get_weights()[0] - plain.model.get_weights()[0]).max()
    assert 0 < difference < 0.5
    loss, _ = averaged.model.evaluate(*validation)
    np.testing.assert_allclose(averaged.history["val_loss"][-1], loss, rtol=1e-4)


@pytest.mark.filterwarnings(
    "ignore:UpdateRatioMonitor"
)  # three epochs are short, so the first steps are large
def test_checks_and_monitors_change_no_bit_and_leave_their_findings_and_record(split, tmp_path, capsys):
    train, validation = split
    plain = quietly(small_model(), train, validation, epochs=3, batch_size=40)
    watched = quietly(
        small_model(),
        train,
        validation,
        epochs=3,
        batch_size=40,
        monitor=True,
        preflight=True,
        run_dir=tmp_path,
        verbose=2,
    )
    for expected, received in zip(plain.model.get_weights(), watched.model.get_weights(), strict=True):
        np.testing.assert_array_equal(received, expected)
    for name, values in plain.history.items():
        np.testing.assert_array_equal(watched.history[name], values)
    extra = set(watched.history) - set(plain.history)
    assert extra and all(name.startswith("monitor/") for name in extra)
    printed = capsys.readouterr().out
    assert "preflight took" in printed and "monitor/" not in printed
    assert len(watched.record) >= 1 and plain.record is None
    page = watched.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<html" in page and "sgd" in page
    loaded = recipes.Run.load(tmp_path)
    assert loaded.findings == watched.findings
    np.testing.assert_array_equal(loaded.record.step, watched.record.step)


def test_looking_at_a_shuffled_data_set_leaves_the_order_of_its_epochs(split):
    (images, labels), held_out = split

    def shuffled():
        tf.random.set_seed(3)
        return as_dataset((images, labels)).shuffle(800, seed=5).batch(40)

    by_hand = small_model(compiled=True, dropout=0.0)
    data = shuffled()
    for _ in range(2):
        for batch in data:
            by_hand.train_on_batch(*batch)
    looked = small_model(compiled=True, dropout=0.0)
    quietly(looked, shuffled(), held_out, epochs=2, schedule=None, monitor=True, preflight=True)
    for expected, received in zip(by_hand.get_weights(), looked.get_weights(), strict=True):
        np.testing.assert_allclose(received, expected, atol=1e-5)


class Spoil(keras.callbacks.Callback):
    """Makes a weight infinite at the beginning of one epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            kernel = self.model.trainable_variables[0]
            kernel.assign(np.full(kernel.shape, np.inf))


def test_a_run_that_ends_in_nan_keeps_the_backup_of_its_last_good_epoch(split, tmp_path):
    options = {"epochs": 5, "batch_size": 40, "run_dir": tmp_path}
    with pytest.warns(UserWarning, match="NonFiniteGuard expects finite numbers"):
        quietly(small_model(), *split, **options, callbacks=[NonFiniteGuard(), Spoil(2)])
    resumed = quietly(small_model(), *split, **options, resume=True)
    whole = quietly(small_model(), *split, epochs=5, batch_size=40)
    assert len(resumed.history["loss"]) == 5 and not (tmp_path / "backup.npz").exists()
    for expected, received in zip(whole.model.get_weights(), resumed.model.get_weights(), strict=True):
        np.testing.assert_allclose(received, expected, atol=1e-5)


def test_a_silent_fault_is_found(split):
    """Labels in no relation to the images: nothing crashes, nothing is learned, and the run says so."""
    (images, labels), validation = split
    shuffled = np.random.default_rng(0).permutation(labels)
    run = quietly(small_model(), (images, shuffled), validation, epochs=4, batch_size=40, monitor=True)
    assert any(finding.severity != "info" for finding in run.findings)


KILLED = """
import sys, numpy as np, keras
sys.path.insert(0, {tests!r})
from test_train import quietly, small_model
from sklearn.datasets import load_digits
images, labels = load_digits(return_X_y=True)
images = np.rint(images.reshape(-1, 8, 8, 1) * (255 / 16)).astype("uint8")
order = np.random.default_rng(0).permutation(len(labels))
images, labels = images[order], labels[order]
class Slow(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        import time; time.sleep(0.05)
        print("step", int(self.model.optimizer.iterations.numpy()), flush=True)
quietly(small_model(), (images[:800], labels[:800]), epochs=4, batch_size=100,
        run_dir={folder!r}, resume=True, callbacks=[Slow()])
"""


@pytest.mark.slow
def test_sigkill_in_mid_epoch_loses_at_most_that_epoch(split, tmp_path):
    folder = tmp_path / "run"
    script = tmp_path / "killed.py"
    script.write_text(KILLED.format(tests=os.path.dirname(__file__), folder=str(folder)), encoding="utf-8")
    process = FreshProcess(script, folder=tmp_path)
    process.wait_for("step 20")  # in the middle of the third epoch of 8 steps
    process.kill()
    assert process.wait() == -signal.SIGKILL
    started = []
    recorder = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: started.append(epoch))
    run = quietly(
        small_model(),
        split[0],
        epochs=4,
        batch_size=100,
        verbose=0,
        run_dir=folder,
        resume=True,
        callbacks=[recorder],
    )
    assert started == [2, 3]
    assert len(run.history["loss"]) == 4
    assert int(run.model.optimizer.iterations.numpy()) == 4 * 8
    # A finished run is handed back as it is.
    again = quietly(
        small_model(),
        split[0],
        epochs=4,
        batch_size=100,
        verbose=0,
        run_dir=folder,
        resume=True,
        callbacks=[recorder],
    )
    assert started == [2, 3]
    np.testing.assert_array_equal(again.model.get_weights()[0], run.model.get_weights()[0])


def test_run_saves_and_loads(split, tmp_path):
    train, validation = split
    run = quietly(small_model(), train, validation, epochs=2)
    run.save(tmp_path / "a")
    loaded = recipes.Run.load(tmp_path / "a")
    np.testing.assert_array_equal(loaded.model.predict(train[0][:9]), run.model.predict(train[0][:9]))
    assert loaded.history == run.history
    assert loaded.settings["epochs"] == 2 and loaded.settings["versions"]["keras"] == keras.__version__
    with pytest.raises(ValueError, match="without a run in it|which holds run.json"):
        run.save(tmp_path / "a")
    with pytest.raises(ValueError, match="without model.keras"):
        recipes.Run.load(tmp_path)


def test_a_truncated_backup_is_named_and_the_reader_told_what_to_do(split, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        quietly(
            small_model(),
            split[0],
            epochs=3,
            batch_size=100,
            verbose=0,
            run_dir=tmp_path,
            callbacks=[_Interrupt(12)],
        )
    backup = tmp_path / "backup.npz"
    backup.write_bytes(backup.read_bytes()[:-200])
    with pytest.raises(ValueError, match="cannot be read.*Remove the file"):
        quietly(small_model(), split[0], epochs=3, batch_size=100, run_dir=tmp_path, resume=True)


def test_a_failing_write_leaves_the_old_file(tmp_path):
    from recipes.common.files import write_atomically

    path = tmp_path / "a.txt"
    write_atomically(path, lambda temporary: temporary.write_text("old"))

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_compiled_model_keeps_its_optimizer_and_gets_its_rate_back(split):
    model = small_model(compiled=True)
    optimizer = model.optimizer
    run = quietly(model, split[0], epochs=2)
    assert run.model is model and model.optimizer is optimizer
    assert max(run.history["learning_rate"]) <= 2e-3
    with pytest.raises(ValueError, match="Received learning_rate=0.1"):
        quietly(model, split[0], learning_rate=0.1)
    with pytest.raises(ValueError, match="Received optimizer='sgd'"):
        quietly(model, split[0], optimizer="sgd")


@pytest.mark.parametrize(
    ("activation", "classes", "rows", "smoothing", "expected"),
    [
        ("softmax", 10, False, 0.0, ("sparse_categorical_crossentropy", False)),
        ("linear", 10, False, 0.0, ("sparse_categorical_crossentropy", True)),
        ("softmax", 10, True, 0.0, ("categorical_crossentropy", False)),
        (None, 10, False, 0.1, ("categorical_crossentropy", True)),
        ("sigmoid", 1, False, 0.0, ("binary_crossentropy", False)),
        ("sigmoid", 10, True, 0.0, ("binary_crossentropy", False)),
    ],
)
def test_loss_auto_follows_the_last_activation_and_the_labels(
    split, activation, classes, rows, smoothing, expected
):
    (images, labels), _ = split
    labels = np.minimum(labels, 1) if classes == 1 else labels
    labels = np.eye(10, dtype="float32")[labels] if rows else labels
    model = small_model(classes=classes, activation=activation)
    run = quietly(model, (images, labels), epochs=1, label_smoothing=smoothing)
    assert (model.loss.name, model.loss.get_config()["from_logits"]) == expected
    assert np.isfinite(run.history["loss"][0])


def test_sgd_weight_decay_shrinks_kernels_at_the_pace_of_an_l2_penalty_and_spares_biases(split):
    model = small_model(dropout=0)
    quietly(model, split[0], epochs=1, learning_rate=0.1, weight_decay=1e-3)
    optimizer = model.optimizer
    kernel, bias = keras.Variable(np.ones((2, 2))), keras.Variable(np.ones(2))
    assert not optimizer._use_weight_decay(model.layers[-1].bias)
    assert optimizer._use_weight_decay(model.layers[-1].kernel)

    # L2 written out: velocity and weight of SGD with Nesterov momentum 0.9 on the gradient of 0.001 / 2 w^2.
    weight, velocity = 1.0, 0.0
    for _ in range(300):
        gradient = 1e-3 * weight
        velocity = 0.9 * velocity - 0.1 * gradient
        weight += 0.9 * velocity - 0.1 * gradient
    ours = keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=optimizer.weight_decay)
    ours.build([kernel, bias])
    for _ in range(300):
        ours.apply([keras.ops.zeros((2, 2)), keras.ops.zeros(2)])
    np.testing.assert_allclose(
        kernel.numpy()[0, 0], weight, rtol=0.01
    )  # it takes momentum 9 steps to build up


def test_two_devices_train_as_one(split, two_replicas):
    (images, labels), validation = split
    one = quietly(small_model(dropout=0), (images, labels), validation, epochs=2, batch_size=80)
    model = small_model(dropout=0)
    two = quietly(model, (images, labels), validation, epochs=2, batch_size=80, strategy=two_replicas)
    np.testing.assert_allclose(two.history["val_loss"], one.history["val_loss"], rtol=1e-3)
    np.testing.assert_allclose(model.get_weights()[0], one.model.get_weights()[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("scale", "offset", "words"),
    [
        (1, 0, "light, for symbols"),
        (1 / 255, 0, "light, for symbols"),
        (1 / 128, -1, "none, as pixels reach from -1"),
    ],
)
def test_standard_augmentation_follows_the_range_of_the_pixels(split, capsys, scale, offset, words):
    (images, labels), _ = split
    images = images[:200] * np.float32(scale) + np.float32(offset)
    quietly(small_model(), (images, labels[:200]), epochs=1, verbose=2, augment="standard")
    assert words in capsys.readouterr().out


def test_mixed_labels_train_with_rows_and_validate_with_rows(split):
    from recipes import augment

    train, validation = split
    mix = augment.Pipeline([augment.MixUp(0.4)], classes=10, seed=1, jit_compile=False)
    run = quietly(small_model(), train, validation, epochs=2, augment=mix)
    assert run.model.loss.name == "categorical_crossentropy"
    assert np.isfinite(run.history["val_loss"]).all()
    zeros = (np.zeros((16, 8, 8, 1), "uint8"), np.arange(16) % 2)  # labels that are True and False
    held_out = (zeros[0], zeros[1].astype(bool))
    quietly(small_model(2), zeros, held_out, epochs=1, label_smoothing=0.1)
    with pytest.raises(ValueError, match="Compile it with 'categorical_crossentropy'"):
        quietly(small_model(compiled=True), train, epochs=1, augment=mix)


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
        (lambda: (ZEROS, np.zeros(20, "int64")), {"batch_size": 0}, "batch_size >= 1"),
        (lambda: (ZEROS, np.zeros(20, "int64")), {"label_smoothing": 1.0}, "label_smoothing in"),
        (lambda: (ZEROS, np.zeros(20, "int64")), {"resume": True}, "run_dir="),
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


def test_class_weights_are_those_of_examples_and_1_where_none_is_given(split):
    (images, labels), _ = split
    weights = np.where(labels == 3, 5.0, 1.0).astype("float32")
    weighted = quietly(small_model(), (images, labels, weights), epochs=1, label_smoothing=0.0)
    given = quietly(small_model(), (images, labels), epochs=1, class_weight={3: 5.0})
    for mine, theirs in zip(given.model.get_weights(), weighted.model.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)
    with pytest.raises(ValueError, match=r"0\.\.9 as keys of class_weight. Received 10"):
        quietly(small_model(), split[0], epochs=1, class_weight={10: 2.0})


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


def test_no_iterator_of_a_run_has_an_autotuner_to_wait_for(split, monkeypatch):
    read, iterate = [], tf.data.Dataset.__iter__

    def spy(dataset):
        read.append(dataset.options().autotune.enabled)
        return iterate(dataset)

    monkeypatch.setattr(tf.data.Dataset, "__iter__", spy)
    train, validation = (as_dataset(part) for part in split)
    quietly(small_model(), train, validation, epochs=1, preflight=True, average="swa")
    assert len(read) >= 6 and set(read) == {False}


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


def test_a_check_that_breaks_does_not_keep_a_model_from_training(split, monkeypatch):
    from recipes import diagnose

    def broken(*arguments, **options):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(diagnose, "preflight", broken)
    with pytest.warns(UserWarning, match="no such kernel.*preflight=False"):
        run = quietly(small_model(), split[0], epochs=1, preflight=True)
    assert len(run.history["loss"]) == 1
