"""A run that goes on: where it was, with what it was told, or not at all and in words."""

import json
import os
import re
import signal
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import recipes
from recipes import augment, callbacks
from recipes.checkpoints.backup_timetable import backup_interval
from recipes.checkpoints.callback_state import CallbackStates
from recipes.checkpoints.comparison import plain
from recipes.training.data_fingerprint import fingerprint
from recipes.training.run_folder import FORMAT, RunFolder, open_folder
from recipes.training.settings import Settings

STEPS = 6  # batches an epoch


@pytest.fixture(scope="module")
def split(digits):
    images, labels = digits
    return (images[:192], labels[:192]), (images[192:240], labels[192:240])


def small_model(activation="relu", dtype=None, units=8):
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(units, activation=activation, dtype=dtype),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(10, activation="softmax", dtype=dtype),
        ]
    )


class Terminated(keras.callbacks.Callback):
    """SIGTERM in the middle of the step after which the model has seen so many batches."""

    def __init__(self, at):
        super().__init__()
        self.at, self.seen = at, 0

    def on_train_batch_end(self, batch, logs=None):
        self.seen += 1
        if self.seen == self.at:
            os.kill(os.getpid(), signal.SIGTERM)


def train(data, folder, *, model=None, **options):
    quiet = {"augment": None, "preflight": False, "monitor": False, "verbose": 0, "learning_rate": 0.01}
    every = {**quiet, "epochs": 3, "batch_size": 32, "run_dir": folder, **options}
    if every["learning_rate"] is None:
        del every["learning_rate"]
    return recipes.train(small_model() if model is None else model, *data, **every)


def interrupt(data, folder, at, *, callbacks=(), **options):
    with pytest.raises(SystemExit) as left:
        train(data, folder, callbacks=[*callbacks, Terminated(at)], **options)
    assert left.value.code == 143


def assert_equal(run, whole):
    for name in ("get_weights", "optimizer"):
        one, other = getattr(run.model, name), getattr(whole.model, name)
        one, other = (one(), other()) if callable(one) else (one.variables, other.variables)
        for expected, received in zip(other, one, strict=True):
            np.testing.assert_array_equal(np.asarray(received), np.asarray(expected))
    np.testing.assert_equal(run.history, whole.history)  # NaN where there was nothing to measure


def batched(split):
    """What a user brings: a `tf.data.Dataset` with batches of its own, in a fixed order."""
    (images, labels), validation = split
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(32, drop_remainder=True), validation


def balanced_folder(split):
    """Images of `data.load`, each class drawn evenly: others in every epoch, by their place in it."""
    images, labels = split[0]
    folder = Path(tempfile.gettempdir()) / f"balanced-{os.getpid()}"
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        file = folder / str(label) / f"{number:03}.png"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(tf.io.encode_png(image).numpy())
    train, _, _ = recipes.data.load(folder, validation=0, balance="classes", cache=None, verbose=0)
    return train, split[1]


MIXED = {"augment": augment.Pipeline([augment.PadCrop(1), augment.MixUp(0.2)], classes=10, seed=4)}


