"""How fast `recipes.augment` is, compared with Keras layers, tf.image, albumentations, numpy and a bare cast.

    python benchmarks/augment.py                    all tables, about four minutes
    python benchmarks/augment.py --only small       one of: small, small-color, large, operations
    python benchmarks/augment.py --threshold        what compilation costs and gains, by batch size

Every variant is a tf.data pipeline, read through one iterator after a warm-up. The variants take turns, window by
window, so that other load on the machine affects all alike. The cost of a window is the CPU time of this process until
the buffers of its pipeline are full again. The figures are medians over the windows: images per CPU-second, and the
ratio of ours to theirs. For the table of single operations, everything runs in one thread without prefetching, uint8 in
and uint8 out; it shows the best window, in microseconds of CPU per image.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import keras
import numpy as np
import tensorflow as tf
from tables import heading, row

from recipes import augment

MEAN, STD = np.float32([125.3, 123.0, 113.9]), np.float32([63.0, 62.1, 66.7])
EIGENVALUES = np.float32([0.2175, 0.0188, 0.0045])  # for pixels in 0..1
EIGENVECTORS = np.float32(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)
STATISTICS = augment.ColorStatistics(MEAN, STD, EIGENVALUES * 255**2, EIGENVECTORS)
CALLS = 2


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["small", "small-color", "large", "operations"])
    parser.add_argument("--windows", type=int, default=7, help="windows per variant")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a window")
    parser.add_argument("--sides", type=int, nargs="+", default=[32, 224, 512], choices=[32, 224, 512])
    parser.add_argument("--names", nargs="+", help="single operations to measure")
    parser.add_argument("--threshold", action="store_true")
    arguments = parser.parse_args()
    if arguments.threshold:
        return threshold(arguments)
    tables = {
        "small": ("32x32, batch 128: flip, pad 4 and crop, cutout 16, normalize", small),
        "small-color": ("the same with color jitter, PCA color noise and mixup", small_color),
        "large": (
            "256 -> 224, batch 32: resized crop, flip, color jitter, PCA color noise, normalize",
            large,
        ),
    }
    for name, (title, variants) in tables.items():
        if arguments.only in (None, name):
            table(title, *variants(), arguments)
    if arguments.only in (None, "operations"):
        for side in arguments.sides:
            operations(side, arguments)
    return None


def table(title, batch, variants, arguments):
    """Measure the variants in turns and print the results; the first variant is ours."""
    readers = {name: Reader(dataset, batch, arguments.seconds) for name, dataset in variants.items()}
    for _ in range(arguments.windows):
        for reader in readers.values():
            reader.window()
    ours = next(iter(readers.values())).per_cpu_second
    heading("", "images/CPU-s", "ours/this", "first batch, s", title=title)
    for name, reader in readers.items():
        ratio = ours / reader.per_cpu_second
        row(
            name,
            f"{reader.per_cpu_second:,.0f}",
            f"{ratio:.2f}",
            f"{reader.first:.2f}",
        )


class Reader:
    """Reads a dataset in windows of about the same length."""

    def __init__(self, dataset, batch, seconds):
        self.batch, self.windows = batch, []
        start = time.perf_counter()
        self.iterator = iter(dataset)
        next(self.iterator)
        self.first = time.perf_counter() - start
        start = time.perf_counter()
        count = 0
        while time.perf_counter() - start < seconds or count < 3:
            next(self.iterator)
            count += 1
        self.count = count
        settle()

    def window(self):
        cpu = time.process_time()
        for _ in range(self.count):
            next(self.iterator)
        settle()
        self.windows.append(self.count * self.batch / (time.process_time() - cpu))

    @property
    def per_cpu_second(self):
        return np.median(self.windows)


def settle():
    """Wait until the buffers are full again (half a second without work), so that no window pays for another."""
    quiet = 0
    while quiet < 10:
        before = time.process_time()
        time.sleep(0.05)
        quiet = quiet + 1 if time.process_time() - before < 0.002 else 0


def source(batch, side):
    """A dataset of `(images, rows)` batches that costs nothing to read, and its arrays."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (batch, side, side, 3), dtype="uint8")
    rows = np.eye(10, dtype="float32")[random.integers(0, 10, batch)]
    return tf.data.Dataset.from_tensors((images, rows)).repeat(), images, rows


