"""Train a ResNet on real images, then see how the training went and what the network looks at.

    python examples/quickstart.py                       # 5000 MNIST digits, about a minute on two cores
    python examples/quickstart.py --data my_photos      # a folder with one sub-folder of images per class

Writes model.keras, best.keras, history.csv, curves.png and grad_cam.png to runs/quickstart/. The last is a grid of
correct predictions (first row) and wrong ones (second row) with the evidence for the predicted class.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow is quiet about the GPU it does not find

import keras
import numpy as np

import recipes
from recipes import data, explain, models, plot


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="mnist5k", help="a name recipes.data.load knows, or a folder")
    parser.add_argument(
        "--image-size", type=int, help="side in pixels, for folders with images of several sizes"
    )
    parser.add_argument("--epochs", type=int, default=12, help="passes over the training images")
    parser.add_argument("--depth", type=int, default=8, help="layers of the ResNet: 8, 14, 20, 32, ...")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, image order and augmentation")
    parser.add_argument("--quick", action="store_true", help="one epoch on a small part of the data")
    parser.add_argument("--out", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run in --out")
    arguments = parser.parse_args()
    print(f"This takes {'some 15 seconds' if arguments.quick else 'a minute'} on two cores.")

    size = arguments.image_size and (arguments.image_size, arguments.image_size)
    train, validation, info = data.load(arguments.data, image_size=size, seed=arguments.seed)
    epochs = arguments.epochs
    if arguments.quick:
        train, validation, epochs = train.take(512), validation.take(128), 1

    keras.utils.set_random_seed(arguments.seed)
    model = models.resnet(info.image_shape, len(info.class_names), depth=arguments.depth)
    run = recipes.train(
        model,
        train,
        validation,
        epochs=epochs,
        batch_size=64,
        learning_rate=0.1,  # higher than "auto", which suits larger data sets
        info=info,
        run_dir=arguments.out,
        resume=arguments.resume,
        seed=arguments.seed,
    )

    images, labels = next(iter(validation.batch(1000)))
    images, labels = images.numpy(), labels.numpy()
    probabilities = run.model.predict(images, batch_size=256, verbose=0)
    predicted = probabilities.argmax(axis=-1)
    right, wrong = np.flatnonzero(predicted == labels)[:8], np.flatnonzero(predicted != labels)[:8]
    shown = np.concatenate([right, wrong])
    maps, layer = explain.grad_cam(run.model, images[shown], return_layer=True)
    titles = [
        f"{info.class_names[predicted[i]]} {probabilities[i].max():.0%}"
        + ("" if predicted[i] == labels[i] else f", is {info.class_names[labels[i]]}")
        for i in shown
    ]
    colors = ["tab:green" if predicted[i] == labels[i] else "tab:red" for i in shown]
    figure = plot.grid(images[shown], maps=maps, titles=titles, title_colors=colors, columns=8)
    figure.savefig(arguments.out / "grad_cam.png", dpi=100)
    print(f"grad_cam.png shows Grad-CAM at layer {layer}")

    print(f"validation accuracy {run.history['val_accuracy'][-1]:.2%} after {epochs} epochs")
    print(f"written to {arguments.out}: {', '.join(sorted(path.name for path in arguments.out.iterdir()))}")
    print(
        f"Look at {arguments.out}: curves.png shows the training, grad_cam.png the evidence for the answers."
    )


if __name__ == "__main__":
    main()