@pytest.mark.parametrize(
    "data, options",
    [
        (lambda split: split, {"average": "ema", "early_stopping": 2}),
        (batched, {"snapshots": 2}),
        (lambda split: split, {**MIXED, "average": "swa"}),
    ],
    ids=["arrays, ema", "batched, snapshots", "mixup, swa"],
)
def test_a_run_ended_by_sigterm_goes_on_at_the_next_batch(split, tmp_path, data, options):
    whole = train(data(split), tmp_path / "whole", **options)
    interrupt(data(split), tmp_path / "cut", STEPS + 4, **options)
    with np.load(tmp_path / "cut/backup.npz") as file:
        about = json.loads(file["about"].tobytes())
    assert (about["epoch"], about["batch"]) == (1, 4)
    run = train(data(split), tmp_path / "cut", resume=True, **options)
    assert_equal(run, whole)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_monitors_go_on_inside_an_epoch_of_a_balanced_folder_under_accumulation(split, tmp_path):
    def run(folder, **options):
        model, relus = small_model(), callbacks.DeadReluDetector(every_steps=2, warn_above=0.99)
        sgd = keras.optimizers.SGD(2e-5, momentum=0.9, gradient_accumulation_steps=2)
        model.compile(sgd, "sparse_categorical_crossentropy", metrics=["accuracy"])
        seen = [*callbacks.default_monitors(beside=[relus], every_steps=2), relus]
        more = options.pop("callbacks", [])
        every = {"model": model, "callbacks": [*seen, *more], "learning_rate": None, **options}
        return train(balanced_folder(split), folder, **every)

    whole = run(tmp_path / "whole")
    with pytest.raises(SystemExit):
        run(tmp_path / "cut", callbacks=[Terminated(STEPS + 3)])
    with np.load(tmp_path / "cut/backup.npz") as file:
        assert (
            json.loads(file["about"].tobytes())["batch"] == 4
        )  # the update of two batches was finished first
    again = run(tmp_path / "cut", resume=True)
    assert_equal(again, whole)
    for column in ("step", "epoch", "update_norm", "mean"):
        np.testing.assert_array_equal(getattr(again.record, column), getattr(whole.record, column))


def test_files_are_told_apart_by_names_sizes_and_labels(split, tmp_path):
    images = split[0][0][:6]
    for folder in (tmp_path / "here", tmp_path / "there"):
        for number, image in enumerate(images):
            file = folder / "ab"[number % 2] / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(tf.io.encode_png(image).numpy())

    def prints(folder):
        return fingerprint(recipes.data.load(tmp_path / folder, validation=0, cache=None, verbose=0)[0])

    before = prints("here")
    assert before == prints("there") and before["kind"] == "files"
    changed = {}
    file = tmp_path / "there/a/0.png"
    file.write_bytes(file.read_bytes() + b"0")
    changed["size"] = prints("there")
    file.write_bytes(file.read_bytes()[:-1])
    file.rename(tmp_path / "there/a/00.png")
    changed["name"] = prints("there")
    (tmp_path / "there/a/00.png").rename(tmp_path / "there/b/0.png")
    changed["label"] = prints("there")
    assert all(before["names_and_sizes"] != other["names_and_sizes"] for other in changed.values())
    assert changed["label"]["labels"] != before["labels"]


def test_another_image_size_is_one_difference(tmp_path):
    def described(side):
        image = [side, side, 3]
        layer = f"image: InputLayer(batch_shape=[null, {side}, {side}, 3])"
        return {"format": FORMAT, "epochs": 3, "image_shape": image} | {
            "train_data": {"count": 8, "image_shape": image},
            "validation_data": {"count": 2, "image_shape": image},
            "architecture": [layer],
        }

    folder = RunFolder(tmp_path, tmp_path, described(64), True)
    with pytest.raises(
        ValueError, match=r"Received others: image_shape: \[64, 64, 3\], now \[32, 32, 3\]\. Give"
    ):
        folder.compare(described(32))
    forced = RunFolder(tmp_path, tmp_path, described(64), "force").compare(described(32))
    assert len(forced) == 4 and any(
        words.startswith("architecture:") for words in forced
    )  # what is kept is whole


