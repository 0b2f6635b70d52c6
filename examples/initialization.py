"""See what an initializer does to the activations of a ten-layer network, before any training.

    python examples/initialization.py            # a few seconds

Runs 1000 MNIST digits through untrained networks of ten layers of 500 units, with tanh and with ReLU. Writes
runs/initialization/tanh.png and relu.png, with one row per initializer and one histogram per layer. If the initial
weights are too small, the activations vanish; if they are too large, tanh saturates and ReLU explodes. Xavier
initialization keeps the size of the activations under tanh, He initialization under ReLU, and LSUV, which looks at the
data, under both.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow is quiet about the GPU it does not find

import keras
import numpy as np

from recipes import data, initialize, models, plot


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="mnist5k", help="a name recipes.data.load knows, or a folder")
    parser.add_argument("--depth", type=int, default=10, help="hidden layers")
    parser.add_argument("--units", type=int, default=500, help="units of each hidden layer")
    parser.add_argument("--quick", action="store_true", help="200 images and 100 units")
    parser.add_argument("--out", type=Path, default=Path("runs/initialization"))
    arguments = parser.parse_args()
    print("This takes some 10 seconds on two cores.")
    arguments.out.mkdir(parents=True, exist_ok=True)

    train, _, info = data.load(arguments.data)
    count, units = (200, 100) if arguments.quick else (1000, arguments.units)
    images = next(iter(train.batch(count)))[0].numpy()

    keras.utils.set_random_seed(0)
    for activation in ("tanh", "relu"):

        def build(initializer, activation=activation):
            return models.mlp(
                info.image_shape,
                len(info.class_names),
                hidden=(units,) * arguments.depth,
                activation=activation,
                initializer=initializer,
            )

        comparison = initialize.compare(build, initialize.COMMON_SCHEMES, images)
        print(f"\n{activation}: standard deviation of the activations, first to last layer")
        for title, layers in comparison.items():
            stds = np.array([layer.std for layer in layers])
            print(f"  {title:10}", " ".join(f"{std:8.2g}" for std in stds))
        figure = plot.activation_histograms(
            comparison, title=f"{activation}: activations of an untrained network"
        )
        figure.savefig(arguments.out / f"{activation}.png", dpi=110)
    print(
        f"\nLook at {arguments.out}: find the rows of tanh.png and relu.png whose histograms keep their width."
    )


if __name__ == "__main__":
    main()
