"""Explain networks that do not classify: a segmentation, a detector, an embedding.

    python examples/other_targets.py            # a minute on two cores

Two small networks learn to segment and to detect disks and squares in drawn scenes, and EfficientNet-Lite0 (extra
`pretrained`) embeds photos. Then three targets are explained:

- `explain.mask_score`: why is this region called a square? The target is the mean score of the region.
- `explain.box_score`: why is there a disk in this box? The target is the score of the class in the predicted box that
  overlaps the given box most.
- `explain.similarity_to`: why is this image similar to that one? The target is the cosine between their embeddings.

Regions and boxes are explained by HiResCAM, because the weights of Grad-CAM are averages over the whole map and so mark
the other shape too. Prints how much of each map lies at the right place, and how much of the image this place covers.
Writes the pictures to runs/other_targets/.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow is quiet about the GPU it does not find

import keras
import numpy as np

from recipes import explain, models, plot

SIDE, CELL = 64, 8  # pixels of a scene, and of a cell of the detector
layers = keras.layers


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few scenes, one epoch")
    parser.add_argument("--out", type=Path, default=Path("runs/other_targets"))
    arguments = parser.parse_args()
    print(f"This takes {'some 15 seconds' if arguments.quick else 'a minute'} on two cores.")
    arguments.out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)
    count, epochs = (64, 1) if arguments.quick else (1500, 8)

    scenes, masks, boxes = draw(count + 1, np.random.default_rng(0))
    figures = {
        "mask_score": segmentation(scenes, masks, epochs),
        "box_score": detection(scenes, boxes, epochs),
        "similarity_to": embedding(),
    }
    for name, figure in figures.items():
        figure.savefig(arguments.out / f"{name}.jpg", dpi=110)
    print(f"Look at {arguments.out}: does each map lie on the region, in the box, or on the similar half?")


def segmentation(scenes, masks, epochs):
    """Why is the region called a square?"""
    x = image = keras.Input((SIDE, SIDE, 3))
    x = layers.Rescaling(1 / 255)(x)
    for filters in (16, 32, 32):
        x = layers.Conv2D(filters, 3, 2, "same", activation="relu")(x)
    x = layers.Conv2D(32, 3, 1, "same", activation="relu", name="bottom")(x)
    for filters in (32, 16, 16):
        x = layers.Conv2DTranspose(filters, 3, 2, "same", activation="relu")(x)
    model = keras.Model(image, layers.Conv2D(3, 1, activation="softmax")(x))
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(scenes[1:], masks[1:], batch_size=32, epochs=epochs, verbose=0)

    region = masks[0] == 2
    one = explain.hires_cam(model, scenes[0], explain.mask_score(region, 2), layer="bottom")
    say("mask_score", one, region)
    return plot.grid(
        [scenes[0], region * 255, scenes[0]],
        maps=[None, None, one],
        titles=["scene", "region called a square", "HiResCAM of its score"],
        columns=3,
        size=2,
    )


def detection(scenes, boxes, epochs):
    """Why is there a disk in the box?"""
    x = image = keras.Input((SIDE, SIDE, 3))
    x = layers.Rescaling(1 / 255)(x)
    for filters in (16, 32, 32):
        x = layers.Conv2D(filters, 3, 2, "same", activation="relu")(x)
    x = layers.Conv2D(64, 5, 1, "same", activation="relu", name="shared")(x)
    scores = layers.Reshape((-1, 3), name="scores")(
        layers.Conv2D(3, 1)(x)
    )  # nothing, disk, square in each cell
    model = keras.Model(image, scores)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    cells = np.zeros((len(scenes), (SIDE // CELL) ** 2), "int64")
    for number, found in enumerate(boxes):
        for kind, (top, left, bottom, right) in enumerate(found, start=1):
            row, column = (top + bottom) // 2 // CELL, (left + right) // 2 // CELL
            cells[number, row * (SIDE // CELL) + column] = kind
    model.fit(scenes[1:], cells[1:], batch_size=32, epochs=epochs, verbose=0)
    detector = keras.Model(image, [scores, Anchors()(scores)])

    box = boxes[0][0]
    target = explain.box_score(box, 1, scores=0, boxes=1)
    one = explain.hires_cam(detector, scenes[0], target, layer="shared")
    inside = np.zeros((SIDE, SIDE), bool)
    inside[box[0] : box[2], box[1] : box[3]] = True
    say("box_score", one, inside)
    return plot.grid(
        [scenes[0], inside * 255, scenes[0]],
        maps=[None, None, one],
        titles=["scene", "box of a disk", "HiResCAM of its score"],
        columns=3,
        size=2,
    )


def embedding():
    """Why is the collage similar to the cat, and why to the cup?"""
    from skimage import data

    cat, cup = (
        np.asarray(keras.utils.array_to_img(one[:300, 100:400]).resize((224, 224)))
        for one in (data.chelsea(), data.coffee())
    )
    collage = np.concatenate([cat[:, 56:168], cup[:, 56:168]], 1)
    backbone = models.efficientnet_lite0(include_top=False)
    embedder = keras.Model(backbone.inputs, layers.GlobalAveragePooling2D()(backbone.output))
    maps = []
    for name, picture, half in (("cat", cat, slice(0, 112)), ("cup", cup, slice(112, 224))):
        target = explain.similarity_to(embedder.predict(picture[None], verbose=0)[0])
        maps.append(explain.grad_cam(embedder, collage, target))
        inside = np.zeros((224, 224), bool)
        inside[:, half] = True
        say(f"similarity_to the {name}", maps[-1], inside)
    return plot.grid(
        [cat, cup, collage, collage],
        maps=[None, None, *maps],
        columns=4,
        size=2,
        titles=["a cat", "a cup", "similar to the cat", "similar to the cup"],
    )


class Anchors(keras.layers.Layer):
    """The box of each cell, `(n, cells, 4)`: top, left, bottom, right; 6 pixels beyond each side of the cell."""

    def call(self, scores):
        corner = np.stack(np.meshgrid(*[np.arange(0, SIDE, CELL)] * 2, indexing="ij"), -1).reshape(1, -1, 2)
        fixed = np.concatenate([corner - 6, corner + CELL + 6], -1).astype("float32")
        count = keras.ops.shape(scores)[0]  # pyright: ignore[reportOptionalSubscript]
        return keras.ops.broadcast_to(fixed, (count, *fixed.shape[1:]))


def draw(count, random):
    """`(scenes uint8, masks, boxes)`: a disk and a square, 20 pixels wide, in each; boxes[i] = [disk, square]."""
    scenes = random.integers(0, 120, (count, SIDE, SIDE, 3)).astype("uint8")
    masks, boxes = np.zeros((count, SIDE, SIDE), "int64"), []
    y, x = np.mgrid[:20, :20]
    shapes = ((y - 9.5) ** 2 + (x - 9.5) ** 2 <= 100, np.ones((20, 20), bool))
    for number in range(count):
        left = random.permutation(
            [random.integers(0, 12), random.integers(32, 44)]
        )  # so that they do not touch
        found = []
        for kind, shape in enumerate(shapes, start=1):
            top, start = random.integers(0, SIDE - 20), left[kind - 1]
            place = (number, slice(top, top + 20), slice(start, start + 20))
            masks[place][shape] = kind
            scenes[place][shape] = random.integers(100, 255, 3)
            found.append((top, start, top + 20, start + 20))
        boxes.append(found)
    return scenes, masks, boxes


def say(name, one, inside):
    share = one[inside].sum() / max(one.sum(), 1e-9)
    print(f"{name:24} {share:.0%} of the map lies at the right place, {inside.mean():.0%} of the image")


if __name__ == "__main__":
    main()