def test_resume_names_each_difference_before_it_touches_anything(split, tmp_path):
    interrupt(split, tmp_path, 3, learning_rate=None)
    kept = (tmp_path / "backup.npz").read_bytes()
    (images, labels), validation = split
    cases = {
        "learning_rate: auto, now 9.0": {"learning_rate": 9.0},
        "optimizer: auto, now lion": {"optimizer": "lion"},
        "batch_size: 32, now 16": {"batch_size": 16},
        "weight_decay: 0.0005, now 0.1": {"weight_decay": 0.1},
        "early_stopping: null, now 3": {"early_stopping": 3},
        "epochs: 3, now 2": {"epochs": 2},
        "seed: 0, now 1": {"seed": 1},
        'activation="relu".*now.*activation="tanh"': {"model": small_model("tanh")},
        "dtype=float32.*now.*dtype=bfloat16": {"model": small_model(dtype="bfloat16")},
        "train_data sha256": {"data": ((images, (labels + 1) % 10), validation)},
        "train_data shapes": {"data": ((images[:180], labels[:180]), validation)},
        "validation_data: .*, now null": {"data": ((images, labels),)},
    }
    for words, changed in cases.items():
        with pytest.raises(ValueError, match=f"Received others: .*{words}.*resume='force'"):
            options = {"learning_rate": None, "resume": True, **changed}
            train(options.pop("data", split), tmp_path, **options)
    assert (tmp_path / "backup.npz").read_bytes() == kept
    assert len(train(split, tmp_path, learning_rate=None, resume=True).history["loss"]) == 3


def test_force_with_another_model_begins_the_monitors_anew(split, tmp_path):
    def relus():
        return callbacks.DeadReluDetector(every_steps=1, warn_above=0.99, strict=True)

    (images, labels), validation = split
    data = (images.astype("float32") / 255, labels), validation
    interrupt(data, tmp_path, 2 * STEPS - 1, callbacks=[relus()])
    wider = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
    wider.add(keras.layers.Dense(12, activation="relu", name="wider"))
    wider.add(keras.layers.Dense(10, activation="softmax"))
    detector = relus()
    train(data, tmp_path, model=wider, callbacks=[detector], resume="force")
    assert set(detector.dead_units) <= {"wider"} and detector.record.step[-1] == 3 * STEPS - 1


class Scripted(keras.callbacks.Callback):
    """Puts a course of overfitting into the logs, whose validation loss is lowest in epoch 4."""

    def on_epoch_end(self, epoch, logs=None):
        logs |= {"loss": 0.9 * 0.7**epoch, "val_loss": 0.7 + 0.15 * abs(epoch - 3)}
        logs |= {"accuracy": 1 - 0.5 * 0.7**epoch, "val_accuracy": 0.9 - 0.08 * abs(epoch - 3)}


def test_after_another_model_findings_count_epochs_as_the_history_does(split, tmp_path):
    def watched():
        return [Scripted(), callbacks.TrainingDoctor(verbose=0, strict=True)]

    options = {"epochs": 12, "loss": "sparse_categorical_crossentropy"}
    interrupt(split, tmp_path, 2 * STEPS, callbacks=watched(), **options)
    with pytest.raises(SystemExit):
        terminated = [*watched(), Terminated(4 * STEPS)]
        train(split, tmp_path, model=small_model(units=12), callbacks=terminated, resume="force", **options)
    again = watched()
    run = train(split, tmp_path, model=small_model(units=12), callbacks=again, resume=True, **options)
    best = int(np.argmin(run.history["val_loss"])) + 1
    (found,) = [finding for finding in run.findings if finding.code == "overfitting"]
    assert found.epoch == best + 1 == 5 and f"(epoch {best})" in found.evidence
    assert len(run.settings["times"]) == len(run.history["loss"]) == 12