def batched(batches, function):
    return batches.map(function, num_parallel_calls=CALLS, deterministic=True).prefetch(2)


def seeded(batches, function):
    """A pipeline with `function(images, rows, seed)` on whole batches."""
    return batched(tf.data.Dataset.zip(batches, seeds()), lambda element, seed: function(*element, seed))


def one_by_one(images, rows, function):
    """A pipeline with `function(image, row, seed)` on single images, which are batched afterwards."""
    singles = tf.data.Dataset.zip(tf.data.Dataset.from_tensor_slices((images, rows)).repeat(), seeds())
    singles = singles.map(lambda element, seed: function(*element, seed), num_parallel_calls=CALLS)
    return singles.batch(len(images), drop_remainder=True).prefetch(2)


def seeds():
    return tf.data.Dataset.random(seed=1).batch(2, drop_remainder=True)


def pipeline(operations, batches):
    return (
        augment.Pipeline(operations, classes=10, seed=1).apply(batches, num_parallel_calls=CALLS).prefetch(2)
    )


def through_keras(layers):
    def function(images, rows):
        for layer in layers:
            plain = isinstance(layer, keras.layers.Normalization | keras.layers.ZeroPadding2D)
            images = layer(images) if plain else layer(images, training=True)
        return images, rows

    return function


def keras_small(jitter):
    layers = keras.layers
    colors = [
        layers.RandomColorJitter(brightness_factor=0.4, contrast_factor=0.4, saturation_factor=0.4, seed=4)
    ]
    return [
        layers.ZeroPadding2D(4),
        layers.RandomFlip("horizontal", seed=1),
        layers.RandomCrop(32, 32, seed=2),
        *(colors if jitter else []),
        layers.Normalization(mean=MEAN, variance=STD**2),
        layers.RandomErasing(1.0, scale=(0.25, 0.25), fill_value=0.0, seed=3),
    ]


def small():
    batches, images, rows = source(128, 32)
    ours = [augment.Flip(), augment.PadCrop(4), augment.Cutout(16), augment.Normalize(STATISTICS)]
    variants = {
        "recipes.augment": pipeline(ours, batches),
        "cast only": batched(batches, lambda x, y: (tf.cast(x, tf.float32), y)),
        "Keras layers, batched (1 crop a batch)": batched(batches, through_keras(keras_small(False))),
        "tf.image, per image": one_by_one(images, rows, small_tf_image(False)),
        "numpy, vectorized": seeded(batches, small_numpy),
    }
    import_albumentations(
        lambda A, run: variants.update({"albumentations": run(batches, albumentations_small(A), 32)})
    )
    return 128, variants


def small_color():
    batches, images, rows = source(128, 32)
    jitter = augment.ColorJitter(0.4, 0.4, 0.4)
    before = [augment.Flip(), augment.PadCrop(4), jitter]
    after = [augment.Cutout(16), augment.Normalize(STATISTICS)]
    keras_map, keras_mix = through_keras(keras_small(True)), keras.layers.MixUp(alpha=0.2, seed=9)

    def keras_mixed(x, y):
        x, y = keras_map(x, y)
        mixed = keras_mix({"images": x, "labels": y}, training=True)
        return mixed["images"], mixed["labels"]

    variants = {
        "recipes.augment": pipeline(
            [*before, augment.FancyPCA(STATISTICS), *after, augment.MixUp(0.2)], batches
        ),
        "recipes.augment without mixup": pipeline([*before, augment.FancyPCA(STATISTICS), *after], batches),
        "cast only": batched(batches, lambda x, y: (tf.cast(x, tf.float32), y)),
        "Keras layers, batched, without PCA": batched(batches, keras_mixed),
        "tf.image, per image, without PCA and mixup": one_by_one(images, rows, small_tf_image(True)),
    }
    import_albumentations(
        lambda A, run: variants.update(
            {"albumentations, without mixup": run(batches, albumentations_small(A, color=True), 32)}
        )
    )
    return 128, variants


