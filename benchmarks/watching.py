"""The cost of watching a run: monitors, guard and doctor together, compared with the same fit with an empty callback.

    python benchmarks/watching.py                       # four networks, five rounds: some 15 minutes of CPU time
    python benchmarks/watching.py --models mlp --rounds 9

Each fit has a new model, so that its traces are counted. The two take turns, and CPU seconds are medians over the
rounds. "watched more" is the extra cost of a whole fit, with tracing; "afterwards" is the extra cost of its last two
thirds, in percent.
"""

import argparse
import statistics
import time
import warnings

import keras
import numpy as np
import tensorflow as tf
from tables import heading, row

from recipes import callbacks, models

BATCH = 128


def mlp():
    hidden = [keras.layers.Dense(512, "relu"), keras.layers.Dense(512, "relu")]
    return keras.Sequential([keras.Input((784,)), *hidden, keras.layers.Dense(10, "softmax")])


def cnn():
    layers = keras.layers
    maps = [
        layers.Conv2D(32, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"),
    ]
    head = [layers.Flatten(), layers.Dense(10, activation="softmax")]
    return keras.Sequential([keras.Input((32, 32, 3)), *maps, *head])


def mobilenet_v2():
    backbone = keras.applications.MobileNetV2((96, 96, 3), include_top=False, weights=None, pooling="avg")
    return keras.Sequential(
        [keras.Input((96, 96, 3)), backbone, keras.layers.Dense(10, activation="softmax")]
    )


def resnet20():
    return models.resnet((32, 32, 3), 10)


EPOCHS = 6
#: Builder, steps per epoch.
MODELS = {"mlp": (mlp, 150), "cnn": (cnn, 40), "resnet20": (resnet20, 12), "mobilenet_v2": (mobilenet_v2, 3)}


def watched(batch):
    return [*callbacks.default_monitors(), callbacks.TrainingDoctor(train=batch, budget=0.01, verbose=0)]


def empty(batch):
    return [keras.callbacks.Callback()]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=[*MODELS])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, help="steps per epoch")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # the monitors' findings about random data
    heading(
        "network",
        "empty, CPU s",
        "watched more, CPU s",
        "traces more",
        "afterwards, %",
        title="The price of watching",
    )
    for name in arguments.models:
        found = {kind: [] for kind in (empty, watched)}
        for number in range(arguments.rounds + 1):
            order = (empty, watched) if number % 2 else (watched, empty)
            for kind in order:
                one = one_fit(name, kind, arguments.steps)
                found[kind] += [one] if number else []  # the first round warms the process up
        whole, traces, later = (
            [[one[part] for one in found[kind]] for kind in (empty, watched)] for part in range(3)
        )
        base, more = statistics.median(whole[0]), difference(whole)
        row(name, f"{base:.2f}", f"{more:+.2f}", f"{difference(traces):+.0f}", f"{100 * ratio(later):+.1f}")


def one_fit(name, kind, steps):
    """CPU seconds of a fit, how often it traced the loss, and CPU seconds of its last two thirds."""
    build, usual = MODELS[name]
    keras.utils.set_random_seed(0)
    model = build()
    rng, size = np.random.default_rng(0), 512
    x, y = rng.normal(size=(size, *model.input_shape[1:])).astype("float32"), rng.integers(0, 10, size)
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH).cache().repeat().prefetch(2)
    model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), "sparse_categorical_crossentropy")
    traced, compute_loss = [], model.compute_loss

    def counted(*args, **kwargs):
        traced.append(tf.inside_function())
        return compute_loss(*args, **kwargs)

    object.__setattr__(model, "compute_loss", counted)
    ends = [time.process_time()]
    clock = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ends.append(time.process_time()))
    chosen = [*kind((x[:64], y[:64])), clock]
    model.fit(batches, steps_per_epoch=steps or usual, epochs=EPOCHS, verbose=0, callbacks=chosen)
    return time.process_time() - ends[0], sum(traced), ends[-1] - ends[EPOCHS // 3]


def difference(pair):
    return statistics.median(more - less for less, more in zip(*pair, strict=True))


def ratio(pair):
    return statistics.median(more / less - 1 for less, more in zip(*pair, strict=True))


if __name__ == "__main__":
    main()