def test_what_force_prints_is_short_while_run_json_tells_all(split, tmp_path, capsys):
    interrupt(split, tmp_path, 3)
    (images, labels), validation = split
    other = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
    for _ in range(12):
        other.add(keras.layers.Dense(9, activation="relu"))
    other.add(keras.layers.Dense(10, activation="softmax"))
    data = (images, (labels + 1) % 10), validation
    run = train(data, tmp_path, model=other, weight_decay=0.1, resume="force", verbose=2)
    said = [line for line in capsys.readouterr().out.splitlines() if "tracing" not in line]
    said = said[: next(place for place, line in enumerate(said) if "steps per epoch" in line)]
    told = " ".join(said)
    assert len(said) == 2 and len(told) < 900 and not re.search("[0-9a-f]{16}", told)
    assert (
        "weight_decay: 0.0005, now 0.1" in told and "the training examples or their order are others" in told
    )
    assert "layers: 2 changed (dense, dense (2)), 1 gone (dropout), 11 new" in told
    assert (
        "26 variables of the model" in told and "variables of the optimizer" in told and "begin anew" in told
    )
    changes = run.settings["changes"][0]["changes"]
    assert any("train_data sha256: " in words for words in changes)
    assert sum(words.startswith("architecture: ") for words in changes) >= 13


@pytest.mark.parametrize("resume", [True, "force"])
def test_fewer_epochs_than_are_done_are_refused(split, tmp_path, resume):
    interrupt(split, tmp_path, STEPS + 2)
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    done = "expects epochs=2 or more, as .* has done 1 epoch and 2 batches of the next already"
    with pytest.raises(ValueError, match=f"{done}. Received epochs=1. Give epochs=3.*another run_dir"):
        train(split, tmp_path, epochs=1, resume=resume)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == kept
    assert len(train(split, tmp_path, epochs=2, resume="force").history["loss"]) == 2
    with pytest.raises(ValueError, match="has done 2 epochs already. Received epochs=1. Give epochs=2"):
        train(split, tmp_path, epochs=1, resume=resume)
    assert len(train(split, tmp_path, epochs=2, resume=resume).history["loss"]) == 2
    assert len(train(split, tmp_path, epochs=3, resume=resume).history["loss"]) == 3


def test_force_takes_the_new_values_which_run_json_remembers(split, tmp_path):
    interrupt(split, tmp_path, STEPS + 2, schedule=None)
    run = train(split, tmp_path, schedule=None, learning_rate=0.02, resume="force")
    np.testing.assert_allclose(run.model.optimizer.learning_rate, 0.02)
    changes = json.loads((tmp_path / "run.json").read_text())["changes"]
    assert changes == [{"after_epoch": 1, "after_batch": 2, "changes": ["learning_rate: 0.01, now 0.02"]}]


def test_more_epochs_stretch_the_rest_of_the_schedule(split, tmp_path, capsys):
    interrupt(split, tmp_path, STEPS, epochs=2, warmup=0.0)
    run = train(split, tmp_path, epochs=4, warmup=0.0, resume=True, verbose=2)
    assert "stretched over the rest" in capsys.readouterr().out
    last = np.arange(1, 5) * STEPS - 1
    place = np.where(last < STEPS, last, STEPS + (last - STEPS) / 3)  # 6 batches of the old run last for 18
    steps = np.arange(2 * STEPS + 1)
    expected = np.interp(place, steps, 0.01 / 2 * (1 + np.cos(np.pi * steps / (2 * STEPS))))
    np.testing.assert_allclose(run.history["learning_rate"], expected, rtol=1e-5)


def test_a_finished_run_goes_on_to_more_epochs(split, tmp_path):
    first = train(split, tmp_path, epochs=1)
    run = train(split, tmp_path, epochs=2, resume=True)
    assert run.history["loss"][0] == first.history["loss"][0] and len(run.history["loss"]) == 2
    assert int(run.model.optimizer.iterations) == 2 * STEPS


def test_callbacks_keep_what_they_remember_not_what_they_were_told(split, tmp_path):
    def callbacks(name, patience):
        return [
            keras.callbacks.ModelCheckpoint(tmp_path / f"{name}.keras", save_best_only=True, monitor="loss"),
            keras.callbacks.ReduceLROnPlateau("loss", patience=patience),
        ]

    interrupt(split, tmp_path / "run", STEPS + 2, callbacks=callbacks("old", 50), schedule=None)
    (tmp_path / "old.keras").unlink()
    new = callbacks("new", 1)
    run = train(split, tmp_path / "run", callbacks=new, schedule=None, resume=True)
    assert new[1].patience == 1 and not (tmp_path / "old.keras").exists()
    assert (tmp_path / "new.keras").exists() and new[0].best == min(run.history["loss"])


