"""How long a backup blocks the training thread: while the state is copied; another thread writes the files.

There are two models: ResNet-20 (He et al. 2016) and a dense network of 100 MB, both with SGD and momentum, whose state
is as large as the model. The script measures the wall time until training continues and until the files are on disk
(`best.keras` and `backup.npz`), as the median of several backups. If Orbax is installed, it measures
`keras.callbacks.OrbaxCheckpoint` too, which also writes in the background. The share is that of ten minutes, the time
between two backups with `backup_every="10 min"`.

Run: `python benchmarks/backup_hold.py` (about a minute; `--rounds 1` for a small part).
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from recipes import models
from recipes.checkpoints.backup_file import RunState
from recipes.checkpoints.callback_state import CallbackStates
from recipes.training.interruption import BackgroundWriter


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    print("**Backups**: seconds that training waits, and of ten minutes\n")
    print(
        "| model, MB with optimizer | who writes | training waits | share | on disk after |\n|---|---|---|---|---|"
    )
    for name, model in (("ResNet-20", models.resnet((32, 32, 3), 10, depth=20)), ("dense", _dense())):
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
        model.optimizer.build(model.trainable_variables)
        size = sum(np.asarray(v).nbytes for v in [*model.variables, *model.optimizer.variables]) / 2**20
        for who, write in (("recipes.train", _ours), ("OrbaxCheckpoint", _orbax)):
            times = write(model, rounds)
            if times is not None:
                held, done = np.median(times, axis=0)
                print(
                    f"| {name}, {size:.1f} | {who} | {held:.4f} | {held / 6:.4f} % | {done:.2f} |", flush=True
                )


def _dense():
    return keras.Sequential(
        [keras.Input((2560,)), keras.layers.Dense(10240), keras.layers.Dense(10, activation="softmax")]
    )


def _ours(model, rounds):
    times = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            writer, start = BackgroundWriter(), time.perf_counter()
            state = RunState.of(model, CallbackStates([]), epoch=1, history=[{"loss": 1.0}])

            def write(state=state):
                state.save_model(model, Path(folder) / "best.keras")
                state.write(Path(folder) / "backup.npz")

            writer.write(write)
            held = time.perf_counter() - start
            writer.wait()
            times.append((held, time.perf_counter() - start))
    return times


def _orbax(model, rounds):
    times = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            callback = keras.callbacks.OrbaxCheckpoint(folder, save_freq="epoch", max_to_keep=1)
        except (AttributeError, ImportError):
            return None
        callback.set_model(model)
        callback.set_params({"epochs": rounds, "steps": 1})
        callback.on_train_begin()
        for epoch in range(rounds):
            start = time.perf_counter()
            callback.on_epoch_end(epoch, {"loss": 1.0})
            held = time.perf_counter() - start
            callback.wait_until_finished() if hasattr(callback, "wait_until_finished") else None
            times.append((held, time.perf_counter() - start))
        callback.on_train_end()
    return times


if __name__ == "__main__":
    main()