def small_tf_image(jitter):
    def function(x, y, seed):
        x = tf.image.stateless_random_flip_left_right(x, seed)
        x = tf.image.stateless_random_crop(tf.pad(x, [[4, 4], [4, 4], [0, 0]]), [32, 32, 3], seed + 1)
        if jitter:
            x = tf.image.stateless_random_brightness(x, 0.2, seed + 3)
            x = tf.image.stateless_random_contrast(x, 0.6, 1.4, seed + 4)
            x = tf.image.stateless_random_saturation(x, 0.6, 1.4, seed + 5)
        x = (tf.cast(x, tf.float32) - MEAN) / STD
        center = tf.random.stateless_uniform([2], seed + 2, 0, 32, tf.int32)
        steps = tf.range(32)
        rows, columns = (((steps >= middle - 8) & (steps < middle + 8)) for middle in tf.unstack(center))
        return x * tf.cast(~(rows[:, None] & columns[None]), tf.float32)[..., None], y

    return function


def small_numpy(x, y, seed):
    def function(images, seed):
        random = np.random.default_rng(int(seed[0]))
        count = len(images)
        padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (32, 32), axis=(1, 2))
        moved = windows[np.arange(count), random.integers(0, 9, count), random.integers(0, 9, count)]
        moved = moved.transpose(0, 2, 3, 1).copy()
        flipped = random.random(count) < 0.5
        moved[flipped] = moved[flipped][:, :, ::-1]
        result = (moved.astype("float32").reshape(count, 32, 96) - np.tile(MEAN, 32)) * np.tile(1 / STD, 32)
        result = result.reshape(count, 32, 32, 3)
        for one, (line, column) in zip(result, random.integers(0, 32, (count, 2)), strict=True):
            one[max(line - 8, 0) : line + 8, max(column - 8, 0) : column + 8] = 0
        return result

    return tf.ensure_shape(tf.numpy_function(function, [x, seed], tf.float32), x.shape), y


def large():
    batches, images, rows = source(32, 256)
    jitter = augment.ColorJitter(0.4, 0.4, 0.4)
    plain = [augment.RandomResizedCrop(224), augment.Flip(), jitter]
    end = augment.Normalize(STATISTICS)
    layers = keras.layers
    # Keras has no resized crop. The closest substitute is a zoom into the image and one crop per batch.
    keras_layers = [
        layers.RandomZoom((-0.5, 0.0), (-0.5, 0.0), seed=1),
        layers.RandomCrop(224, 224, seed=5),
        layers.RandomFlip("horizontal", seed=2),
        layers.RandomColorJitter(brightness_factor=0.4, contrast_factor=0.4, saturation_factor=0.4, seed=3),
        layers.Normalization(mean=MEAN, variance=STD**2),
    ]
    variants = {
        "recipes.augment": pipeline([*plain, augment.FancyPCA(STATISTICS), end], batches),
        "recipes.augment with rotation": pipeline(
            [*plain[:2], augment.Rotate(10), jitter, augment.FancyPCA(STATISTICS), end], batches
        ),
        "recipes.augment, resized crop alone": pipeline(plain[:1], batches),
        "slice and cast": batched(batches, lambda x, y: (tf.cast(x[:, :224, :224], tf.float32), y)),
        "Keras layers, batched, without PCA": batched(batches, through_keras(keras_layers)),
        "tf.image, per image": one_by_one(images, rows, large_tf_image),
    }

    def add(A, run):
        for name, color in (("albumentations", True), ("albumentations, without PCA", False)):
            variants[name] = run(batches, albumentations_large(A, color), 224)

    import_albumentations(add)
    return 32, variants


