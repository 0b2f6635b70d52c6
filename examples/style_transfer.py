"""Paint a photo in the style of another picture, and make a texture from the style; nothing is downloaded.

    python examples/style_transfer.py                           # a cat in the style of a flower, about a minute
    python examples/style_transfer.py me.jpg --style painting.jpg --style-weight 30
    python examples/style_transfer.py --fast 4                  # also train a feed-forward network, 4 epochs

The features are those of EfficientNet-Lite0. With `keras.applications.VGG19(include_top=False)` and
`preprocess=keras.applications.vgg19.preprocess_input`, the results are closer to those of the paper. Writes
runs/style_transfer/styles.png (and, with --fast, fast.png and style.keras).
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow is quiet about the GPU it does not find

import keras
import numpy as np

from recipes import explain, models, plot


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("content", nargs="?", help="an image file (default: scikit-image's cat)")
    parser.add_argument("--style", help="an image file (default: scikit-learn's flower)")
    parser.add_argument("--style-weight", type=float, default=30.0)
    parser.add_argument("--steps", type=int, default=200, help="optimization steps per picture")
    parser.add_argument("--shortest", type=int, default=224, help="shorter side in pixels")
    parser.add_argument("--fast", type=int, default=0, metavar="EPOCHS", help="train a FastStyle network")
    parser.add_argument("--quick", action="store_true", help="a few steps on a small picture")
    parser.add_argument("--out", type=Path, default=Path("runs/style_transfer"))
    arguments = parser.parse_args()
    print(f"This takes {'some 15 seconds' if arguments.quick else 'a minute'} on two cores.")
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.quick:
        arguments.steps, arguments.shortest = 3, 64

    import skimage.data
    import sklearn.datasets

    content = read(arguments.content, skimage.data.chelsea(), arguments.shortest)
    flower = read(arguments.style, sklearn.datasets.load_sample_image("flower.jpg"), arguments.shortest)
    temple = read(None, sklearn.datasets.load_sample_image("china.jpg"), arguments.shortest)
    backbone = models.efficientnet_lite0(include_top=False, input_shape=(None, None, 3))
    options = {"style_weight": arguments.style_weight, "steps": arguments.steps}

    painted, scores = explain.transfer_style(backbone, content, flower, return_scores=True, **options)
    print(f"loss {-scores[0, 0]:.2f} at the start, {-scores[-1, 0]:.2f} after {arguments.steps} steps")
    pictures = {"content": content, "style": flower, "painted": painted}
    if not arguments.quick:
        pictures["its own colors"] = explain.transfer_style(
            backbone, content, flower, keep_color=True, **options
        )
        pictures["flower and temple"] = explain.transfer_style(backbone, content, [flower, temple], **options)
        pictures["texture of the style"] = explain.texture(backbone, flower, steps=arguments.steps)
    figure = plot.grid(list(pictures.values()), titles=list(pictures), columns=3, size=3)
    figure.savefig(arguments.out / "styles.png", dpi=100)

    if arguments.fast:
        photos = [
            skimage.data.astronaut(),
            skimage.data.coffee(),
            skimage.data.rocket(),
            skimage.data.chelsea(),
        ]
        crops = random_crops([*photos, temple], count=200, side=128)
        fast = explain.FastStyle(backbone, flower, style_weight=arguments.style_weight, filters=16, blocks=3)
        fast.fit(crops, epochs=arguments.fast, batch_size=4)
        fast.network.save(arguments.out / "style.keras")
        height, width = (side // 4 * 4 for side in content.shape[:2])
        plot.grid([content, fast(content[None, :height, :width])[0]], columns=2, size=4).savefig(
            arguments.out / "fast.png", dpi=100
        )
    print(
        f"Look at {arguments.out / 'styles.png'}: it has the shapes of the photo and the strokes of the style."
    )


def read(path, otherwise, shortest):
    """A photo as float32 in 0..255, resized so that its shorter side has the given length."""
    image = keras.utils.img_to_array(keras.utils.load_img(path)) if path else np.asarray(otherwise, "float32")
    factor = shortest / min(image.shape[:2])
    size = [round(side * factor) for side in image.shape[:2]]
    resized = keras.ops.image.resize(image, size, interpolation="bilinear", antialias=True)
    return np.clip(np.asarray(resized), 0, 255)


def random_crops(photos, count, side):
    """`(count, side, side, 3)` float32, from anywhere in the photos."""
    generator, crops = np.random.default_rng(0), []
    for number in range(count):
        photo = photos[number % len(photos)]
        top, left = (generator.integers(length - side + 1) for length in photo.shape[:2])
        crops.append(photo[top : top + side, left : left + side])
    return np.stack(crops).astype("float32")


if __name__ == "__main__":
    main()
