"""Three training scripts that are slower than necessary: where the time goes, and how much the remedies gain.

    python examples/why_slow.py

Each script trains the same small network on the digits of scikit-learn for as long as the measurement takes (about a
minute for all three). Prints the parts of a step, the stages of the input pipeline, and the causes with their remedies.
Writes the figures to runs/why_slow/.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow is quiet about the GPU it does not find

import keras
import numpy as np
import tensorflow as tf

from recipes import data, diagnose, plot


def network() -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(1 / 127.5, offset=-1),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def flipped(image: np.ndarray) -> np.ndarray:
    """An augmentation in Python, one image at a time."""
    return image[:, ::-1] if np.random.default_rng().random() < 0.5 else image


def in_python(image, label):
    return tf.ensure_shape(tf.numpy_function(flipped, [image], tf.uint8), (8, 8, 1)), label


class EveryBatch(keras.callbacks.Callback):
    """Keeps a copy of the weights after every batch."""

    def on_train_batch_end(self, batch, logs=None):
        if self.model is not None:
            self.copies = [self.model.get_weights() for _ in range(20)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="measure each script for two seconds")
    parser.add_argument("--out", default="runs/why_slow", help="folder for the figures")
    arguments = parser.parse_args()
    print(f"This takes {'some 15 seconds' if arguments.quick else 'a minute'} on two cores.")
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    train, _, _ = data.load("digits")
    batches = train.shuffle(500).batch(64).prefetch(2)
    scripts = {
        "augmentation in Python": (train.map(in_python).batch(64).prefetch(2), []),
        "weights copied after every batch": (batches, [EveryBatch()]),
        "batches of 4": (train.shuffle(500).batch(4).prefetch(2), []),
    }
    seconds = 2.0 if arguments.quick else 20.0
    for name, (given, callbacks) in scripts.items():
        print(f"\n== {name}")
        found = diagnose.throughput(network(), given, seconds=seconds, callbacks=callbacks)
        plot.throughput(found).savefig(out / f"{name.replace(' ', '_')}.png")
    print(f"\nLook at {out}: each picture shows what a step waits for, and how much each remedy gains.")


if __name__ == "__main__":
    main()
