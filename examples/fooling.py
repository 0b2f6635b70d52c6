"""Fool a network, then train one that is harder to fool.

    python examples/fooling.py                           # about two minutes on two cores

First, an invisible change of a cat's photo makes EfficientNet-Lite0 see something else. Then two small networks learn
5000 MNIST digits, one of them continues its training on attacked images, and both are attacked. Prints the accuracies.
Writes runs/fooling/fooled.png, and noise.png, which shows what the network sees in noise.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow is quiet about the GPU it does not find

import keras
import numpy as np

from recipes import data, explain, models, plot

TARGETS = {"toaster": 859, "goldfish": 1}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--epsilon", type=float, default=48, help="largest change of a digit's pixel (range 0 to 255)"
    )
    parser.add_argument("--epochs", type=int, default=5, help="passes over the digits")
    parser.add_argument(
        "--quick", action="store_true", help="one epoch on 512 digits, without the ImageNet network"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/fooling"))
    arguments = parser.parse_args()
    print(f"This takes {'some 15 seconds' if arguments.quick else 'two minutes'} on two cores.")
    arguments.out.mkdir(parents=True, exist_ok=True)

    if not arguments.quick:
        fool_an_imagenet_network(arguments.out)
    train, validation, _ = data.load("mnist5k", verbose=0)
    (images, labels), (test, truth) = (whole(part) for part in (train, validation))
    if arguments.quick:
        images, labels, test, truth, arguments.epochs = images[:512], labels[:512], test[:64], truth[:64], 1

    attack = {"epsilon": arguments.epsilon, "value_range": (0, 255), "steps": 5 if arguments.quick else 40}
    print(
        f"\naccuracy of             clean     FGSM      PGD   PGD, seen through noise   (epsilon {arguments.epsilon:g})"
    )
    for name in ("plain", "adversarial"):
        keras.utils.set_random_seed(0)
        model = small_network(images.shape[1:])
        model.fit(images, labels, batch_size=64, epochs=arguments.epochs, verbose=0)
        if name == "adversarial":
            # Under the full attack from the start, a network this small never leaves its initial loss.
            for share in (0.25, 0.5, 0.75, 1.0):
                epsilon = share * arguments.epsilon
                with explain.adversarial_training(model, epsilon=epsilon, value_range=(0, 255), steps=7):
                    model.fit(images, labels, batch_size=64, epochs=-(-arguments.epochs // 2), verbose=0)
        fast = explain.fgsm(model, test, truth, epsilon=arguments.epsilon, value_range=(0, 255))
        strong = explain.pgd(model, test, truth, **attack)
        through_noise = explain.smoothed_predict(model, strong, value_range=(0, 255), noise=0.2)
        seen = [model.predict(x, verbose=0) for x in (test, fast, strong)] + [through_noise]
        print(f"{name:20s} " + " ".join(f"{np.mean(p.argmax(-1) == truth):8.1%}" for p in seen))
    plot.noise_response(explain.noise_response(model)).savefig(arguments.out / "noise.png", dpi=100)
    print(
        f"Look at {arguments.out}: fooled.png shows the change of the photo, drawn far stronger than it is."
    )


def small_network(input_shape):
    """Two convolutions and a Dense layer, compiled."""
    layers = [keras.Input(input_shape), keras.layers.Rescaling(1 / 255)]
    for filters in (16, 32):
        layers.append(keras.layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu"))
    layers += [
        keras.layers.Flatten(),
        keras.layers.Dense(64, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
    ]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy")
    return model


def fool_an_imagenet_network(folder):
    import skimage.data

    model, names = models.efficientnet_lite0(), models.imagenet_class_names()
    cat = keras.ops.image.resize(skimage.data.chelsea()[:, 60:360], (224, 224), antialias=True)
    cat = np.clip(np.asarray(cat), 0, 255)[None].repeat(len(TARGETS), axis=0)
    before = model.predict(cat, verbose=0).argmax(-1)
    found = explain.fool(model, cat, list(TARGETS.values()), value_range=(0, 255))
    for place, wanted in enumerate(TARGETS):
        change = np.abs(found.difference[place])
        print(
            f"{names[before[place]]} -> {names[found.predicted[place]]} (wanted: {wanted}): mean change of a pixel "
            f"{change.mean():.2f} of 255, largest {change.max():.1f}"
        )
    plot.fooled(cat, found, class_names=names, before=before).savefig(folder / "fooled.png", dpi=100)


def whole(dataset):
    """A dataset of (image, label) as two arrays."""
    return next(dataset.batch(10_000).as_numpy_iterator())


if __name__ == "__main__":
    main()