def test_a_callback_more_in_front_shifts_no_state(split, tmp_path):
    class Own(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.count = 0

        def on_train_batch_end(self, batch, logs=None):
            self.count += 1

    whole = train(split, tmp_path / "whole")
    own = Own()
    interrupt(split, tmp_path / "cut", STEPS + 2, callbacks=[Own()])
    more = [keras.callbacks.TerminateOnNaN(), keras.callbacks.LambdaCallback(), own]
    run = train(split, tmp_path / "cut", callbacks=more, resume=True)
    assert run.history == whole.history and own.count == 3 * STEPS


def test_what_is_both_told_and_remembered_is_named(split, tmp_path):
    class Countdown(keras.callbacks.Callback):
        def __init__(self, left):
            super().__init__()
            self.left = left

        def on_epoch_end(self, epoch, logs=None):
            self.left -= 1

    with pytest.warns(UserWarning, match="what Countdown remembers.*Received left, which is both"):
        train(split, tmp_path, epochs=1, callbacks=[Countdown(5)])


def test_a_run_dir_is_held_by_one_run_at_a_time(split, tmp_path):
    settings = Settings.of(recipes.train, {"run_dir": tmp_path})
    with (
        open_folder(settings),
        pytest.raises(ValueError, match=f"held by process {os.getpid()} on .* since 20"),
    ):
        train(split, tmp_path)
    # What a killed process leaves behind holds nothing.
    (tmp_path / ".lock").write_text("process 1 on moon since 1969\n")
    train(split, tmp_path, epochs=1)
    assert not (tmp_path / ".lock").exists()


def test_a_run_dir_that_cannot_be_one_is_refused_in_words(split, tmp_path):
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "inside", tmp_path / ("x" * 256)):
        with pytest.raises(
            OSError, match=r"expects a run_dir it may write to\. Received .*\. Give another folder"
        ):
            train(split, folder)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_relative_run_dir_stays_where_it_was(split, tmp_path, monkeypatch):
    class Moves(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            os.chdir(tmp_path / "elsewhere")

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    train(split, "run", epochs=2, callbacks=[Moves()], snapshots=1)
    assert not list((tmp_path / "elsewhere").iterdir()) and (tmp_path / "run/model.keras").exists()


def test_a_damaged_newest_backup_falls_back_to_the_one_before(split, tmp_path, capsys):
    whole = train(split, tmp_path / "whole")
    interrupt(split, tmp_path / "cut", 2 * STEPS + 2, keep=2, backup_every=3)
    newest, before = tmp_path / "cut/backup.npz", tmp_path / "cut/backup-2.npz"
    content = bytearray(newest.read_bytes())
    half = len(content) // 2
    content[half : half + 200] = bytes(200)  # more than a header that says nothing
    newest.write_bytes(content)
    assert before.exists() and not (tmp_path / "cut/backup-3.npz").exists()
    run = train(split, tmp_path / "cut", keep=2, resume=True)
    said = capsys.readouterr().out
    assert str(newest) in said and f"Going on from {before} instead" in said
    assert_equal(run, whole)


def test_a_changed_file_of_an_unfinished_run_is_named(split, tmp_path, capsys):
    interrupt(split, tmp_path, STEPS + 2)
    (tmp_path / "history.csv").write_text("epoch,loss\n1,0.0\n")
    for name, content in (("best.keras", b"PK"), ("backups.json", b'"backup')):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole.replace(content, content[:-1] + b"x", 1))
        with pytest.raises(ValueError, match=f"{name}.*SHA-256.*(remove it|Remove the file)"):
            train(split, tmp_path, resume=True)
        (tmp_path / name).write_bytes(whole)
    (tmp_path / "best.keras").unlink()
    run = train(split, tmp_path, resume=True)
    assert "history.csv was changed since it was written" in capsys.readouterr().out
    assert recipes.load_run(tmp_path).history == run.history
    (tmp_path / "best.keras").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"best.keras.*SHA-256 is not the one in run\.json"):
        train(split, tmp_path, epochs=4, resume=True)


