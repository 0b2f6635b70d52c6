"""See what every augmentation does: one page per family, one contact sheet per operation and standard pipeline.

    python examples/augmentation_gallery.py                    # a minute; writes runs/augmentation_gallery/*.png
    python examples/augmentation_gallery.py --only Rotate CutMix page_color

On a page, each row shows an operation over its usual range of strengths, with the same random draw; the strength is
written above each picture. On a sheet, each row shows an unchanged image, followed by random draws. The photographs
come with scikit-image, and the digits are the training set of the quickstart. Look at the pictures before training: if
you can no longer recognize a class, neither can the network.
"""

import argparse
import os
from pathlib import Path
from typing import Literal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow is quiet about the GPU it does not find

import keras
import numpy as np
import skimage.data

from recipes import augment, data, plot, preprocess

PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")
ONE_DRAW = 4  # of which every operation shows something


def photographs(size):
    """Four photographs as `(4, size, size, 3)`, uint8, cut to squares."""
    images = []
    for name in PHOTOS:
        image = getattr(skimage.data, name)()
        side = min(image.shape[:2])
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        square = image[top : top + side, left : left + side].astype("float32")
        images.append(keras.ops.image.resize(square, (size, size), antialias=True))
    return np.clip(np.rint(images), 0, 255).astype("uint8")


