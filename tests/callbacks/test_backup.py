"""Backup in a plain `fit`: a run that was broken off ends as one that was not, and keeps nothing that is broken."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes.callbacks import Backup, EarlyStopping, ExponentialMovingAverage, NonFiniteGuard, WarmupDecay

EPOCHS, STEPS = 4, 6


class PowerCut(keras.callbacks.Callback):
    """Breaks off in the middle of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.dies_in = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == self.dies_in and batch == 2:
            raise KeyboardInterrupt


def build():
    keras.utils.set_random_seed(5)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(10, "softmax"),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.2, momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def batches(digits, first_epoch=0, spoiled=()):
    """Other images in every epoch, from `first_epoch` on; NaN in the epochs that are `spoiled`."""
    images, labels = (part[: EPOCHS * STEPS * 16] for part in digits)
    images = images.astype("float32")
    for epoch in spoiled:
        images[epoch * STEPS * 16 :][:16] = np.nan
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(16).skip(first_epoch * STEPS)


def fit(digits, file, *more, before=(), spoiled=(), epochs=EPOCHS):
    backup, model = Backup(file, [*before, *more]), build()
    history = model.fit(
        batches(digits, min(backup.epochs_done, epochs - 1), spoiled),
        epochs=epochs,
        steps_per_epoch=STEPS,
        shuffle=False,
        verbose=0,
        callbacks=[*before, *more, backup],
    )
    return model, history, backup


def own_callbacks():
    return [WarmupDecay(0.25), ExponentialMovingAverage(0.8), EarlyStopping("loss", patience=EPOCHS)]


def test_a_run_that_was_broken_off_ends_with_weights_and_history_of_one_that_was_not(digits, tmp_path):
    whole, expected, _ = fit(digits, tmp_path / "whole.npz", *own_callbacks())
    with pytest.raises(KeyboardInterrupt):
        fit(digits, tmp_path / "new" / "cut.npz", *own_callbacks(), before=[PowerCut(2)])
    model, history, backup = fit(
        digits, tmp_path / "new" / "cut.npz", *own_callbacks(), before=[PowerCut(EPOCHS)]
    )
    assert backup.epochs_done == 2
    assert history.epoch == expected.epoch and history.history == expected.history
    for mine, theirs in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    # Dropout and momentum count: without them the second half would be another one.
    for mine, theirs in zip(model.optimizer.variables, whole.optimizer.variables, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["cut.npz"]


def test_a_finished_run_stays_finished(digits, tmp_path):
    whole, expected, _ = fit(digits, tmp_path / "run.npz", *own_callbacks())
    before = (tmp_path / "run.npz").stat().st_mtime_ns
    model, _, backup = fit(digits, tmp_path / "run.npz", *own_callbacks())
    assert backup.epochs_done == EPOCHS and (tmp_path / "run.npz").stat().st_mtime_ns == before
    for mine, theirs in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.filterwarnings("ignore:.*NonFiniteGuard expects finite numbers")
def test_a_run_stopped_at_nan_keeps_its_last_good_epoch_and_goes_on_from_it(digits, tmp_path):
    file = tmp_path / "run.npz"
    broken, history, _ = fit(digits, file, NonFiniteGuard(every_steps=1), spoiled=[2])
    assert len(history.epoch) == 3 and not np.isfinite(broken.get_weights()[0]).all()
    model, history, backup = fit(digits, file, NonFiniteGuard(every_steps=1))
    assert backup.epochs_done == 2 and len(history.epoch) == EPOCHS
    assert np.isfinite(history.history["loss"]).all() and np.isfinite(model.get_weights()[0]).all()


def test_what_would_be_forgotten_and_what_is_no_backup_are_refused(digits, tmp_path):
    model = build()
    callbacks = [Backup(tmp_path / "run.npz"), EarlyStopping("loss")]  # ours are seen without being told
    with pytest.raises(ValueError, match=r"Backup expects to be the last .* Received EarlyStopping after it"):
        model.fit(batches(digits).take(1), epochs=1, verbose=0, callbacks=callbacks)
    (tmp_path / "run.npz").write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(ValueError, match="expects a backup .* Remove the file"):
        Backup(tmp_path / "run.npz")


class Container(keras.callbacks.Callback):
    """Calls the callbacks it is made of, as many projects' own do."""

    def __init__(self, *parts):
        super().__init__()
        self.parts = parts

    def __getattribute__(self, name):
        if name.startswith("on_") or name in ("set_model", "set_params"):
            parts = super().__getattribute__("parts")
            return lambda *args, **kwargs: [getattr(part, name)(*args, **kwargs) for part in parts]
        return super().__getattribute__(name)


def remembered(file):
    with np.load(file) as arrays:
        return [kept["class"] for kept in json.loads(arrays["about"].tobytes())["callbacks"] if kept]


def test_in_a_container_the_callbacks_it_was_given_are_kept(digits, tmp_path):
    file, others = tmp_path / "run.npz", [keras.callbacks.ReduceLROnPlateau("loss"), EarlyStopping("loss")]
    backup = Backup(file, others)
    build().fit(batches(digits).take(1), verbose=0, callbacks=[Container(*others, backup)])
    assert remembered(file) == ["ReduceLROnPlateau", "EarlyStopping"]


def test_without_a_list_our_callbacks_are_kept_with_a_warning(digits, tmp_path):
    file, other = tmp_path / "run.npz", keras.callbacks.ReduceLROnPlateau("loss")
    parts = Container(other, EarlyStopping("loss"), Backup(file))
    with pytest.warns(UserWarning, match="keeps what it can see: EarlyStopping.*Backup\\(file, others\\)"):
        build().fit(batches(digits).take(1), verbose=0, callbacks=[parts])
    assert remembered(file) == ["EarlyStopping"]
