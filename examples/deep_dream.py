"""Let a network dream on a photo: amplify what one of its layers sees.

    python examples/deep_dream.py                        # scikit-image's cat Chelsea, a minute on two cores
    python examples/deep_dream.py my_photo.jpg --layer stage4_block2_expand_norm

Writes runs/deep_dream/dream.png (the photo and its dream) and classes.png (images that EfficientNet-Lite0 assigns to a
few classes with high confidence). Prints by how much the activation of the layer rose.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow is quiet about the GPU it does not find

import keras
import numpy as np

from recipes import explain, models, plot

CLASSES = {"flamingo": 130, "golden retriever": 207, "lemon": 951}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photo", nargs="?", help="an image file (default: scikit-image's cat)")
    parser.add_argument(
        "--layer",
        default="stage5_block2_expand_norm",
        help="early layers give strokes, late layers give objects",
    )
    parser.add_argument("--steps", type=int, default=12, help="steps of gradient ascent per octave")
    parser.add_argument(
        "--octaves", type=int, default=4, help="number of sizes, each 1.4 times the one before"
    )
    parser.add_argument("--longest", type=int, default=420, help="longest side of the dream in pixels")
    parser.add_argument("--quick", action="store_true", help="two octaves of two steps, no class images")
    parser.add_argument("--out", type=Path, default=Path("runs/deep_dream"))
    arguments = parser.parse_args()
    print(f"This takes {'some 15 seconds' if arguments.quick else 'a minute'} on two cores.")
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.quick:
        arguments.steps, arguments.octaves, arguments.longest = 2, 2, 160

    photo = read(arguments.photo, arguments.longest)
    # Convolutions take images of any size, so the classifier is left out.
    backbone = models.efficientnet_lite0(include_top=False, input_shape=(None, None, 3))
    dream, scores = explain.deep_dream(
        backbone, photo, arguments.layer, steps=arguments.steps, octaves=arguments.octaves, return_scores=True
    )
    print(f"{arguments.layer}: mean square {scores[0, 0]:.2f} at the start, {scores[-1, 0]:.2f} at the end")
    plot.grid([photo, dream], columns=2, size=4).savefig(arguments.out / "dream.png", dpi=100)

    if not arguments.quick:
        model = models.efficientnet_lite0()
        made = explain.class_image(model, list(CLASSES.values()))
        probabilities = model.predict(made, verbose=0)
        titles = [
            f"{name}: {p[number]:.0%}"
            for (name, number), p in zip(CLASSES.items(), probabilities, strict=True)
        ]
        plot.grid(made, titles=titles, columns=3, size=3).savefig(arguments.out / "classes.png", dpi=100)
    print(f"Look at {arguments.out / 'dream.png'}: it shows what the layer sees in the photo, amplified.")


def read(path, longest):
    """A photo as float32 in 0..255, resized so that its longest side has the given length."""
    if path:
        image = keras.utils.img_to_array(keras.utils.load_img(path))
    else:
        import skimage.data

        image = skimage.data.chelsea().astype("float32")
    factor = longest / max(image.shape[:2])
    size = [round(side * factor) for side in image.shape[:2]]
    resized = keras.ops.image.resize(image, size, interpolation="bilinear", antialias=True)
    return np.clip(np.asarray(resized), 0, 255)


if __name__ == "__main__":
    main()