def sheets(photos):
    """`{name: operations}`: each operation alone, stronger than in training, so that its effect is visible."""
    size = photos.shape[1]
    statistics = preprocess.ImageStatistics.fit(photos, verbose=0)
    return {
        "Flip": [augment.Flip()],
        "PadCrop": [augment.PadCrop(size // 5)],
        "PadCrop_reflect": [augment.PadCrop(size // 5, fill="reflect")],
        "Crop": [augment.Crop(size // 2)],
        "RandomResizedCrop": [augment.RandomResizedCrop(size)],
        "ScaleCrop": [augment.ScaleCrop(size // 2, short_side=(size // 2, size))],
        "Rotate": [augment.Rotate(45)],
        "Translate": [augment.Translate(0.2, 0.2)],
        "Zoom": [augment.Zoom(0.6)],
        "Stretch": [augment.Stretch(0.8)],
        "Shear": [augment.Shear(0.4, 0.2)],
        "LensDistortion": [augment.LensDistortion(0.33)],
        "Perspective": [augment.Perspective(0.5, probability=1)],
        "Elastic": [augment.Elastic(size / 50, size / 12)],
        "Brightness": [augment.Brightness(0.6)],
        "Contrast": [augment.Contrast(0.8)],
        "Saturation": [augment.Saturation((0, 2.5))],
        "Hue": [augment.Hue(0.5)],
        "ColorJitter": [augment.ColorJitter(0.4, 0.4, 0.4, 0.1)],
        "FancyPCA": [augment.FancyPCA(statistics, 1.0)],
        "Grayscale": [augment.Grayscale(probability=0.5)],
        "Noise": [augment.GaussianNoise((0, 0.3))],
        "Blur": [augment.GaussianBlur((0.5, 4), probability=1)],
        "Invert": [augment.Invert()],
        "Posterize": [augment.Posterize((1, 4))],
        "Solarize": [augment.Solarize((0, 1), probability=1)],
        "AutoContrast": [augment.AutoContrast()],
        "Equalize": [augment.Equalize()],
        "Sharpness": [augment.Sharpness((0, 4))],
        "Cutout": [augment.Cutout(size // 2)],
        "RandomErasing": [augment.RandomErasing(probability=1)],
        "MixUp": [augment.MixUp(1.0)],
        "CutMix": [augment.CutMix(1.0)],
        "OneOf": [augment.OneOf([augment.Rotate(45), augment.Cutout(size // 2), augment.Hue(0.5)])],
        "SomeOf": [
            augment.SomeOf([augment.Rotate(45), augment.Cutout(size // 2), augment.Hue(0.5)], count=2)
        ],
        "TrivialAugment": [augment.TrivialAugment()],
        "RandAugment": [augment.RandAugment(2, 15)],
        "AutoAugment": [augment.AutoAugment("imagenet")],
        "AugMix": [augment.AugMix(5)],
        "Normalize": [augment.Normalize(statistics)],
    }


def pages(photos):
    """`{family: {operation: [(text, operation)]}}`: from the weakest to the strongest of the usual range."""
    statistics = preprocess.ImageStatistics.fit(photos, verbose=0)
    side = photos.shape[1]
    some = [augment.Rotate(45), augment.Cutout(side // 3), augment.Hue(0.4)]

    def steps(make, *strengths):
        return [(f"{strength:g}", make(strength)) for strength in strengths]

    def fixed(kind, **options):
        return lambda strength: kind((strength, strength), **options)

    draws = lambda op: [(f"draw {number + 1}", op) for number in range(6)]  # noqa: E731
    return {
        "geometry": {
            "Rotate, degrees": steps(fixed(augment.Rotate), -45, -20, -5, 5, 20, 45),
            "Shear": steps(fixed(augment.Shear), -0.4, -0.2, -0.1, 0.1, 0.2, 0.4),
            "Translate": steps(fixed(augment.Translate), -0.3, -0.15, -0.05, 0.05, 0.15, 0.3),
            "Zoom": steps(fixed(augment.Zoom), 0.5, 0.7, 0.9, 1.2, 1.6, 2.5),
            "Stretch": steps(fixed(augment.Stretch), 0.5, 0.7, 0.9, 1.2, 1.6, 2),
            "LensDistortion": steps(fixed(augment.LensDistortion), -0.33, -0.2, -0.1, 0.1, 0.2, 0.33),
            "Perspective": steps(
                lambda share: augment.Perspective(share, probability=1), 0.05, 0.1, 0.2, 0.4, 0.6, 0.8
            ),
            "Elastic, pixels": steps(lambda pixels: augment.Elastic(pixels, 10), 0.5, 1, 1.5, 2, 3, 4),
        },
        "color": {
            "Brightness": steps(fixed(augment.Brightness), 0.4, 0.6, 0.8, 1.2, 1.5, 1.9),
            "Contrast": steps(fixed(augment.Contrast), 0.2, 0.5, 0.8, 1.2, 1.5, 1.9),
            "Saturation": steps(fixed(augment.Saturation), 0, 0.4, 0.8, 1.3, 1.9, 3),
            "Hue, turns": steps(fixed(augment.Hue), -0.5, -0.2, -0.05, 0.05, 0.2, 0.4),
            "Solarize": steps(lambda share: augment.Solarize(share, probability=1), 1, 0.8, 0.6, 0.4, 0.2, 0),
            "Posterize, bits": steps(augment.Posterize, 8, 5, 4, 3, 2, 1),
            "FancyPCA": steps(lambda size: augment.FancyPCA(statistics, size), 0.05, 0.1, 0.2, 0.5, 1, 2),
            "ColorJitter": steps(
                lambda size: augment.ColorJitter(size, size, size), 0.1, 0.2, 0.3, 0.4, 0.6, 0.9
            ),
        },
        "filters": {
            "GaussianBlur": steps(
                lambda width: augment.GaussianBlur(width, probability=1), 0.3, 0.6, 1, 1.5, 2.5, 4
            ),
            "Sharpness": steps(fixed(augment.Sharpness), 0, 0.5, 1.5, 2, 4, 8),
            "GaussianNoise": steps(fixed(augment.GaussianNoise), 0.02, 0.05, 0.1, 0.15, 0.2, 0.3),
            "Cutout, pixels": steps(augment.Cutout, 8, 16, 24, 32, 48, 64),
            "RandomErasing": draws(augment.RandomErasing(probability=1)),
        },
        "policies": {
            "TrivialAugment": draws(augment.TrivialAugment(space="full")),
            "RandAugment, strength": steps(
                lambda most: augment.RandAugment(2, most, space="full"), 3, 6, 9, 14, 20, 30
            ),
            "AutoAugment, ImageNet": draws(augment.AutoAugment("imagenet")),
            "AutoAugment, CIFAR-10": draws(augment.AutoAugment("cifar10")),
            "AutoAugment, SVHN": draws(augment.AutoAugment("svhn")),
            "AugMix, severity": steps(augment.AugMix, 1, 2, 3, 5, 7, 10),
        },
        "mixing": {
            "MixUp, alpha": steps(augment.MixUp, 0.1, 0.2, 0.4, 1, 2, 8),
            "CutMix, alpha": steps(augment.CutMix, 0.1, 0.2, 0.4, 1, 2, 8),
            "OneOf the two": draws(augment.OneOf([augment.MixUp(1.0), augment.CutMix(1.0)])),
            "OneOf three": draws(augment.OneOf(some)),
            "SomeOf: two of three": draws(augment.SomeOf(some, count=2)),
        },
        "without a strength": {
            "Flip": draws(augment.Flip(vertical=True)),
            "PadCrop": draws(augment.PadCrop(side // 8)),
            "Crop": draws(augment.Crop(side * 3 // 4)),
            "RandomResizedCrop": draws(augment.RandomResizedCrop(side * 3 // 4)),
            "ScaleCrop": draws(augment.ScaleCrop(side // 2, short_side=(side // 2, side))),
            "curves and gray": [
                ("Invert", augment.Invert(probability=1)),
                ("AutoContrast", augment.AutoContrast(probability=1)),
                ("Equalize", augment.Equalize(probability=1)),
                ("Grayscale", augment.Grayscale(probability=1)),
                ("Normalize", augment.Normalize(statistics)),
                ("RandAugment, linear", augment.RandAugment(2, 14)),
            ],
        },
    }


def page(rows, photos, seed, shown=1):
    """A figure of one family: each row shows the photo, then one operation over its range."""
    pictures, titles = [], []
    for name, operations in rows.items():
        pictures.append(photos[shown] / 255)
        titles.append(name)
        for column, (text, op) in enumerate(operations):
            pipeline = augment.Pipeline([op], jit_compile=False)
            # Along a row the random numbers stay the same, so that only the strength changes. Mixing and policies get
            # a new draw for each picture, because one draw would show little.
            several = pipeline.mixes or isinstance(op, augment.RandAugment | augment.AugMix)
            number = column if several or text.startswith("draw") else ONE_DRAW
            # Only mixing needs the other photos.
            given = photos if pipeline.mixes else photos[shown : shown + 1]
            changed = pipeline(given, seed=(seed, number)).numpy()[shown if pipeline.mixes else 0]
            low, high = (-2, 2) if isinstance(op, augment.Normalize) else (0, 255)
            pictures.append(np.clip((changed - low) / (high - low), 0, 1))
            titles.append(text)
    return plot.grid(pictures, titles=titles, columns=7, size=1.4)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=128, help="side of the photographs in pixels")
    parser.add_argument("--columns", type=int, default=8, help="pictures in a row")
    parser.add_argument("--only", nargs="+", help="names of sheets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a few small sheets")
    parser.add_argument("--out", type=Path, default=Path("runs/augmentation_gallery"))
    arguments = parser.parse_args()
    print(f"This takes {'some 15 seconds' if arguments.quick else 'a minute'} on two cores.")
    arguments.out.mkdir(parents=True, exist_ok=True)

    photos = photographs(48 if arguments.quick else arguments.size)
    digits = np.stack([image for image, _ in data.load("mnist5k")[0].take(4).as_numpy_iterator()])
    # Without XLA: each sheet is drawn a few times only.
    drawn = {
        name: (augment.Pipeline(ops, seed=arguments.seed, jit_compile=False), photos)
        for name, ops in sheets(photos).items()
    }
    kinds: dict[Literal["photos", "symbols"], np.ndarray] = {"photos": photos, "symbols": digits}
    strengths: tuple[Literal["light", "medium", "strong"], ...] = ("light", "medium", "strong")
    for kind, images in kinds.items():
        for strength in strengths:
            pipeline = augment.standard(
                images.shape[1:], kind=kind, strength=strength, seed=arguments.seed, jit_compile=False
            )
            drawn[f"standard_{kind}_{strength}"] = (pipeline, images)
    chosen = arguments.only or (
        ["Rotate", "MixUp", "standard_symbols_light"] if arguments.quick else list(drawn)
    )
    families = {f"page_{family.replace(' ', '_')}": rows for family, rows in pages(photos).items()}
    if arguments.only is None:
        chosen = ["page_color", *chosen] if arguments.quick else [*families, *chosen]
    for name in chosen:
        if name in families:
            path = arguments.out / f"{name}.png"
            page(families[name], photos, arguments.seed).savefig(path, dpi=80)
            print(path)
            continue
        if name not in drawn:
            parser.error(f"no sheet is called {name}; there are {', '.join([*families, *drawn])}")
        pipeline, images = drawn[name]
        figure = pipeline.preview(images, columns=4 if arguments.quick else arguments.columns)
        path = arguments.out / f"{name}.png"
        figure.savefig(path, dpi=80)
        print(f"{path}\n{pipeline}\n")
    print(f"Look at {arguments.out}: where you can no longer recognize the class, neither can the network.")


if __name__ == "__main__":
    main()
