"""CPU time of decoding and resizing a photo, compared with Pillow, OpenCV and Keras, and how much the pixels differ.

    python benchmarks/reading.py                  # about four minutes on one core
    python benchmarks/reading.py --folder photos  # JPEG files of your own

Without a folder, six photos of scikit-image and scikit-learn are written as JPEG files of quality 90: with 500 x 375
pixels, and with 12 megapixels (tiled from the photo and its mirror images, so that the texture stays as fine as it
was). Every reader turns the largest central square into 224 x 224 pixels. Times are CPU milliseconds per photo on one
core, the best of several interleaved rounds; distances are root mean squares in gray levels (0 to 255).

Pillow reads all pixels, or uses `draft` to read at the DCT scale that covers 224, then resizes (bilinear, antialiased).
OpenCV reads at that scale (`IMREAD_REDUCED_COLOR_n`) and resizes by area. Keras' `image_dataset_from_directory` crops
and resizes without antialiasing. `data.load` decodes each photo when it is needed (`cache=None`), or reads what it
keeps in memory. TensorFlow's `decode_jpeg` alone, at the scale that covers 224, is a lower bound for every reader built
on it. Random crops have 8 to 100 % of the area: `data.load(random_crops=)` on the files, and Pillow, which decodes the
whole photo, crops and resizes.

The last table is an epoch of 1,000 photos of 500 x 375 through `augment.standard`, compared with the same augmentation
of an array in memory, and with only the cast to float32.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from skimage import data as photos
from sklearn.datasets import load_sample_images
from tables import heading, row

from recipes import augment, data

SIDE = 224


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="JPEG files to read in place of scikit-image's")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    cv2.setNumThreads(1)
    heading(
        "photos",
        "reader",
        "CPU ms per photo",
        "of Pillow whole",
        "of Pillow draft",
        "RMS to whole",
        "RMS to draft",
    )
    with tempfile.TemporaryDirectory() as folder:
        for title, files in photo_sets(Path(folder), arguments.folder):
            measure(title, files, Path(folder) / title, arguments.rounds)
        epochs_of_a_thousand(Path(folder) / title, arguments.rounds)


def photo_sets(folder, given):
    """`(title, JPEG files)` of each set."""
    if given is not None:
        yield (
            given.name,
            sorted(file for file in given.rglob("*") if file.suffix.lower() in (".jpg", ".jpeg")),
        )
        return
    sources = [
        photos.astronaut(),
        photos.coffee(),
        photos.chelsea(),
        photos.rocket(),
        *load_sample_images().images,
    ]
    for title, make in (("12 megapixels", large), ("500 x 375", small)):
        files = []
        for number, pixels in enumerate(sources):
            files.append(folder / f"{title} {number}.jpg")
            make(Image.fromarray(pixels)).save(files[-1], quality=90)
        yield title, files


def small(image):
    return image.resize((500, 375), Image.Resampling.LANCZOS)


def large(image):
    pixels = np.asarray(image)
    pixels = np.concatenate([pixels, pixels[:, ::-1]], 1)
    pixels = np.concatenate([pixels, pixels[::-1]])
    times = [-(-side // length) for side, length in zip((3000, 4000), pixels.shape, strict=False)]
    return Image.fromarray(np.tile(pixels, (*times, 1))[:3000, :4000])


def measure(title, files, folder, rounds):
    count = max(len(files), 600 if "mega" not in title else 36)
    for number in range(count):  # two classes, for readers that need a folder per class
        link = folder / "ab"[number % 2] / f"{number:03d}.jpg"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(files[number % len(files)].absolute())
    linked = sorted(folder.rglob("*.jpg"))
    streamed = data.load(folder, SIDE, 0, cache=None, verbose=0)[0]
    cropped = data.load(folder, SIDE, 0, random_crops=(0.08, 1), verbose=0)[0]
    contents = [(file.read_bytes(), dct_scale(file)) for file in files]
    random = np.random.default_rng(0)
    kept = data.load(folder, SIDE, 0, cache="memory", verbose=0)[0]
    keras_set = keras.utils.image_dataset_from_directory(
        folder, image_size=(SIDE, SIDE), crop_to_aspect_ratio=True, batch_size=None, shuffle=False, verbose=0
    )
    readers = {
        "Pillow, whole": lambda: [with_pillow(file) for file in linked],
        "Pillow, draft": lambda: [with_pillow(file, draft=True) for file in linked],
        "OpenCV, reduced": lambda: [with_opencv(file) for file in linked],
        "image_dataset_from_directory": lambda: list(keras_set),
        "data.read_image": lambda: [data.read_image(file, SIDE) for file in linked],
        "data.load, streamed": lambda: list(streamed),
        "data.load, in memory": lambda: list(kept),
        "decode_jpeg alone": lambda: [
            tf.raw_ops.DecodeJpeg(contents=contents[n % len(files)][0], ratio=contents[n % len(files)][1])
            for n in range(len(linked))
        ],
        "Pillow, random crops": lambda: [random_crop_with_pillow(file, random) for file in linked],
        "data.load, random_crops": lambda: list(cropped),
    }
    times = dict.fromkeys(readers, float("inf"))
    for _ in range(rounds):
        for name, read in readers.items():
            start = time.process_time()
            read()
            times[name] = min(times[name], (time.process_time() - start) / len(linked))
    whole, draft = ([with_pillow(file, draft=drafted) for file in files] for drafted in (False, True))
    pixels = {
        "Pillow, draft": draft,
        "OpenCV, reduced": [with_opencv(file) for file in files],
        "data.read_image": [data.read_image(file, SIDE) for file in files],
    }
    for name, seconds in times.items():
        distances = [f"{rms(pixels[name], other):.2f}" if name in pixels else "" for other in (whole, draft)]
        shares = [f"{seconds / times[other]:.2f}" for other in ("Pillow, whole", "Pillow, draft")]
        row(title, name, f"{seconds * 1000:.2f}", *shares, *distances)


def with_pillow(file, draft=False):
    with Image.open(file) as image:
        if draft:
            image.draft("RGB", (SIDE, SIDE))
        full = Image.open(file).size
        image = image.convert("RGB")
    # The central square of data.load, which begins (width - height) // 2 full-size pixels from the left, at this scale.
    scale = [whole / now for whole, now in zip(full, image.size, strict=True)]
    side = min(full)
    left, top = (full[0] - side) // 2, (full[1] - side) // 2
    box = (left / scale[0], top / scale[1], (left + side) / scale[0], (top + side) / scale[1])
    if box == tuple(map(round, box)):
        return np.asarray(image.crop(box).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box))


def random_crop_with_pillow(file, random):
    with Image.open(file) as image:
        image = image.convert("RGB")
    area, ratio = (
        random.uniform(0.08, 1) * image.width * image.height,
        np.exp(random.uniform(*np.log((3 / 4, 4 / 3)))),
    )
    width = min(image.width, max(1, round(np.sqrt(area * ratio))))
    height = min(image.height, max(1, round(np.sqrt(area / ratio))))
    left, top = random.integers(image.width - width + 1), random.integers(image.height - height + 1)
    box = (left, top, left + width, top + height)
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box))


def dct_scale(file):
    with Image.open(file) as image:
        return next(n for n in (8, 4, 2, 1) if n == 1 or min(image.size) // n >= SIDE)


def epochs_of_a_thousand(folder, rounds):
    """CPU time of an epoch with augmentation, for cached photos and for photos that are decoded again."""
    linked = sorted(folder.rglob("*.jpg"))
    for number in range(len(linked), 1000):
        (folder / "ab"[number % 2] / f"{number:03d}.jpg").symlink_to(linked[number % len(linked)].resolve())
    start = time.process_time()
    kept, _, info = data.load(folder, SIDE, 0, cache="memory", verbose=0)
    loading = (time.process_time() - start) / 1000
    packed = data.load(folder, SIDE, 0, cache=folder / "photos.packed", verbose=0)[0]
    streamed = data.load(folder, SIDE, 0, cache=None, verbose=0)[0]
    pixels = np.stack([image for image, _ in kept.as_numpy_iterator()])
    pipeline = augment.standard(info.image_shape, seed=0)
    keras_set = keras.utils.image_dataset_from_directory(
        folder, image_size=(SIDE, SIDE), crop_to_aspect_ratio=True, batch_size=32, shuffle=False, verbose=0
    )
    array = tf.data.Dataset.from_tensor_slices((pixels, np.zeros(len(pixels), "int64"))).batch(32)
    sets = {
        "an array in memory, cast": array.map(lambda images, labels: (tf.cast(images, tf.float32), labels)),
        "an array in memory": pipeline.apply(array),
        "data.load, second epoch, in memory": pipeline.apply(kept.batch(32)),
        "data.load, second epoch, packed file": pipeline.apply(packed.batch(32)),
        "data.load, streamed": pipeline.apply(streamed.batch(32)),
        "image_dataset_from_directory": pipeline.apply(keras_set.map(lambda x, y: (tf.cast(x, tf.uint8), y))),
    }
    times = dict.fromkeys(sets, float("inf"))
    for _ in range(rounds + 1):  # the first compiles
        for name, batches in sets.items():
            start = time.process_time()
            for _ in batches:
                pass
            times[name] = min(times[name], (time.process_time() - start) / 1000)
    title = "An epoch of 1,000 photos through augment.standard"
    heading("images come from", "CPU ms per photo", "of the array", title=title)
    row("data.load alone, which decodes them", f"{loading * 1000:.2f}", "")
    for name, seconds in times.items():
        row(name, f"{seconds * 1000:.2f}", f"{seconds / times['an array in memory']:.2f}")


def with_opencv(file):
    scale = dct_scale(file)
    flag = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
    pixels = cv2.imread(str(file), flag.get(scale, cv2.IMREAD_REDUCED_COLOR_8))
    side = min(pixels.shape[:2])
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    part = np.ascontiguousarray(pixels[top : top + side, left : left + side, ::-1])
    return cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def rms(images, others):
    return np.sqrt(np.mean([(np.asarray(a, float) - b) ** 2 for a, b in zip(images, others, strict=True)]))


if __name__ == "__main__":
    main()
