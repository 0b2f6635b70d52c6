"""Memory and time of training from folders of 1,000, 10,000 and 100,000 images.

    python benchmarks/streaming.py                  # about fifteen minutes on two cores
    python benchmarks/streaming.py --files 100000 --cache packed

Makes folders of JPEG files in a temporary folder: two classes, 96 x 96 pixels, cut out of photos. Only 1,000 files are
different; the others are hard links to these, so that little disk space is needed. For each folder, a new process calls
`data.load`, which decodes every file once to check it, then makes one pass: through an `augment.Pipeline`, or as an
epoch of `recipes.train` with its checks, monitors and shuffle. This is done with `cache=None`, where every image is
decoded when it is needed, and with a packed file of all images, which is mapped into memory. Memory is the private
memory of the process, RssAnon in Linux. It does not count the pages of a mapped file that were read, because the system
takes them back when it needs them. Peaks are the largest of fifty measurements per second. The first row is a process
that has imported TensorFlow and this library, and loaded nothing.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tables import heading, row

SIDE, DISTINCT, BATCH = 96, 1_000, 128


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--cache", choices=("none", "packed"), nargs="+", default=["none", "packed"])
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--measure", nargs=3, metavar=("WHAT", "FOLDER", "CACHE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(*measure(*arguments.measure))
        return
    heading(
        "images",
        "cache",
        "after load, MB",
        "peak of a pass, MB",
        "peak of train, MB",
        "load, s",
        "pass, s",
        "train, s",
    )
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        make_photos(photos, arguments.side)
        memory, *_ = in_fresh_process("nothing", photos, "none")
        row("none", "", memory, "", "", "", "", "")
        for count in arguments.files:
            images = Path(folder) / str(count)
            make_folder(images, photos, count)
            for cache in arguments.cache:
                loaded, peak, load_seconds, pass_seconds = in_fresh_process("pass", images, cache)
                _, train_peak, _, train_seconds = in_fresh_process("train", images, cache)
                row(f"{count:,}", cache, loaded, peak, train_peak, load_seconds, pass_seconds, train_seconds)


def make_photos(folder, side):
    """Cut `DISTINCT` JPEG files out of two photos."""
    import numpy as np
    import tensorflow as tf
    from sklearn.datasets import load_sample_images

    folder.mkdir()
    random, photos = np.random.default_rng(0), load_sample_images().images
    for number in range(DISTINCT):
        photo = photos[number % 2]
        y, x = random.integers(0, np.array(photo.shape[:2]) - side)
        image = tf.io.encode_jpeg(photo[y : y + side, x : x + side], quality=85)
        (folder / f"{number}.jpg").write_bytes(image.numpy())


def make_folder(folder, photos, count):
    for name in ("china", "flower"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        name = ("china", "flower")[number % 2]
        os.link(photos / f"{number % DISTINCT}.jpg", folder / name / f"photo_{number:08d}.jpg")


def in_fresh_process(what, folder, cache):
    command = [sys.executable, __file__, "--measure", what, str(folder), cache]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return output.splitlines()[-1].split()


def measure(what, folder, cache):
    """Memory after `data.load` and at its peak, in MB; seconds of `data.load` and of the pass after it."""
    import keras
    import tensorflow as tf

    import recipes
    from recipes import augment, data

    tf.constant(0.0)  # starts TensorFlow's threads
    if what == "nothing":
        return memory(), memory(), 0, 0
    start = time.perf_counter()
    kept = f"{folder}.packed" if cache == "packed" else None
    train, validation, info = data.load(folder, cache=kept, verbose=0)
    load_seconds, loaded = time.perf_counter() - start, memory()
    peak = watched_memory()

    start = time.perf_counter()
    if what == "pass":
        pipeline = augment.standard(info.image_shape, kind=info.kind, strength="light", seed=0)
        total = 0.0
        for images, _ in pipeline.apply(train.batch(BATCH)).prefetch(2):
            total += float(tf.reduce_mean(images))
    else:
        model = keras.Sequential(
            [
                keras.Input(info.image_shape),
                keras.layers.Rescaling(1 / 128, offset=-1),
                keras.layers.Conv2D(8, 7, strides=4, activation="relu"),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(len(info.class_names), "softmax"),
            ]
        )
        recipes.train(model, train, validation, epochs=1, batch_size=BATCH, info=info, verbose=0)
    seconds = time.perf_counter() - start
    return loaded, max(peak), f"{load_seconds:.1f}", f"{seconds:.1f}"


def memory():
    """The private memory of this process, in whole MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return round(int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024)


def watched_memory():
    """A list to which the memory of this process is appended fifty times per second."""
    seen = [memory()]

    def watch():
        while True:
            time.sleep(0.02)
            seen.append(memory())

    threading.Thread(target=watch, daemon=True).start()
    return seen


if __name__ == "__main__":
    main()
