"""Draw a 2-D map of a data set: images that a network considers similar lie close together.

    python examples/feature_map.py                       # 5000 MNIST digits, about a minute on two cores

Trains a small network and takes its features before the classifier. Draws them by t-SNE and by PCA to
runs/feature_map/tsne.png and pca.png. Also writes neighbors.png: images and their nearest neighbors, by pixels (first
row of each pair) and by features (second row). Prints how often neighbors have the same class.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow is quiet about the GPU it does not find

import keras
import numpy as np

from recipes import data, explain, models, plot


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=4, help="passes over the training images")
    parser.add_argument("--count", type=int, default=1500, help="images on the map")
    parser.add_argument("--quick", action="store_true", help="one epoch on 512 images, 60 images on the map")
    parser.add_argument("--out", type=Path, default=Path("runs/feature_map"))
    arguments = parser.parse_args()
    print(f"This takes {'some 15 seconds' if arguments.quick else 'a minute'} on two cores.")
    arguments.out.mkdir(parents=True, exist_ok=True)

    train, _, info = data.load("mnist5k", verbose=0)
    images, labels = next(train.batch(10_000).as_numpy_iterator())
    used = 512 if arguments.quick else len(images)
    count, epochs = (60, 1) if arguments.quick else (arguments.count, arguments.epochs)
    keras.utils.set_random_seed(0)
    model = models.plain_cnn(info.image_shape, len(info.class_names), filters=(16, 32, 64), convs=1)
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images[:used], labels[:used], batch_size=64, epochs=epochs, verbose=0)

    shown, classes = images[-count:], labels[-count:]
    codes = explain.features(model, shown)
    for kind in ("pca", "tsne"):
        places = explain.embed(codes, kind=kind)
        figure = plot.thumbnails(
            places, 255 - shown, labels=classes, cells=36, title=f"{kind} of {codes.shape[1]} features"
        )
        figure.savefig(arguments.out / f"{kind}.png", dpi=100)

    pixels = shown.reshape(count, -1).astype("float32")
    rows = []
    for name, vectors in (("pixels", pixels), ("features", codes)):
        indices, _ = explain.nearest_neighbors(vectors, vectors, 9)
        same = np.mean(classes[indices[:, 1:]] == classes[:, None])
        print(f"by {name}: {same:.1%} of the 8 nearest neighbors have the image's class")
        rows.append(indices[:4])
    order = np.stack(rows, axis=1).reshape(-1)
    plot.grid(shown[order], columns=9, size=0.8).savefig(arguments.out / "neighbors.png", dpi=100)
    print(f"Look at {arguments.out}: find digits in tsne.png that lie among those of another class.")


if __name__ == "__main__":
    main()
