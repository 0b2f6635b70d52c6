"""Why shortcuts help: the loss around a trained ResNet-56, and around the same network without its shortcuts.

    python examples/loss_landscape.py                    # scikit-learn's 8 x 8 digits, some minutes on two cores
    python examples/loss_landscape.py --depth 20         # faster

A small version of Li et al. 2018, figure 1, https://arxiv.org/abs/1712.09913. Writes runs/loss_landscape/line.png and
plane.png. Prints the accuracies, and at which distance from the trained weights the loss has doubled.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow is quiet about the GPU it does not find

import keras
import numpy as np

from recipes import data, explain, models, plot


class WithoutShortcut(keras.layers.Layer):
    """Takes the place of the addition in a residual block, and leaves the shortcut out."""

    def call(self, inputs):
        return inputs[-1]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--depth", type=int, default=56, help="layers of the ResNet: 8, 14, 20, ..., 56")
    parser.add_argument("--epochs", type=int, default=20, help="passes over the digits")
    parser.add_argument("--points", type=int, default=21, help="points per direction, an odd number")
    parser.add_argument("--quick", action="store_true", help="depth 8, one epoch, 3 points")
    parser.add_argument("--out", type=Path, default=Path("runs/loss_landscape"))
    arguments = parser.parse_args()
    print(f"This takes {'some 15 seconds' if arguments.quick else 'some minutes'} on two cores.")
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.quick:
        arguments.depth, arguments.epochs, arguments.points = 8, 1, 3

    train, _, info = data.load("digits", verbose=0)
    images, labels = next(train.batch(10_000).as_numpy_iterator())
    lines, planes = {}, {}
    for name in ("with shortcuts", "without shortcuts"):
        keras.utils.set_random_seed(0)
        model = models.resnet(info.image_shape, len(info.class_names), depth=arguments.depth)
        if name == "without shortcuts":
            model = keras.models.clone_model(model, clone_function=without_shortcut)
        model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(images, labels, batch_size=128, epochs=arguments.epochs, verbose=0)
        some, truth = images[:512], labels[:512]
        line = lines[name] = explain.loss_landscape(model, some, truth, points=arguments.points, verbose=0)
        planes[name] = explain.loss_landscape(
            model, some[:256], truth[:256], dimensions=2, points=max(3, arguments.points // 2 | 1), verbose=1
        )
        middle = arguments.points // 2
        far = np.abs(line.offsets[line.loss > 2 * line.loss[middle] + 0.1])
        print(
            f"ResNet-{arguments.depth} {name}: accuracy {line.accuracy[middle]:.1%}, loss {line.loss[middle]:.3f}, "
            f"twice this loss plus 0.1 at a distance of {far.min() if far.size else np.inf:.2f} filter norms"
        )
    plot.landscape(lines).savefig(arguments.out / "line.png", dpi=100)
    plot.landscape(planes).savefig(arguments.out / "plane.png", dpi=100)
    print(f"Look at {arguments.out}: plane.png shows how far the loss stays low around each network.")


def without_shortcut(layer):
    if isinstance(layer, keras.layers.Add):
        return WithoutShortcut(name=layer.name)
    return layer.__class__.from_config(layer.get_config())


if __name__ == "__main__":
    main()
