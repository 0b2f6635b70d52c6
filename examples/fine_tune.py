"""Teach a pretrained network new classes from few photos: only its head, all layers at once, or layer after layer.

    python examples/fine_tune.py                       # crops of scikit-image's photos, about two minutes on two cores
    python examples/fine_tune.py --data my_photos      # a folder with one sub-folder of photos per class

Compares three ways, on EfficientNet-Lite0 with ImageNet weights (extra `pretrained`). The first trains only the new
head, on features that are computed once. The second trains all layers from the beginning, with a learning rate that
decays with depth; `recipes.train` does this with a network of `models.transfer`. The third trains the head first, and
then unfreezes the backbone from its top, at a tenth of the head's rate. Batch normalizations keep the statistics of
ImageNet throughout. Writes to runs/fine_tune/ the file model.keras, and answers.png: photos with the evidence for each
answer.
"""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow is quiet about the GPU it does not find

import keras
import numpy as np
import skimage.data
from PIL import Image

import recipes
from recipes import data, explain, models, plot

NAMED = ("astronaut", "cat", "coffee", "rocket")  # photos of scikit-image


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="a folder with one sub-folder of photos per class")
    parser.add_argument("--image-size", type=int, default=96, help="pixels the photos are resized to")
    parser.add_argument("--photos", type=int, default=100, help="largest number of training photos")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="few photos of 32 pixels, two epochs, one way")
    parser.add_argument("--out", type=Path, default=Path("runs/fine_tune"))
    arguments = parser.parse_args()
    print(f"This takes {'some 15 seconds' if arguments.quick else 'two minutes'} on two cores.")
    size, photos, epochs = arguments.image_size, arguments.photos, arguments.epochs
    if arguments.quick:
        size, photos, epochs = 32, 12, 2
    arguments.out.mkdir(parents=True, exist_ok=True)

    with tempfile.TemporaryDirectory() as folder:
        source = arguments.data or crops(Path(folder), 8 if arguments.quick else 40)
        train, validation, info = data.load(source, image_size=(size, size), seed=arguments.seed, cache=None)
        train, validation = arrays(train, photos), arrays(validation, 400)
    classes, shape = len(info.class_names), (size, size, 3)
    print(
        f"{len(train[1])} photos of {', '.join(info.class_names)}, {size} x {size} pixels; {len(validation[1])} to test"
    )

    def network():
        keras.utils.set_random_seed(arguments.seed)
        return models.transfer(models.efficientnet_lite0(include_top=False, input_shape=shape), classes)

    quiet: dict[str, Any] = {"epochs": epochs, "batch_size": 20, "seed": arguments.seed, "verbose": 0}
    checks: dict[str, Any] = {"monitor": False, "preflight": False}
    if not arguments.quick:
        head = recipes.training.train_head(network(), train, validation, **quiet)
        print(f"only the head, on cached features:    {head.history['val_accuracy'][-1]:.1%} correct")

    model = network()
    run = recipes.train(model, train, validation, info=info, **quiet, **checks)
    print(f"all layers, rates decayed by depth:   {run.history['val_accuracy'][-1]:.1%}")

    if not arguments.quick:
        stages = {max(1, epochs * 3 // 10): "stage[67]_*", max(2, epochs * 6 // 10): "backbone"}
        options: dict[str, Any] = {
            "unfreeze": stages,
            "rates": {"head": 1.0, "backbone": 0.1},
            "optimizer": "adam",
        }
        gradual = recipes.train(network(), train, validation, **options, **quiet, **checks)
        print(f"the head, then layer after layer:     {gradual.history['val_accuracy'][-1]:.1%}")

    model.save(arguments.out / "model.keras")
    draw(model, validation[0][::5][:8], validation[1][::5][:8], info.class_names).savefig(
        arguments.out / "answers.png", dpi=80
    )
    print(
        f"Look at {arguments.out}: answers.png shows the evidence for each answer; model.keras takes new photos."
    )


def draw(model, photos, labels, names):
    """A figure of photos that were not trained on, with the answers, the truth where it differs, and the evidence."""
    answers = model.predict(photos, verbose=0)
    right = answers.argmax(-1) == labels
    titles = [
        f"{names[row.argmax()]}, {row.max():.0%}" + ("" if good else f"; is {names[truth]}")
        for row, good, truth in zip(answers, right, labels, strict=True)
    ]
    colors = ["tab:green" if good else "tab:red" for good in right]
    maps = explain.grad_cam(model, photos)
    return plot.grid(photos, maps=maps, titles=titles, title_colors=colors, columns=4, size=2)


def crops(folder, count):
    """A folder of random crops: training photos from the left three fifths, validation from the right two fifths."""
    random = np.random.default_rng(0)
    for name in NAMED:
        photo = getattr(skimage.data, name)()
        middle = photo.shape[1] * 3 // 5
        for part, half in (("train", photo[:, :middle]), ("validation", photo[:, middle:])):
            (folder / part / name).mkdir(parents=True)
            side = min(half.shape[:2]) * 3 // 5
            for number in range(count):
                top, left = (random.integers(0, length - side) for length in half.shape[:2])
                Image.fromarray(half[top : top + side, left : left + side]).save(
                    folder / part / name / f"{number}.png"
                )
    return folder


def arrays(dataset, count):
    """The first photos of a data set, as RGB, and their labels."""
    pairs = list(dataset.take(count).as_numpy_iterator())
    return np.stack([image for image, _ in pairs]), np.array([label for _, label in pairs])


if __name__ == "__main__":
    main()
