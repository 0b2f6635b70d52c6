"""Runs that were cut off: by Ctrl-C, by SIGKILL, by numbers that are not finite, by a full disk."""

import json
import os
import signal

import keras
import numpy as np
import pytest
from fresh_process import FreshProcess
from quick_runs import quietly, small_model

from recipes.callbacks import NonFiniteGuard


@pytest.fixture(scope="module")
def split(digits):
    images, labels = digits
    order = np.random.default_rng(0).permutation(len(labels))  # the writers come one after the other
    images, labels = images[order], labels[order]
    return (images[:800], labels[:800]), (images[800:1100], labels[800:1100])


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
        "backups.json",  # what each backup holds
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


def test_a_compiled_run_with_a_schedule_goes_on_after_each_of_two_interruptions(split, tmp_path):
    options = {"epochs": 3, "batch_size": 200, "backup_every": 1, "run_dir": tmp_path, "resume": True}
    for at in (3, 6):
        with pytest.raises(KeyboardInterrupt):
            quietly(small_model(compiled=True), *split, callbacks=[_Interrupt(at)], **options)
    settings = json.loads((tmp_path / "run.json").read_text())
    assert settings["compiled"]["learning_rate"] == pytest.approx(2e-3)
    assert len(quietly(small_model(compiled=True), *split, **options).history["loss"]) == 3


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