@pytest.mark.parametrize("value, expected", [("10 min", (600, None)), ("30s", (30, None)), ("1.5 hours", (5400, None)),
                                             (7, (None, 7)), (None, (None, None))])  # fmt: skip
def test_backup_every_is_a_time_or_steps(value, expected):
    assert backup_interval(value) == expected


@pytest.mark.parametrize("value", ["soon", "0 min", 0, True, -1, "10 parsecs", "min"])
def test_another_backup_every_is_refused(value):
    with pytest.raises(ValueError, match="backup_every"):
        backup_interval(value)


def test_schedule_free_keeps_its_own_rate(split, capsys):
    model = small_model()
    model.compile(
        keras.optimizers.ScheduleFreeAdamW(0.003), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    run = train(split, None, model=model, learning_rate=None, epochs=1, verbose=2)
    assert "its own" in capsys.readouterr().out and np.isfinite(run.history["loss"][0])


def test_class_weights_beside_weights_of_examples_are_refused(split):
    (images, labels), _ = split
    with pytest.raises(ValueError, match="class_weight, or a weight with every example, not both"):
        train(((images, labels, np.ones(192, "float32")),), None, class_weight={0: 2.0})


def test_class_weights_beside_mixed_images_are_refused(split):
    mixing = augment.Pipeline([augment.MixUp()], classes=10)
    with pytest.raises(ValueError, match="class_weight, or an augmentation that mixes images, not both"):
        train(split[:1], None, class_weight={0: 2.0}, augment=mixing)


def weighed_loss(weight):
    def loss(labels, scores):
        return weight * keras.losses.sparse_categorical_crossentropy(labels, scores)

    return loss


SPARSE = keras.losses.SparseCategoricalCrossentropy


@pytest.mark.parametrize(
    ("first", "then", "named"),
    [
        ({"loss": SPARSE()}, {"loss": SPARSE(ignore_class=1)}, "ignore_class"),
        ({"loss": weighed_loss(1.0)}, {"loss": weighed_loss(50.0)}, "weighed_loss"),
        ({"loss": SPARSE()}, {"loss": SPARSE(), "loss_weights": 20.0}, "loss_weights"),
        ({"loss": SPARSE()}, {"loss": SPARSE(), "metrics": []}, "metrics"),
        ({"loss": weighed_loss(1.0)}, {"loss": weighed_loss(1.0)}, None),
    ],
)
def test_another_loss_of_a_compiled_model_is_refused_by_name(split, tmp_path, first, then, named):
    def model(compiled):
        made = small_model()
        made.compile(keras.optimizers.SGD(0.01), **{"metrics": ["accuracy"], **compiled})
        return made

    options = {"learning_rate": None, "schedule": None}
    interrupt(split, tmp_path, 4, model=model(first), **options)
    if named is None:
        assert len(train(split, tmp_path, model=model(then), resume=True, **options).history["loss"]) == 3
    else:
        with pytest.raises(ValueError, match=f"compiled_loss.*{named}"):
            train(split, tmp_path, model=model(then), resume=True, **options)


def test_callbacks_of_one_class_are_told_apart_by_the_metric_they_watch(split, tmp_path, capsys):
    def checkpoints(*watched):
        options = {"save_best_only": True, "mode": "auto"}
        return [
            keras.callbacks.ModelCheckpoint(tmp_path / f"{name}.keras", monitor=name, **options)
            for name in watched
        ]

    interrupt(split, tmp_path / "run", 2 * STEPS + 1, callbacks=checkpoints("val_loss", "val_accuracy"))
    swapped = checkpoints("val_accuracy", "val_loss", "loss")
    run = train(split, tmp_path / "run", callbacks=swapped, resume=True)
    assert swapped[0].best == max(run.history["val_accuracy"])
    assert swapped[1].best == min(run.history["val_loss"])
    assert "ModelCheckpoint of 'loss' begins anew" in capsys.readouterr().out


class Counter(keras.layers.Layer):
    def call(self, inputs):
        return inputs


def test_functions_are_told_apart_by_what_they_do_and_close_over():
    def made(weight, table):
        def loss(labels, scores, depth=0):
            return loss(labels, scores, 1) if depth == 0 else weight * scores + table.sum()

        return loss

    table = np.zeros(10**6)
    other = table.copy()
    other[5] = 1
    same, changed, filled = made(1, table.copy()), made(2, table), made(1, other)
    assert plain(made(1, table)) == plain(same)
    assert len({plain(one) for one in (same, changed, filled)}) == 3


def test_states_of_an_earlier_version_go_by_place_among_the_same_class():
    kinds = [keras.callbacks.EarlyStopping(monitor=name) for name in ("val_loss", "val_accuracy")]
    states = CallbackStates(kinds)
    states.training_begins()
    kept = [
        {"class": "EarlyStopping", "name": "", "number": place, "state": {"wait": place + 3}}
        for place in (0, 1)
    ]
    states.restore(kept, {})
    assert [one.wait for one in kinds] == [3, 4]


def test_a_custom_layer_is_the_same_one_though_keras_has_numbered_it_on(split, tmp_path):
    def model():
        keras.utils.set_random_seed(1)
        image = keras.Input((8, 8, 1))
        scores = keras.layers.Dense(10, activation="softmax")(Counter()(keras.layers.Flatten()(image)))
        return keras.Model(image, scores)

    interrupt(split, tmp_path, STEPS + 2, model=model())
    assert len(train(split, tmp_path, model=model(), resume=True).history["loss"]) == 3


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="subclassed")
        self.flatten, self.scores = keras.layers.Flatten(), keras.layers.Dense(10)

    def call(self, inputs):
        return self.scores(self.flatten(inputs))


