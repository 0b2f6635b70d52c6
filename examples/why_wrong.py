"""Train a network, take its most confident mistakes, and see what each of them was based on.

    python examples/why_wrong.py                             # 5000 MNIST digits, two minutes on two cores
    python examples/why_wrong.py --data my_photos --image-size 64

Shows three maps for each mistake. Two show the evidence for the chosen class and for the correct class (Grad-CAM). The
third shows what decided between them: how much the margin of the two logits falls while a small window is blurred
(occlusion with a function as target). Red windows speak for the mistake, blue windows for the correct class. The
printed numbers say how concentrated that evidence is. Writes runs/why_wrong/mistakes.png.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow is quiet about the GPU it does not find

import keras
import numpy as np
import tensorflow as tf

from recipes import data, explain, models, plot


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="mnist5k", help="a name recipes.data.load knows, or a folder")
    parser.add_argument(
        "--image-size", type=int, help="side in pixels, for folders with images of several sizes"
    )
    parser.add_argument("--epochs", type=int, default=6, help="passes over the training images")
    parser.add_argument("--mistakes", type=int, default=6, help="how many to show")
    parser.add_argument("--quick", action="store_true", help="one epoch on a small part of the data")
    parser.add_argument("--out", type=Path, default=Path("runs/why_wrong"))
    arguments = parser.parse_args()
    print(f"This takes {'some 15 seconds' if arguments.quick else 'two minutes'} on two cores.")
    arguments.out.mkdir(parents=True, exist_ok=True)

    size = arguments.image_size and (arguments.image_size, arguments.image_size)
    train, validation, info = data.load(arguments.data, image_size=size, validation=0.3)
    if arguments.quick:
        train, validation = train.take(768), validation.take(256)
    keras.utils.set_random_seed(0)
    model = models.plain_cnn(info.image_shape, len(info.class_names), filters=(16, 32, 64), convs=1)
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    shuffled = train.shuffle(4096, seed=0).batch(64).prefetch(2)
    model.fit(shuffled, shuffle=False, epochs=1 if arguments.quick else arguments.epochs, verbose=2)

    images, labels = (np.stack(values) for values in zip(*validation.as_numpy_iterator(), strict=True))
    probabilities = model.predict(images, batch_size=256, verbose=0)
    predicted = probabilities.argmax(1)
    wrong = np.flatnonzero(predicted != labels)
    print(
        f"{len(wrong)} of {len(images)} answers are wrong: validation accuracy {1 - len(wrong) / len(images):.1%}"
    )
    worst = wrong[np.argsort(-probabilities[wrong, predicted[wrong]])][: arguments.mistakes]
    if not len(worst):
        print("There is no mistake to explain. Train for fewer epochs, with --epochs 1.")
        return
    images, labels, predicted, confidence = (
        images[worst],
        labels[worst],
        predicted[worst],
        probabilities[worst].max(1),
    )

    for_mistake, layer = explain.grad_cam(model, images, predicted, return_layer=True)
    maps = {
        "for the mistake": for_mistake,
        "for the truth": explain.grad_cam(model, images, labels),
        "mistake against truth": np.stack(
            [margin_map(model, *example) for example in zip(images, predicted, labels, strict=True)]
        ),
    }
    for one, guess, truth, sure in zip(
        maps["mistake against truth"], predicted, labels, confidence, strict=True
    ):
        print(explanation(one, info.class_names[guess], info.class_names[truth], sure))
    titles = [
        f"{info.class_names[guess]} ({sure:.0%})\nis {info.class_names[truth]}"
        for guess, truth, sure in zip(predicted, labels, confidence, strict=True)
    ]
    layers = {name: str(layer) for name in ("for the mistake", "for the truth")}
    figure = plot.attributions(images, maps, titles=titles, layers=layers)
    figure.savefig(arguments.out / "mistakes.png", dpi=110)
    print(
        f"Look at {arguments.out / 'mistakes.png'}: red speaks for the mistake, blue for the correct class."
    )


def margin_map(model, image, guess, truth):
    """How much the margin of the guess over the truth falls when a window around each pixel is blurred."""

    def margin(logits):
        return tf.gather(logits, guess, axis=1) - tf.gather(logits, truth, axis=1)

    side = min(image.shape[:2])
    return explain.occlusion(
        model, image, margin, patch=max(1, side // 6), stride=max(1, side // 14), value="blur"
    )


def explanation(one, guess, truth, sure):
    """One mistake in words."""
    strongest = np.sort(one.ravel())[::-1][: one.size // 10].sum()
    total = one[one > 0].sum()
    return (
        f"  answered {guess} in place of {truth}, {sure:.1%} sure: a tenth of the pixels holds "
        f"{strongest / max(total, 1e-9):.0%} of the evidence for the mistake"
    )


if __name__ == "__main__":
    main()
