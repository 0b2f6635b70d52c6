"""Train on photos, classify new ones, see the evidence for each answer, and read the report.

    python examples/photos.py                       # crops of scikit-image's photos, about a minute on two cores
    python examples/photos.py --data my_photos      # a folder with one sub-folder of photos per class

The network is EfficientNet-Lite0 with ImageNet weights and a new head, for which 200 photos are enough. Writes the run
to runs/photos/ with model.keras, report.html and answers.png. The last shows the least certain answers about photos
that were not trained on, with the evidence for them (Grad-CAM). The shell command for such a training is
`recipes train my_photos --image-size 96`.
"""

import argparse
import os
import tempfile
from pathlib import Path

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
    parser.add_argument("--epochs", type=int, default=6, help="passes over the photos")
    parser.add_argument("--quick", action="store_true", help="few photos of 32 pixels, two epochs, no checks")
    parser.add_argument("--out", type=Path, default=Path("runs/photos"))
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run in --out")
    arguments = parser.parse_args()
    print(f"This takes {'half a minute' if arguments.quick else 'a minute'} on two cores.")
    size, epochs, count = (32, 2, 10) if arguments.quick else (arguments.image_size, arguments.epochs, 50)

    with tempfile.TemporaryDirectory() as folder:
        source = arguments.data or crops(Path(folder), count)
        train, validation, info = data.load(source, image_size=size, cache="memory")
        classes = len(info.class_names)
        keras.utils.set_random_seed(0)
        backbone = models.efficientnet_lite0(include_top=False, input_shape=(size, size, 3))
        run = recipes.train(
            models.transfer(backbone, classes),
            train,
            validation,
            epochs=epochs,
            batch_size=16,
            info=info,
            preflight=not arguments.quick,
            monitor=not arguments.quick,
            run_dir=arguments.out,
            resume=arguments.resume,
        )
        photos, labels = map(np.stack, zip(*validation.take(200).as_numpy_iterator(), strict=True))
        run.report(arguments.out / "report.html", title="My photos")

    answers = run.model.predict(photos, verbose=0)
    unsure = np.argsort(answers.max(-1))[:8]
    right = answers[unsure].argmax(-1) == labels[unsure]
    titles = [
        f"{info.class_names[row.argmax()]}, {row.max():.0%}"
        + ("" if good else f"; is {info.class_names[truth]}")
        for row, good, truth in zip(answers[unsure], right, labels[unsure], strict=True)
    ]
    colors = ["tab:green" if good else "tab:red" for good in right]
    maps = explain.grad_cam(run.model, photos[unsure])
    figure = plot.grid(photos[unsure], maps=maps, titles=titles, title_colors=colors, columns=4, size=2)
    figure.savefig(arguments.out / "answers.png", dpi=80)
    print(f"validation accuracy {run.history['val_accuracy'][-1]:.1%}")
    print(
        f"Look at {arguments.out}: report.html says how good it is, answers.png shows the evidence for its answers."
    )


def crops(folder, count):
    """Random crops of four photos, with one folder per class."""
    random = np.random.default_rng(0)
    for name in NAMED:
        photo = getattr(skimage.data, name)()
        side = min(photo.shape[:2]) // 2
        (folder / name).mkdir()
        for number in range(count):
            top, left = (random.integers(0, length - side) for length in photo.shape[:2])
            Image.fromarray(photo[top : top + side, left : left + side]).save(folder / name / f"{number}.jpg")
    return folder


if __name__ == "__main__":
    main()
