"""Watch a healthy training run and three faulty ones side by side.

All runs have the same data and the same monitors. One run learns, one has a learning rate that is too high, one starts
from zeros, and one is a deep stack of sigmoid layers. Each fault shows in a different picture. Prints what the monitors
say, and writes pictures of the updates, gradients and activations of each run to runs/watch_training/. Takes about a
minute on two cores.
"""

import argparse
import os
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow is quiet about the GPU it does not find

import keras
import numpy as np

from recipes import callbacks, data

BATCH = 64
MOMENTUM = 0.9


def build(activation="relu", initializer="he_normal", depth=5):
    """An MLP; pixels 0..255 are scaled inside."""
    hidden = [
        keras.layers.Dense(64, activation, kernel_initializer=initializer, name=f"dense{i + 1}")
        for i in range(depth)
    ]
    scaled = [keras.Input((28, 28, 1)), keras.layers.Rescaling(1 / 255), keras.layers.Flatten()]
    return keras.Sequential([*scaled, *hidden, keras.layers.Dense(10, "softmax", name="classes")])


RUNS = {  # name: (model's arguments, learning rate)
    "healthy": ({}, 0.01),
    "rate too high": ({}, 0.5),
    "zero initialization": ({"initializer": "zeros"}, 0.01),
    "sigmoid stack": ({"activation": "sigmoid", "initializer": "glorot_uniform", "depth": 8}, 0.01),
}


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one epoch on a small part of the data")
    parser.add_argument("--out", type=Path, default=Path("runs/watch_training"))
    options = parser.parse_args()
    print(f"This takes {'some 15 seconds' if options.quick else 'a minute'} on two cores.")
    options.out.mkdir(parents=True, exist_ok=True)
    epochs = 1 if options.quick else 5

    train, validation, _ = data.load("mnist5k")
    if options.quick:
        train, validation = train.take(512), validation.take(128)
    train, validation = train.batch(BATCH).cache(), validation.batch(BATCH).cache()

    for name, (arguments, rate) in RUNS.items():
        keras.utils.set_random_seed(0)
        model = build(**arguments)
        model.compile(
            keras.optimizers.SGD(rate, momentum=MOMENTUM),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
        monitors = callbacks.default_monitors(every_steps=5)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            model.fit(train, epochs=epochs, callbacks=monitors, verbose=0, shuffle=False)
        ratio, dead, gradient, activation, _ = monitors
        print(f"\n{name}: validation accuracy {model.evaluate(validation, verbose=0)[1]:.1%}")
        print(f"  update ratio, median of the kernels   {np.nanmedian(list(ratio.ratios.values())):.1e}")
        print(f"  gradient, first layer / last layer    {gradient.first_to_last:.1e}")
        print(f"  dead units                            {sum(map(len, dead.dead_units.values()))}")
        for warning in said:
            print(f"  ! {warning.message}")
        for title, monitor in (("updates", ratio), ("gradients", gradient), ("activations", activation)):
            monitor.plot().savefig(options.out / f"{name.replace(' ', '_')}_{title}.png", dpi=90)
    print(f"\nLook at {options.out}: compare the three healthy_*.png with those of the faulty runs.")


if __name__ == "__main__":
    main()
