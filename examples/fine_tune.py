"""Teach a pretrained network new classes from a handful of images, in two phases.

    python examples/fine_tune.py                       # 20 MNIST digits a class, about two minutes on two cores
    python examples/fine_tune.py --data my_photos      # a folder with one sub-folder of images per class

First only a new classifier learns, on the frozen features of ImageNet's EfficientNet-Lite0; then its upper layers
learn as well, at a tenth of the rate. Batch normalizations keep the statistics of ImageNet throughout. The same
number of steps on a network from scratch is printed beside it. Writes runs/fine_tune/model.keras.
"""

import argparse
from pathlib import Path

import keras
import numpy as np

from recipes import data, models


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="mnist5k", help="a name recipes.data.load knows, or a folder")
    parser.add_argument("--image-size", type=int, default=64, help="pixels the images are resized to")
    parser.add_argument("--per-class", type=int, default=20, help="training images a class")
    parser.add_argument("--epochs", type=int, default=15, help="passes over them in each phase")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="2 images a class, one epoch a phase")
    parser.add_argument("--out", type=Path, default=Path("runs/fine_tune"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(arguments.seed)

    size, epochs = arguments.image_size, arguments.epochs
    per_class, tested = arguments.per_class, 50
    if arguments.quick:
        size, epochs, per_class, tested = 32, 1, 2, 4
    train, validation, info = data.load(arguments.data, image_size=(size, size), seed=arguments.seed)
    classes = len(info.class_names)
    train_images, train_labels = few_of_each(train, classes, per_class)
    test_images, test_labels = few_of_each(validation, classes, tested)
    shape = (size, size, 3)

    def fit(model, rate):
        model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(train_images, train_labels, batch_size=20, epochs=epochs, verbose=0)
        return model.evaluate(test_images, test_labels, verbose=0)[1]

    print(f"{per_class} images of each of {classes} classes, {size} x {size} pixels")
    scratch = models.resnet(shape, classes, depth=8)
    print(f"from scratch, ResNet-8:          {fit(scratch, 1e-3):.1%} of validation images right")

    backbone = models.efficientnet_lite0(input_shape=shape, include_top=False)
    model = models.transfer(backbone, classes)
    print(f"phase 1, a new classifier:       {fit(model, 3e-3):.1%}")
    model = models.unfreeze(model, from_layer="stage4_block1_expand")
    print(f"phase 2, the upper layers too:   {fit(model, 3e-4):.1%}")

    model.save(arguments.out / "model.keras")
    print(f"Saved: {arguments.out / 'model.keras'}")


def few_of_each(dataset, classes, count):
    """The first `count` images of each class, or as many as there are, as RGB; and their labels."""
    kept = [[] for _ in range(classes)]
    for image, label in dataset.as_numpy_iterator():
        if len(kept[label]) < count:
            kept[label].append(np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image)
        if all(len(images) == count for images in kept):
            break
    return np.concatenate(kept), np.repeat(np.arange(classes), [len(images) for images in kept])


if __name__ == "__main__":
    main()
