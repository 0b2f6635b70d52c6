"""Make a trained network faster for inference by folding its batch normalizations into its convolutions.

    python examples/fold_batch_norm.py           # ImageNet's EfficientNet-Lite0, about half a minute

Folds a network, shows that it predicts the same on real photos, and times both networks in turn. The time is that of a
compiled call on a batch. The gain depends on the machine (`benchmarks/fold.py` measures more networks).
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow is quiet about the GPU it does not find

import keras
import numpy as np
import tensorflow as tf
from skimage import data

from recipes import explain, models, plot


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=16, help="images per call")
    parser.add_argument("--quick", action="store_true", help="four images per call, three calls")
    parser.add_argument("--out", type=Path, default=Path("runs/fold_batch_norm"))
    arguments = parser.parse_args()
    print(f"This takes {'some 15 seconds' if arguments.quick else 'half a minute'} on two cores.")
    arguments.out.mkdir(parents=True, exist_ok=True)
    batch, rounds = (4, 3) if arguments.quick else (arguments.batch, 15)

    photos = [data.chelsea(), data.coffee(), data.astronaut(), data.rocket()]
    squares = [np.asarray(keras.ops.image.resize(photo.astype("float32"), (224, 224))) for photo in photos]
    images = tf.constant(np.stack([squares[i % len(squares)] for i in range(batch)]))

    model = models.efficientnet_lite0()
    folded = models.fold_batch_norm(model)
    print(f"layers: {len(model.layers)} before, {len(folded.layers)} after")

    networks = {"as trained": tf.function(model), "folded": tf.function(folded)}
    outputs = {name: network(images, training=False).numpy() for name, network in networks.items()}
    difference = np.abs(outputs["folded"] - outputs["as trained"]).max()
    print(f"largest difference of a probability: {difference:.1e}")

    seconds = {name: [] for name in networks}
    for _ in range(rounds):
        for name, network in networks.items():
            start = time.perf_counter()
            network(images, training=False).numpy()
            seconds[name].append(time.perf_counter() - start)
    for name, times in seconds.items():
        print(f"{name:10} {1000 * np.median(times) / batch:6.1f} ms per image")

    folded.save(arguments.out / "folded.keras")
    shown = np.stack(squares[:2]).astype("uint8")
    maps = [*explain.grad_cam(model, shown), *explain.grad_cam(folded, shown)]
    titles = ["as trained", "as trained", "folded", "folded"]
    figure = plot.grid(np.concatenate([shown, shown]), maps=maps, titles=titles, columns=4)
    figure.savefig(arguments.out / "same_evidence.png", dpi=80)
    print(
        f"Look at {arguments.out}: folded.keras is the faster model; same_evidence.png shows that both have equal maps."
    )


if __name__ == "__main__":
    main()