def test_a_subclassed_model_that_was_never_called_goes_on(split, tmp_path):
    def model():
        keras.utils.set_random_seed(1)
        return Subclassed()

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    whole = train(split, None, model=model(), loss=loss)
    interrupt(split, tmp_path, STEPS + 2, model=model(), loss=loss)
    assert_equal(train(split, tmp_path, model=model(), loss=loss, resume=True), whole)


def test_what_is_gone_from_a_run_is_told(split, tmp_path, capsys):
    train(split, tmp_path / "run", epochs=1)
    (tmp_path / "run/findings.json").unlink()
    (tmp_path / "run/curves.png").write_bytes(b"another picture")
    with pytest.warns(UserWarning, match=r"without findings\.json"):
        recipes.load_run(tmp_path / "run")
    interrupt(split, tmp_path / "other", STEPS + 2)
    (tmp_path / "other/backup.npz").unlink()
    train(split, tmp_path / "other", resume=True)
    assert "begins at epoch 1" in capsys.readouterr().out


@pytest.mark.parametrize(("told", "used"), [(3, 3), (4, 3), (7, 6)])
def test_epochs_end_with_an_execution_of_several_steps(split, tmp_path, told, used):
    def model():
        made = small_model()
        made.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"], steps_per_execution=told)
        return made

    options = {"learning_rate": None, "schedule": None}
    whole = train(split, None, model=model(), **options)
    assert int(np.asarray(whole.model.optimizer.iterations)) == 3 * STEPS
    assert whole.model.steps_per_execution == used
    interrupt(split, tmp_path, 4 if used == 3 else 2, model=model(), **options)
    assert_equal(train(split, tmp_path, model=model(), resume=True, **options), whole)