def large_tf_image(x, y, seed):
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        [256, 256, 3],
        tf.zeros([1, 0, 4]),
        seed,
        min_object_covered=0.0,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        use_image_if_no_bounding_boxes=True,
    )
    x = tf.image.resize(tf.slice(x, begin, size), [224, 224])
    x = tf.image.stateless_random_flip_left_right(x, seed + 1)
    x = tf.image.stateless_random_brightness(x, 50.0, seed + 3)
    x = tf.image.stateless_random_contrast(x, 0.6, 1.4, seed + 4)
    x = tf.image.stateless_random_saturation(x / 255.0, 0.6, 1.4, seed + 5) * 255.0
    alpha = tf.random.stateless_normal([3], seed + 6) * 0.1
    x = x + tf.linalg.matvec(EIGENVECTORS * EIGENVALUES, alpha) * 255.0
    return (tf.ensure_shape(x, [224, 224, 3]) - MEAN) / STD, y


def import_albumentations(add):
    """Call `add(albumentations, run)` if albumentations is installed."""
    try:
        import albumentations
        import cv2
    except ImportError:
        print("albumentations is not installed: pip install albumentations")
        return
    cv2.setNumThreads(0)

    def run(batches, transform, side):
        def loop(images):
            return np.stack([transform(image=image)["image"] for image in images])

        def function(x, y):
            return tf.ensure_shape(tf.numpy_function(loop, [x], tf.float32), (x.shape[0], side, side, 3)), y

        return batched(batches, function)

    add(albumentations, run)


def albumentations_small(A, color=False):
    jitter = [
        A.ColorJitter((0.6, 1.4), (0.6, 1.4), (0.6, 1.4), (0, 0), p=1),
        A.FancyPCA(0.1, p=1),
    ]
    hole = {"num_holes_range": (1, 1), "hole_height_range": (16, 16), "hole_width_range": (16, 16)}
    return A.Compose(
        [
            A.HorizontalFlip(p=0.5),
            A.PadIfNeeded(40, 40, fill=0, border_mode=0),
            A.RandomCrop(32, 32),
            *(jitter if color else []),
            A.Normalize(MEAN / 255, STD / 255),
            A.CoarseDropout(**hole, fill=0, p=1),
        ]
    )


def albumentations_large(A, color):
    return A.Compose(
        [
            A.RandomResizedCrop((224, 224)),
            A.HorizontalFlip(p=0.5),
            A.ColorJitter((0.6, 1.4), (0.6, 1.4), (0.6, 1.4), (0, 0), p=1),
            *([A.FancyPCA(0.1, p=1)] if color else []),
            A.Normalize(MEAN / 255, STD / 255),
        ]
    )


