"""What folding batch normalization gains: compiled inference of a network before and after.

    python benchmarks/fold.py                  # about three minutes on two idle cores

The two networks take turns, compiled by `tf.function`, on batches of 1 and 8 images. The script compares medians of the
CPU time of all threads, which other processes on the machine disturb less than wall time. The difference is the largest
difference of a logit, relative to the largest logit.
"""

import argparse
import time
import warnings

import keras
import numpy as np
import tensorflow as tf
from tables import heading, row

from recipes import models

NETWORKS = {
    "ResNet50, 224 px": lambda: keras.applications.ResNet50(weights=None, classifier_activation=None),
    "MobileNetV2, 224 px": lambda: keras.applications.MobileNetV2(weights=None, classifier_activation=None),
    "EfficientNet-Lite0, 224 px": lambda: models.efficientnet_lite0(weights=None, classifier_activation=None),
    "ResNet-20, 32 px": lambda: models.resnet((32, 32, 3), 10, depth=20, classifier_activation=None),
    "WRN-16-2, 32 px": lambda: models.resnet(
        (32, 32, 3), 10, depth=16, width=2, block="preactivation", classifier_activation=None
    ),
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="measurements per network; the median counts")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8], help="images per call")
    arguments = parser.parse_args()
    # Pre-activated networks keep some normalizations, whose cost is part of the measurement.
    warnings.filterwarnings("ignore", message="fold_batch_norm left")
    heading("network", "batch", "before, ms", "folded, ms", "speed-up", "difference")
    for name, build in NETWORKS.items():
        keras.utils.set_random_seed(0)
        model = build()
        folded = models.fold_batch_norm(model)
        for batch in arguments.batches:
            measure(name, model, folded, batch, arguments.rounds)


def measure(name, model, folded, batch, rounds):
    images = tf.constant(np.random.default_rng(0).uniform(0, 255, (batch, *model.input_shape[1:])), "float32")
    calls = [tf.function(lambda net=net: net(images, training=False)) for net in (model, folded)]
    one, other = (call().numpy() for call in calls)
    repeats = max(1, 4 // batch)
    seconds = [[], []]
    for _ in range(rounds):
        for call, times in zip(calls, seconds, strict=True):
            start = time.process_time()
            for _ in range(repeats):
                call().numpy()
            times.append((time.process_time() - start) / repeats / batch)
    before, after = (1000 * np.median(times) for times in seconds)
    difference = np.abs(one - other).max() / np.abs(one).max()
    row(name, batch, f"{before:.2f}", f"{after:.2f}", f"{before / after:.2f}", f"{difference:.0e}")


if __name__ == "__main__":
    main()
