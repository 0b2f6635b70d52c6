"""The color axes of a data set, and what PCA color augmentation does along them.

    python examples/fancy_pca.py
    python examples/fancy_pca.py --data my_photos --image-size 224

The three color channels of photos vary mostly together. Along the first principal axis of their RGB covariance an image
gets brighter or darker; along the second it shifts between warm and cold colors; along the third colors hardly vary.
FancyPCA (Krizhevsky et al. 2012, section 4.1) moves the colors of an image along these axes, at random and in
proportion to their variance, so that the image looks as if it were lit differently.

Prints the axes, and how far FancyPCA moves colors along them. Writes axes.png (one photo moved along each axis) and
jitter.png (random draws) to runs/fancy_pca/. Takes a few seconds.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow is quiet about the GPU it does not find

import numpy as np

from recipes import augment, data, plot, preprocess

DRAWS = 2000


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="a folder of images or a name; default: three photos of scikit-image")
    parser.add_argument("--image-size", type=int, help="side in pixels, for images of several sizes")
    parser.add_argument(
        "--sigma", type=float, default=1.5, help="strength of FancyPCA; the paper's 0.1 is hardly visible"
    )
    parser.add_argument("--quick", action="store_true", help="fewer draws")
    parser.add_argument("--out", type=Path, default=Path("runs/fancy_pca"))
    arguments = parser.parse_args()
    print("This takes some 10 seconds on two cores.")
    arguments.out.mkdir(parents=True, exist_ok=True)

    images = load_images(arguments.data, arguments.image_size)
    statistics = preprocess.ImageStatistics.fit(images)
    share = statistics.color_eigenvalues / statistics.color_eigenvalues.sum()
    print(f"{statistics.count} images, mean color {np.round(statistics.channel_mean).astype(int)} of 0..255")
    print("color axis (red, green, blue)    standard deviation    share of the variance")
    for axis, value, part in zip(
        statistics.color_eigenvectors.T, statistics.color_eigenvalues, share, strict=True
    ):
        print(f"  {np.array2string(axis, precision=2, floatmode='fixed'):28}{value**0.5:17.1f}{part:23.1%}")

    photo = images[0].astype(float)
    rows, titles = [], []
    for number, (axis, value) in enumerate(
        zip(statistics.color_eigenvectors.T, statistics.color_eigenvalues, strict=True), 1
    ):
        for steps in (-2, -1, 0, 1, 2):
            rows.append(np.clip(photo + steps * value**0.5 * axis, 0, 255).astype("uint8"))
            titles.append(f"axis {number}, {steps:+d} std" if steps else "the photo")
    figure = plot.grid(
        np.stack(rows), titles=titles, columns=5, size=2, title="One photo along each color axis"
    )
    figure.savefig(arguments.out / "axes.png", dpi=90)

    jitter = augment.Pipeline([augment.FancyPCA(statistics, arguments.sigma)], value_range=(0, 255))
    shown = np.concatenate([np.repeat(image[None], 6, axis=0) for image in images[:3]])
    jittered = np.array(jitter(shown, np.zeros(len(shown), int), seed=(0, 0))[0])
    jittered[::6] = images[:3]
    titles = [f"draw {i % 6}" if i % 6 else "original" for i in range(len(shown))]
    figure = plot.grid(
        jittered.astype("uint8"), titles=titles, columns=6, size=2, title=f"FancyPCA, sigma {arguments.sigma}"
    )
    figure.savefig(arguments.out / "jitter.png", dpi=90)

    # Gray stays away from black and white, where the pipeline clips.
    draws = DRAWS // 10 if arguments.quick else DRAWS
    gray = np.full((draws, 1, 1, 3), 128, "uint8")
    added = np.array(jitter(gray, np.zeros(draws, int), seed=(0, 1))[0])[:, 0, 0] - 128
    moved = (added @ statistics.color_eigenvectors).std(axis=0)
    print(
        f"{draws} draws move a gray pixel along the axes by {np.round(moved, 1)} gray levels (standard deviation)"
    )
    print(
        f"Look at {arguments.out}: axes.png shows each axis alone, jitter.png shows images as training sees them."
    )


def load_images(name, size):
    """An array `(n, height, width, 3)`, uint8; at most 500 images of a named data set or folder."""
    if name:
        train, _, info = data.load(name, image_size=size)
        if info.image_shape[2] != 3:
            raise SystemExit(
                f"FancyPCA is about color. {name} has {info.image_shape[2]} channel; give photos."
            )
        return np.stack([image for image, _ in train.take(500).as_numpy_iterator()])
    from skimage import data as photos

    cut = [photo[:300, 60:360] for photo in (photos.chelsea(), photos.coffee(), photos.astronaut())]
    return np.stack(cut)[:, ::2, ::2]


if __name__ == "__main__":
    main()
