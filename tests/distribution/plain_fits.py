"""Plain `fit`s with our callbacks, layers and augmentation, the same on every backend and in any number of processes.

Imported by the test for the numbers of one process on TensorFlow, and run by it, in processes of their own, on JAX:

    python plain_fits.py FOLDER INDEX COUNT PORT CASES [EPOCH]    # kills itself when the last case begins that epoch
"""

import json
import os
import signal
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from recipes import augment, callbacks, data, layers, schedules

EPOCHS, STEPS, LOCAL, SHARDS = 4, 8, 16, 2
CASES = {
    "decay": lambda folder: [
        callbacks.WarmupDecay(0.25),
        callbacks.ExponentialMovingAverage(0.8),
        callbacks.EarlyStopping("val_loss", patience=0, min_delta=0.4),
    ],
    "one cycle": lambda folder: [
        callbacks.LearningRate(schedules.OneCycle(0.1, EPOCHS * STEPS)),
        callbacks.EarlyStopping("val_accuracy", patience=3),
    ],
    "geometric": lambda folder: [
        callbacks.FastGeometricEnsembling(2, start=0.5, folder=folder / "geometric")
    ],
    "snapshots": lambda folder: [
        callbacks.StochasticWeightAveraging(2),
        callbacks.SnapshotEnsemble(2, folder=folder / "snapshots"),
    ],
}


class Diary(keras.callbacks.Callback):
    """The rate of every step, and the end of this process where that is wanted."""

    def __init__(self, dies_in):
        super().__init__()
        self.dies_in = dies_in

    def on_train_begin(self, logs=None):
        self.rates = []

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.dies_in:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_train_batch_end(self, batch, logs=None):
        self.rates.append(float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)))


def build():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(1 / 128, offset=-1),
            layers.MaxoutConv2D(4, 3, kernel_constraint=layers.MaxNorm(2.0)),
            layers.InstanceNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(10, "softmax"),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    random = np.random.default_rng(0)  # each backend draws its own initial weights
    model.set_weights(
        [random.normal(0, 0.15, w.shape) if len(w.shape) > 1 else np.asarray(w) for w in model.weights]
    )
    return model


def parts(index, count, first_epoch=0):
    """Augmented training batches and validation batches of one process; of all shards together for `count` 1."""
    pipeline = augment.Pipeline([augment.Flip(), augment.PadCrop(1)], seed=1, jit_compile=False)

    def one(shard):
        train, validation, info = data.load("digits", shard=shard, verbose=0)
        train = train.take(STEPS * LOCAL).batch(LOCAL, drop_remainder=True)
        # Not in order: every epoch shuffles, and resumes in the order it would have had.
        numbers = tf.data.Dataset.range(first_epoch, EPOCHS)
        train = numbers.flat_map(lambda epoch: pipeline.apply(train, epoch=epoch, shard=shard))
        return train, validation.take(4 * LOCAL).batch(LOCAL, drop_remainder=True)

    if count > 1:
        return one((index, count))
    together = []
    for halves in zip(*(one((shard, SHARDS)) for shard in range(SHARDS)), strict=True):
        zipped = tf.data.Dataset.zip(*halves)
        together.append(
            zipped.map(lambda *pairs: tuple(tf.concat(parts, 0) for parts in zip(*pairs, strict=True)))
        )
    return tuple(together)


def run(name, folder, index=0, count=1, dies_in=None):
    """One fit: `{"history", "rates", "weights", "members"}`, lists of plain numbers."""
    keras.utils.set_random_seed(0)
    model = build()
    made, diary = CASES[name](folder), Diary(dies_in)
    backup = callbacks.Backup(folder / f"{name}.npz", made)  # the diary begins anew
    train, validation = parts(index, count, first_epoch=min(backup.epochs_done, EPOCHS - 1))
    history = model.fit(
        train,
        validation_data=validation,
        epochs=EPOCHS,
        steps_per_epoch=STEPS,
        shuffle=False,
        verbose=0,
        callbacks=[*made, diary, backup],
    ).history
    members = [member.get_weights() for member in made[-1].members] if hasattr(made[-1], "members") else []
    return {
        "epochs_done": backup.epochs_done,
        "history": {key: [float(value) for value in values] for key, values in history.items()},
        "rates": diary.rates,
        "weights": [weight.tolist() for weight in model.get_weights()],
        "members": [[weight.tolist() for weight in member] for member in members],
    }


def main(folder, index, count, port, cases, dies_in=None):
    folder, index, count, cases = Path(folder), int(index), int(count), cases.split(",")
    written = []

    def note(event, about):
        writes = event == "open" and isinstance(about[1], str) and set(about[1]) & set("wax+")
        if (writes or event in ("os.mkdir", "os.rename", "os.remove")) and str(folder) in str(about[0]):
            # A file is written under a name that tells nothing, and then renamed.
            written.append(str(about[1] if event == "os.rename" else about[0]))

    if count > 1:
        import jax

        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        keras.distribution.initialize(f"127.0.0.1:{port}", num_processes=count, process_id=index)
        devices = keras.distribution.list_devices()
        assert len(devices) == count
        # The data comes in shards already.
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
        )
    sys.addaudithook(note)
    last = None if dies_in is None else int(dies_in)
    found = {name: run(name, folder, index, count, last if name == cases[-1] else None) for name in cases}
    result = {"backend": keras.backend.backend(), "cases": found, "written": list(written)}
    (folder / f"result{index}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
