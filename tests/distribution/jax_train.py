"""`recipes.train` on Keras' JAX backend; what it finds goes into a file.

python jax_train.py FOLDER 0 1 PORT            # one process, interrupted and gone on with
python jax_train.py FOLDER INDEX 2 PORT [EPOCH]    # one of two; kills itself when that epoch begins
"""

import json
import os
import signal
import sys
from pathlib import Path

import keras
import numpy as np

import recipes

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (128, 8, 8, 1)).astype("uint8")
LABELS = (IMAGES[:, 0, 0, 0] > 120).astype(int)


class Stop(keras.callbacks.Callback):
    """Breaks off when an epoch begins."""

    def __init__(self, epoch, how):
        super().__init__()
        self.epoch, self.how = epoch, how

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            self.how()


def interrupt():
    raise KeyboardInterrupt


def train(folder, part=slice(None), stop=None, watched=True, **options):
    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Rescaling(1 / 128, -1),
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.Flatten(),
            layers.Dense(2, "softmax", name="classes"),
        ]
    )
    ratios = recipes.callbacks.UpdateRatioMonitor(every_steps=2, warn=False, strict=True)
    data = (IMAGES[part], LABELS[part])
    doctor = recipes.callbacks.TrainingDoctor(every_steps=2, strict=True, verbose=0, train=data)
    options = {"monitor": False, "preflight": False, **options}
    run = recipes.train(
        model,
        (IMAGES[part], LABELS[part]),
        (IMAGES[:32], LABELS[:32]),
        epochs=4,
        batch_size=len(IMAGES[part]) // 4,
        early_stopping=4,
        callbacks=[*([ratios, doctor] if watched else []), *([stop] if stop else [])],
        run_dir=folder,
        resume=True,
        verbose=0,
        **options,
    )
    history = {
        name: values for name, values in run.history.items() if name in ("loss", "val_loss", "accuracy")
    }
    found = {"weights": [weight.tolist() for weight in run.model.get_weights()], **history}
    found["findings"] = [finding.to_dict() for finding in run.findings]
    if run.snapshots is not None:
        members = [member.get_weights() for member in run.snapshots.members]
        found["members"] = [[weight.tolist() for weight in member] for member in members]
    if run.record is not None:
        found["record"] = {"step": run.record.step.tolist(), "update": run.record.update_norm.tolist()}
    return found


def refusal(folder, **options):
    try:
        train(folder, **options)
    except ValueError as error:
        return str(error)


def alone(folder):
    found = {"whole": train(folder / "whole", average="swa")}
    try:
        train(folder / "stopped", stop=Stop(2, interrupt), average="swa")
    except KeyboardInterrupt:
        found["stopped"] = train(folder / "stopped", average="swa")
    found["unwatched"] = train(folder / "unwatched", watched=False, average="swa")
    found["usual"] = train(folder / "usual", watched=False, average="swa", monitor=True, preflight=True)
    found["snapshots"] = train(folder / "snapshots", watched=False, snapshots=2)
    loaded = recipes.load_run(folder / "whole")
    loaded.report(folder / "report.html")
    found["report"] = (folder / "report.html").read_text(encoding="utf-8")
    views = recipes.averaging.predict_tta(loaded.model, IMAGES[:8], recipes.averaging.flips())
    mirrored = [loaded.model.predict(IMAGES[:8][:, :, ::way], verbose=0) for way in (1, -1)]
    found["views"] = float(np.abs(views - np.mean(mirrored, axis=0)).max())
    found["finished"] = recipes.probe.Record.__name__
    found["refused"] = refusal(folder / "refused", preflight="try")
    devices = keras.distribution.list_devices()
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
    found["devices"] = [len(devices), train(folder / "devices", average="swa")]
    return found


def main(folder, index, count, port, dies_in=None):
    folder, index, count = Path(folder), int(index), int(count)
    if count == 1:
        found = alone(folder)
    else:
        import jax

        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        keras.distribution.initialize(f"127.0.0.1:{port}", num_processes=count, process_id=index)
        devices = keras.distribution.list_devices()
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
        )
        stop = Stop(int(dies_in), lambda: os.kill(os.getpid(), signal.SIGKILL)) if dies_in else None
        found = train(folder / "together", slice(index, None, count), stop)
    (folder / f"jax-{count}-{index}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
