"""The wait before the first step: CPU seconds from the call of `recipes.train` to the end of its first step.

    python benchmarks/start_up.py                        # both networks, three new processes per arm: some 10 minutes
    python benchmarks/start_up.py --networks resnet20 --rounds 1

Each measurement runs in a new process, like the first run of a user, and the arms take turns. `plain fit` compiles the
same model with an SGD optimizer and the same loss, and trains on the same arrays. Importing the packages and building
the model are not counted.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tables import heading, row

ARMS = {
    "plain fit": None,
    "train, default": {},
    "train, preflight=False": {"preflight": False},
    "train, preflight=False, monitor=False": {"preflight": False, "monitor": False},
    "train, preflight=True": {"preflight": True},
}
NETWORKS = ("resnet20", "mobilenet_v2", "mlp")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["resnet20", "mobilenet_v2"])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=[*ARMS])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # network and arm, for a new process
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(first_step(*arguments.one)))
        return
    for network in arguments.networks:
        found = {arm: [] for arm in arguments.arms}
        for _ in range(arguments.rounds):
            for arm in arguments.arms:
                found[arm].append(fresh(network, arm))
        plain = statistics.median(one["cpu"] for one in found[arguments.arms[0]])
        title = f"{network}: from the call to the end of the first step, medians of {arguments.rounds}"
        heading("", "CPU s", f"of {arguments.arms[0]}", "wall s", "traces", title=title)
        for arm, ones in found.items():
            cpu = statistics.median(one["cpu"] for one in ones)
            wall = statistics.median(one["wall"] for one in ones)
            row(arm, f"{cpu:.1f}", f"{cpu / plain:.2f}", f"{wall:.1f}", ones[0]["traces"])


def fresh(network, arm):
    """The measurement of `first_step` in a new process."""
    command = [sys.executable, str(Path(__file__)), "--one", network, arm]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        sys.exit(f"{network}, {arm}: the process failed.\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def first_step(network, arm):
    """CPU and wall seconds until the end of the first step, and how often the network was traced until then."""
    import keras
    import numpy as np
    import tensorflow as tf

    import recipes
    from recipes.training.train import train

    rng = np.random.default_rng(0)
    model, side, channels = build(network, keras, recipes)
    x = rng.integers(0, 256, (2048, side, side, channels), dtype="uint8")
    y = np.arange(2048) % 10
    traced, compute_loss = [], model.compute_loss

    def counted(*args, **kwargs):
        traced.append(tf.inside_function())
        return compute_loss(*args, **kwargs)

    object.__setattr__(model, "compute_loss", counted)

    class FirstStep(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if not ends:
                ends.append((time.process_time(), time.monotonic(), sum(traced)))
            self.model.stop_training = True

    ends, begin = [], (time.process_time(), time.monotonic())
    if ARMS[arm] is None:
        optimizer = keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True)
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(
            x, y, batch_size=128, verbose=0, callbacks=[FirstStep()], validation_data=(x[:128], y[:128])
        )
    else:
        train(model, (x, y), (x[:128], y[:128]), epochs=1, verbose=0, callbacks=[FirstStep()], **ARMS[arm])
    return {"cpu": ends[0][0] - begin[0], "wall": ends[0][1] - begin[1], "traces": ends[0][2]}


def build(network, keras, recipes):
    if network == "resnet20":
        return recipes.models.resnet((32, 32, 3), 10), 32, 3
    if network == "mlp":
        return recipes.models.mlp((8, 8, 1), 10), 8, 1
    backbone = keras.applications.MobileNetV2((96, 96, 3), include_top=False, weights=None, pooling="avg")
    image = keras.Input((96, 96, 3))
    x = backbone(keras.layers.Rescaling(1 / 127.5, -1)(image))
    return keras.Model(image, keras.layers.Dense(10, activation="softmax")(x)), 96, 3


if __name__ == "__main__":
    main()