def operations(side, arguments):
    """Our single operations compared with albumentations, PIL, Keras layers and tf.image, at one image size."""
    batch, out = {32: 128, 224: 16, 512: 8}[side], side * 7 // 16
    coarse = np.random.default_rng(0).integers(0, 256, (batch, side // 4, side // 4, 3), dtype="uint8")
    images = coarse.repeat(4, 1).repeat(4, 2)
    peers = operation_peers(images, out)
    ours = {
        "nothing": [],
        "flip": [augment.Flip()],
        "pad and crop": [augment.PadCrop(4)],
        "rotate 15": [augment.Rotate(15)],
        "color jitter 0.4": [augment.ColorJitter(0.4, 0.4, 0.4)],
        "noise": [augment.GaussianNoise(0.05)],
        "erase with noise": [augment.RandomErasing()],
        "blur 0.1 to 2": [augment.GaussianBlur()],
        f"resized crop to {out}": [augment.RandomResizedCrop(out)],
        f"resized crop to {side}": [augment.RandomResizedCrop(side)],
        "mixup": [augment.MixUp()],
        "posterize": [augment.Posterize(4)],
        "solarize": [augment.Solarize(0.5, probability=1)],
        "invert": [augment.Invert(probability=1)],
        "autocontrast": [augment.AutoContrast(probability=1)],
        "equalize": [augment.Equalize(probability=1)],
        "sharpness": [augment.Sharpness(0.9)],
        "perspective": [augment.Perspective(0.5, probability=1)],
        "elastic": [augment.Elastic(2, 8)],
        "RandAugment, linear": [augment.RandAugment()],
        "RandAugment": [augment.RandAugment(space="full")],
        "TrivialAugment": [augment.TrivialAugment(space="full")],
        "AutoAugment": [augment.AutoAugment()],
        "AugMix": [augment.AugMix()],
    }
    ours = {name: chain for name, chain in ours.items() if arguments.names is None or name in arguments.names}
    names = ("albumentations", "PIL", "Keras", "tf.image")
    heading(
        "", "recipes, us", "of one image", "first batch, CPU s", *names, title=f"{side}x{side}, batch {batch}"
    )
    for name, chain in ours.items():
        runs = {"recipes": reading(chain, images), "one": reading(chain, images[:1])}
        first = {key: cpu_seconds(run) for key, run in runs.items()}["recipes"]
        runs.update(peers.get(name, {}))
        best = interleaved(runs, arguments.seconds / 2)
        cells = [f"{best[peer] / batch * 1e6:.1f}" if peer in best else "" for peer in names]
        row(name, f"{best['recipes'] / batch * 1e6:.1f}", f"{best['one'] * 1e6:.1f}", f"{first:.2f}", *cells)


def reading(chain, images):
    """A function that takes the next batch from a pipeline without prefetching and without a second thread."""
    batches = tf.data.Dataset.from_tensors(images).repeat()
    augmented = augment.Pipeline(chain, dtype="uint8").apply(batches, num_parallel_calls=None)
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.inject_prefetch = False
    options.threading.private_threadpool_size = options.threading.max_intra_op_parallelism = 1
    iterator = iter(augmented.with_options(options))
    return lambda: next(iterator)


def cpu_seconds(function):
    start = time.process_time()
    function()
    return time.process_time() - start


def interleaved(functions, seconds, rounds=4):
    """CPU seconds of one call of each function: the best of several windows; the functions take turns."""
    counts, best = {}, {}
    for name, function in functions.items():
        function()
        counts[name] = max(1, int(seconds / max(cpu_seconds(function), 1e-5)))
    for _ in range(rounds):
        for name, function in functions.items():
            spent = cpu_seconds(
                lambda function=function, count=counts[name]: [function() for _ in range(count)]
            )
            best[name] = min(best.get(name, np.inf), spent / counts[name])
    return best


def operation_peers(images, out):
    """`{operation: {peer: function}}` for the operations that the installed libraries have."""
    layers, side = keras.layers, images.shape[1]
    images_there = tf.constant(images)
    noise = layers.GaussianNoise(0.9)
    trained = lambda layer: lambda: layer(images_there, training=True)  # noqa: E731
    peers = {
        "flip": {
            "Keras": trained(layers.RandomFlip("horizontal")),
            "tf.image": lambda: tf.image.random_flip_left_right(images_there),
        },
        "rotate 15": {"Keras": trained(layers.RandomRotation(15 / 360))},
        "color jitter 0.4": {
            "Keras": trained(
                layers.RandomColorJitter(brightness_factor=0.4, contrast_factor=0.4, saturation_factor=0.4)
            )
        },
        "noise": {"Keras": lambda: noise(tf.cast(images_there, tf.float32), training=True)},
        "erase with noise": {"Keras": trained(layers.RandomErasing(0.5, scale=(0.02, 0.4)))},
        "mixup": {},
        "posterize": {"Keras": trained(layers.RandomPosterization(4))},
        "solarize": {"Keras": trained(layers.Solarization())},
        "invert": {"Keras": trained(layers.RandomInvert(1.0))},
        "autocontrast": {"Keras": trained(layers.AutoContrast())},
        "equalize": {"Keras": trained(layers.Equalization())},
        "sharpness": {"Keras": trained(layers.RandomSharpness(0.9))},
        "perspective": {"Keras": trained(layers.RandomPerspective(1.0))},
        "elastic": {"Keras": trained(layers.RandomElasticTransform(1.0))},
        "RandAugment": {"Keras": trained(layers.RandAugment(num_ops=2, factor=0.3))},
        "AugMix": {"Keras": trained(layers.AugMix())},
    }
    for size in (out, side):
        peers[f"resized crop to {size}"] = {
            "tf.image": lambda size=size: tf.image.resize(
                images_there[:, : side * 3 // 4, : side * 3 // 4], (size, size), antialias=True
            )
        }
    try:
        from PIL import Image, ImageEnhance, ImageOps
    except ImportError:
        print("Pillow is not installed: pip install pillow")
    else:
        box = (0, 0, side * 0.73, side * 0.73)  # the square root of the mean area
        for size in (out, side):
            peers[f"resized crop to {size}"]["PIL"] = lambda size=size: [
                Image.fromarray(image).resize((size, size), Image.BILINEAR, box=box) for image in images
            ]
        with_pil = {
            "posterize": lambda image: ImageOps.posterize(image, 4),
            "solarize": ImageOps.solarize,
            "invert": ImageOps.invert,
            "autocontrast": ImageOps.autocontrast,
            "equalize": ImageOps.equalize,
            "sharpness": lambda image: ImageEnhance.Sharpness(image).enhance(1.5),
            "perspective": lambda image: image.transform(
                image.size, Image.Transform.PERSPECTIVE, (1.1, 0.1, -3, 0.1, 1.1, -3, 0, 0), Image.BILINEAR
            ),
        }
        for name, function in with_pil.items():
            peers[name]["PIL"] = lambda function=function: [
                np.asarray(function(Image.fromarray(image))) for image in images
            ]
    import_albumentations(lambda A, run: add_albumentations(A, peers, images, out))
    return peers


def add_albumentations(A, peers, images, out):
    transforms = {
        "flip": A.HorizontalFlip(p=0.5),
        "rotate 15": A.Rotate(15, p=1),
        "color jitter 0.4": A.ColorJitter((0.6, 1.4), (0.6, 1.4), (0.6, 1.4), (0, 0), p=1),
        "noise": A.GaussNoise((0.05, 0.05), p=1),
        "erase with noise": A.Erasing(scale=(0.02, 0.4), fill="random", p=0.5),
        "blur 0.1 to 2": A.GaussianBlur(blur_limit=0, sigma_limit=(0.1, 2), p=0.5),
        f"resized crop to {out}": A.RandomResizedCrop((out, out), p=1),
        "posterize": A.Posterize(4, p=1),
        "solarize": A.Solarize(p=1),
        "invert": A.InvertImg(p=1),
        "autocontrast": A.AutoContrast(p=1),
        "equalize": A.Equalize(p=1),
        "sharpness": A.Sharpen(p=1),
        "perspective": A.Perspective(p=1),
        "elastic": A.ElasticTransform(p=1),
    }
    for name, transform in transforms.items():
        peers.setdefault(name, {})["albumentations"] = lambda transform=transform: [
            transform(image=image)["image"] for image in images
        ]


def threshold(arguments):
    """Compare XLA with plain TensorFlow, from tiny batches to large ones."""
    operations = [augment.Flip(), augment.PadCrop(1), augment.ColorJitter(0.2, 0.2, 0.2), augment.Cutout(2)]
    print(
        f"{'batch':>8}{'side':>6}{'values':>10}{'plain us':>10}{'XLA us':>10}{'first plain':>13}{'first XLA':>11}"
    )
    for batch, side in ((8, 8), (32, 8), (128, 8), (32, 28), (128, 28), (32, 32), (128, 32)):
        batches = source(batch, side)[0]
        readers = [
            Reader(
                augment.Pipeline(operations, jit_compile=compiled)
                .apply(batches, num_parallel_calls=CALLS)
                .prefetch(2),
                batch,
                arguments.seconds,
            )
            for compiled in (False, True)
        ]
        for _ in range(arguments.windows):
            for reader in readers:
                reader.window()
        plain, compiled = (1e6 * batch / reader.per_cpu_second for reader in readers)
        print(
            f"{batch:8}{side:6}{batch * side * side * 3:10,}{plain:10,.0f}{compiled:10,.0f}"
            f"{readers[0].first:11.2f} s{readers[1].first:9.2f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
