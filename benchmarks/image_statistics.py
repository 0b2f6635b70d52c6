"""What ImageStatistics.fit costs, compared with one pass of the same dataset through `map(cast)`.

    python benchmarks/image_statistics.py

The two take turns, and medians of the CPU time of all threads are compared. Keras' own Normalization.adapt, which finds
only the mean and variance of each channel, is measured too. Takes a minute or two on two cores.
"""

import argparse
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tables import heading, row

from recipes import data, preprocess


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each; the median counts")
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    heading("dataset", "cast, images/ms", "fit, images/ms", "fit / cast", "Keras / cast")
    for count, side, batch in ((16384, 32, 128), (512, 224, 32)):
        images = random.integers(0, 256, (count, side, side, 3)).astype("uint8")
        singly = tf.data.Dataset.from_tensor_slices(images)
        batched = singly.batch(batch)
        held = batched.cache()
        for _ in held:
            pass
        name = f"{count} uint8 of {side} x {side}"
        compare(f"{name}, one by one", singly, count, arguments.rounds)
        compare(f"{name}, batches of {batch}", batched, count, arguments.rounds)
        compare(f"{name}, ready batches in memory", held, count, arguments.rounds)

    with tempfile.TemporaryDirectory() as folder:
        photos = keras.ops.image.resize(
            random.integers(0, 256, (200, 28, 28, 3)).astype("float32"), (224, 224)
        )
        for i, photo in enumerate(np.array(photos).astype("uint8")):
            Path(folder, f"class{i % 2}").mkdir(exist_ok=True)
            Path(folder, f"class{i % 2}", f"{i}.jpg").write_bytes(tf.io.encode_jpeg(photo).numpy())
        dataset = data.load(folder, validation=0)[0].map(lambda image, label: image)
        compare("200 JPEG files of 224 x 224, batches of 32", dataset.batch(32), 200, arguments.rounds)


def compare(name, dataset, count, rounds):
    cast_dataset = dataset.map(lambda image: tf.cast(image, tf.float32), num_parallel_calls=tf.data.AUTOTUNE)
    layer = keras.layers.Normalization(axis=-1)
    batched = cast_dataset if cast_dataset.element_spec.shape.rank == 4 else cast_dataset.batch(256)
    runs = {
        "cast": lambda: [None for _ in cast_dataset],
        "fit": lambda: preprocess.ImageStatistics.fit(dataset),
        "keras": lambda: layer.adapt(batched),
    }
    seconds = {key: [] for key in runs}
    for measurement in range(rounds + 1):
        for key, run in runs.items():
            start = time.process_time()
            run()
            if measurement:  # the first one warms up
                seconds[key].append(time.process_time() - start)
    cast, fit, peer = (np.median(seconds[key]) for key in runs)
    rates = f"{count / cast / 1000:.1f}", f"{count / fit / 1000:.1f}"
    row(name, *rates, f"{fit / cast:.2f}", f"{peer / cast:.2f}")


if __name__ == "__main__":
    main()
