"""Kill ReLUs with a learning rate that is too high, watch them die, and see what helps and what does not.

Five small networks learn real handwritten digits. One is trained at a good rate, and one at a deadly rate, which is far
too high. The other three use the deadly rate with a remedy: a warm-up, clipped gradients, or leaky ReLUs. With a
warm-up or clipping, most units stay alive and the network learns. Leaky units cannot die, but the rate is still too
high, and the network learns nothing. Prints the share of dead units in each layer (those that are 0 for every training
image), and writes one picture per run. Takes about a minute on two cores.
"""

import argparse
import os
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow is quiet about the GPU it does not find

import keras

from recipes import callbacks, data

BATCH = 64
SANE_RATE, DEADLY_RATE = 0.05, 0.25
MOMENTUM = 0.9


def build(activation):
    """An MLP of four hidden layers, 64 units each; pixels 0..255 are scaled inside."""
    hidden = []
    for i in range(4):
        hidden += [
            keras.layers.Dense(64, kernel_initializer="he_normal", name=f"dense{i + 1}"),
            activation(f"act{i + 1}"),
        ]
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            *hidden,
            keras.layers.Dense(10, activation="softmax", name="classes"),
        ]
    )


def relu(name):
    return keras.layers.ReLU(name=name)


def leaky_relu(name):
    return keras.layers.LeakyReLU(negative_slope=0.1, name=name)


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one epoch on a small part of the data")
    parser.add_argument("--out", type=Path, default=Path("runs/dead_relus"))
    options = parser.parse_args()
    print(f"This takes {'some 15 seconds' if options.quick else 'a minute'} on two cores.")
    options.out.mkdir(parents=True, exist_ok=True)
    epochs = 1 if options.quick else 6

    train, validation, _ = data.load("mnist5k")
    if options.quick:
        train, validation = train.take(512), validation.take(128)
    train, validation = train.batch(BATCH).cache(), validation.batch(BATCH).cache()

    runs = {  # activation, rate, share of the run to warm up, norm that gradients are clipped to
        "sane rate": (relu, SANE_RATE, 0, None),
        "deadly rate": (relu, DEADLY_RATE, 0, None),
        "deadly rate, warm-up": (relu, DEADLY_RATE, 0.3, None),
        "deadly rate, clipped": (relu, DEADLY_RATE, 0, 1.0),
        "deadly rate, leaky": (leaky_relu, DEADLY_RATE, 0, None),
    }
    print(f"{'run':22s} {'accuracy':>8s}  dead share of each layer")
    for name, (activation, rate, warmup, clip) in runs.items():
        keras.utils.set_random_seed(0)
        model = build(activation)
        model.compile(
            keras.optimizers.SGD(rate, momentum=MOMENTUM, clipnorm=clip),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
        detector = callbacks.DeadReluDetector(data=train, every_steps=4)
        others = [callbacks.WarmupDecay(warmup=warmup)] if warmup else []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the detector's own: this script prints the same
            model.fit(train, epochs=epochs, callbacks=[*others, detector], verbose=0, shuffle=False)
        accuracy = model.evaluate(validation, verbose=0)[1]
        shares = "  ".join(f"{layer} {share:4.0%}" for layer, share in detector.fractions.items())
        shares = shares or "none: leaky units let gradients through"
        print(f"{name:22s} {accuracy:8.1%}  {shares}")
        picture = options.out / f"{name.replace(', ', '_').replace(' ', '_')}.png"
        detector.plot().savefig(picture, dpi=100)
    print(
        f"Look at {options.out}: in deadly_rate.png units turn black and stay black, in sane_rate.png they do not."
    )


if __name__ == "__main__":
    main()
