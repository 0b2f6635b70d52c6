"""What the monitors cost: each variant compared with plain `fit`, in CPU time and wall time.

Each variant has its own copy of the same model. A round trains each of them for the same number of steps, in an order
that rotates from round to round. The figure is the median over rounds of the ratio of a variant to plain `fit` in the
same round. `plain again` shows by how much two equal runs differ. The first fit of each variant, which traces, is timed
separately.

    python benchmarks/monitors.py [--models mlp cnn resnet20] [--rounds 5] [--steps 100] [--variants 2 6]
"""

import argparse
import statistics
import tempfile
import time
import warnings

import keras
import numpy as np
import tensorflow as tf
from tables import heading, row

from recipes import callbacks, models

BATCH = 128


def mlp():
    """784-512-512-10."""
    hidden = [keras.layers.Dense(512, "relu"), keras.layers.Dense(512, "relu")]
    return keras.Sequential([keras.Input((784,)), *hidden, keras.layers.Dense(10, "softmax")])


def cnn():
    """Three convolutions at 32 x 32."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )


def resnet20():
    """ResNet-20 with batch normalization at 32 x 32."""
    return models.resnet((32, 32, 3), 10, depth=20)


MODELS = {"mlp": (mlp, 400), "cnn": (cnn, 60), "resnet20": (resnet20, 24)}  # builder, steps per epoch


TITLES = {"mlp": "MLP", "cnn": "CNN", "resnet20": "ResNet-20"}


class GetWeights(keras.callbacks.Callback):
    """What many people write first: norms from `get_weights` after every batch."""

    def on_train_batch_end(self, batch, logs=None):
        new = self.model.get_weights()
        if getattr(self, "old", None):
            pairs = zip(new, self.old, strict=True)
            self.ratios = [np.linalg.norm(a - b) / (np.linalg.norm(b) + 1e-9) for a, b in pairs]
        self.old = new


class PredictEachEpoch(keras.callbacks.Callback):
    """Activations of 1024 samples by `predict` after every epoch."""

    def __init__(self, images):
        super().__init__()
        self.images = images

    def on_epoch_end(self, epoch, logs=None):
        self.model.predict(self.images, batch_size=BATCH, verbose=0)


def variants(images, folder):
    """Name and callbacks of each variant."""
    return {
        "plain": list,
        "plain again": list,
        "all monitors, budget 1 %": callbacks.default_monitors,
        "all monitors, every_steps=10": lambda: callbacks.default_monitors(every_steps=10),
        "UpdateRatioMonitor, every_steps=10": lambda: [callbacks.UpdateRatioMonitor(every_steps=10)],
        "NonFiniteGuard(every_steps=1)": lambda: [callbacks.NonFiniteGuard(every_steps=1)],
        "TensorBoard(histograms, per batch)": lambda: [
            keras.callbacks.TensorBoard(folder, histogram_freq=1, update_freq="batch")
        ],
        "get_weights per batch": lambda: [GetWeights()],
        "predict 1024 per epoch": lambda: [PredictEachEpoch(images)],
    }


def measure(name, rounds, steps, wanted):
    """Median CPU time of each variant, relative to plain `fit`; prints the details, one line per variant."""
    build, usual = MODELS[name]
    steps = steps or usual
    model = build()
    rng = np.random.default_rng(0)
    images = rng.normal(size=(1024, *model.input_shape[1:])).astype("float32")
    batches = tf.data.Dataset.from_tensor_slices((images, rng.integers(0, 10, 1024))).batch(BATCH).cache()
    batches = batches.repeat().prefetch(2)
    with tempfile.TemporaryDirectory() as folder:
        running = {}
        for number, (variant, make) in enumerate(variants(images, folder).items()):
            if wanted and number not in (0, 1, *wanted):
                continue
            keras.utils.set_random_seed(0)
            model = build()
            model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), "sparse_categorical_crossentropy")
            running[variant] = [model, make, None]
            start = time.process_time()
            model.fit(batches, steps_per_epoch=6, epochs=2, verbose=0, callbacks=make())
            running[variant][2] = time.process_time() - start
        ratios = {variant: [] for variant in running}
        for turn in range(rounds):
            order = [*running]
            order = order[turn % len(order) :] + order[: turn % len(order)]
            seconds = {}
            for variant in order:
                model, make, _ = running[variant]
                begin = time.process_time(), time.perf_counter()
                model.fit(batches, steps_per_epoch=steps, epochs=2, verbose=0, callbacks=make())
                seconds[variant] = time.process_time() - begin[0], time.perf_counter() - begin[1]
            for variant, both in seconds.items():
                ratios[variant].append(
                    [mine / plain for mine, plain in zip(both, seconds["plain"], strict=True)]
                )
    step = seconds["plain"][1] / steps / 2
    print(f"{name}: {2 * steps} steps of {BATCH} per round, {rounds} rounds, plain {step:.4f} s per step")
    medians = {}
    for variant, pairs in ratios.items():
        cpu, wall = ([pair[i] for pair in pairs] for i in (0, 1))
        medians[variant] = statistics.median(cpu)
        print(
            f"  {variant}: CPU {medians[variant]:.3f} ({min(cpu):.3f} to {max(cpu):.3f}), wall "
            f"{statistics.median(wall):.3f}, first fit {running[variant][2]:.1f} CPU s",
            flush=True,
        )
    return medians


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=[*MODELS])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, help="steps per epoch; a round has two epochs")
    parser.add_argument(
        "--variants",
        type=int,
        nargs="+",
        help="numbers of variants to measure, besides plain (0) and plain again (1)",
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # the monitors' findings about random data
    found = {
        TITLES[name]: measure(name, options.rounds, options.steps, options.variants)
        for name in options.models
    }
    heading("variant", *found)
    for variant in next(iter(found.values())):
        if variant != "plain":
            row(variant, *(f"{medians[variant]:.2f}" for medians in found.values()))


if __name__ == "__main__":
    main()
