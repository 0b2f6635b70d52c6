"""A folder with one sub-folder of images per class."""

import collections
import os
import struct
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import tensorflow as tf

from recipes.data.resize import crop_and_resize

# What Windows leaves in a folder it has shown; other systems' leftovers are hidden files.
_LEFTOVERS = ("thumbs.db", "desktop.ini")
# JPEG, PNG, GIF and BMP; WebP is recognized by two marks.
_FILE_STARTS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM")
_PORTION = 500
_MOST_PIXELS = 2**27  # 400 MB in color, and as many of them as there are cores are decoded at once


def scan(path, image_size, check, verbose):
    """List the images of a folder, after a look at each.

    Args:
        path: Folder with one sub-folder per class.
        image_size: `(height, width)` or None; with None, all images have to be of one size.
        check: False decodes the first file of each class only, and reads the header of the others.
        verbose: 0 hides the progress bar.

    Returns:
        `(files, labels, class_names, image_shape)`: paths seen from `path`, as an object array of bytes, and
        labels as int64. Nothing else is kept of each file.
    """
    class_names, files, labels = _list(path)
    first_of_class = set(np.unique(labels, return_index=True)[1].tolist())
    bad, gray, sizes, examples = [], True, collections.Counter(), {}
    for file, finding in _look_at_all(path, files, lambda i: check or i in first_of_class, verbose):
        if isinstance(finding, str):
            bad.append(f"{file}: {finding}")
        elif finding is not None:
            gray &= finding[2] <= 2
            if image_size is None:
                sizes[finding[:2]] += 1
                examples[finding[:2]] = file
    if bad:
        raise ValueError(
            "data.load expects every file in a class folder to be a JPEG, PNG, GIF, BMP or WebP image that "
            f"decodes. Received {len(bad)} that do not:\n  "
            + "\n  ".join(bad)
            + "\nRepair, convert or delete them."
        )
    if image_size is None:
        image_size = _common_size(path, sizes, examples)
    return files, labels, class_names, (*image_size, 1 if gray else 3)


def read_image(file, *, start, image_shape, resize):
    """Decode one file inside tf.data: scalar string tensor, its path after `start` -> uint8 of `image_shape`."""
    file = tf.strings.join([start, file])
    image = _decode(file)
    # Gray, alone or with transparency, has one color channel, which an image of three repeats.
    last_color = tf.where(tf.shape(image)[2] <= 2, 0, 2)
    fits = last_color < image_shape[2]
    image = tf.gather(image, tf.minimum(tf.range(image_shape[2]), last_color), axis=2)
    if resize:
        image = crop_and_resize(image, image_shape[:2])
    fits &= tf.reduce_all(tf.shape(image) == image_shape)
    message = (
        "data.load expects every file to be like those it looked at, {} x {} with {} channels. Received the file "
        "below, which is not. Load the folder again, with check=True, and with image_size= if there are several sizes."
    )
    with tf.control_dependencies([tf.Assert(fits, [message.format(*image_shape), file])]):
        return tf.ensure_shape(tf.identity(image), image_shape)


def _decode(file):
    """Decode one file inside tf.data, where an error of TensorFlow's would not say which file it is about."""

    def decode(file):
        # channels=3 would fail on WebP with transparency, so read_image sorts out the colors.
        image = tf.io.decode_image(tf.io.read_file(file), channels=0, expand_animations=False)
        return tf.ensure_shape(image, (None, None, None))

    nothing = tf.data.Dataset.from_tensors(tf.zeros((0, 0, 0), tf.uint8))
    one = tf.data.Dataset.from_tensors(file).map(decode).ignore_errors(log_warning=False)
    image = one.concatenate(nothing).take(1).get_single_element()
    message = (
        "data.load expects every file to be an image that decodes. Received the file below, which does not. "
        "Repair or delete it, and load the folder again."
    )
    with tf.control_dependencies([tf.Assert(tf.size(image) > 0, [message, file])]):
        return tf.ensure_shape(tf.identity(image), (None, None, None))


def _list(path):
    class_names = sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and entry.name[0] != ".")
    if len(class_names) < 2:
        raise ValueError(
            f"data.load expects a folder with one sub-folder of images per class, at least two. Received {path!r}"
            f" with {len(class_names)} of them. Move the images of each class into a sub-folder of its own."
        )
    files, counts, nested, empty = [], [], [], []
    for name in class_names:
        visible = []
        for entry in os.scandir(os.path.join(path, name)):
            if entry.name[0] != "." and entry.name.lower() not in _LEFTOVERS:
                visible.append(entry.name)
                if entry.is_dir():
                    nested.append(entry.path)
        if not visible:
            empty.append(os.path.join(path, name))
        # Of 100,000 files each byte counts: no folders' names, and no objects but these.
        files += [os.fsencode(os.path.join(name, file)) for file in sorted(visible)]
        counts.append(len(visible))
    if nested:
        raise ValueError(
            "data.load expects class folders that hold images only. Received folders inside them:\n  "
            + "\n  ".join(sorted(nested))
            + "\nMove their images up, or, if the classes are one level further down (train/cat, train/dog), "
            f"load that level: data.load({os.path.join(path, class_names[0])!r})."
        )
    if empty:
        raise ValueError(
            "data.load expects at least one image per class. Received empty folders:\n  "
            + "\n  ".join(empty)
            + "\nFill them or delete them."
        )
    return class_names, np.array(files, object), np.repeat(np.arange(len(counts), dtype=np.int64), counts)


def _look_at_all(path, files, decode, verbose):
    """Each file with its `(height, width, channels)`, None if it was not decoded, or what is wrong with it.

    Args:
        path: The folder.
        files: As `scan` returns them.
        decode: function `(number of the file) -> bool`.
        verbose: 0 hides the progress bar.
    """
    # TensorFlow decodes outside Python's lock, so threads use every core.
    bar = keras.utils.Progbar(len(files), unit_name="file") if verbose and len(files) >= 1000 else None
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # In portions, since the pool keeps an object for every file that is waiting.
        for start in range(0, len(files), _PORTION):
            portion = range(start, min(start + _PORTION, len(files)))
            paths = [os.path.join(path, os.fsdecode(files[i])) for i in portion]
            yield from zip(paths, pool.map(_look_at, paths, map(decode, portion)), strict=True)
            if bar:
                bar.update(portion.stop)


def _look_at(file, decode):
    try:
        with open(file, "rb") as opened:
            content = opened.read(-1 if decode else 32)
    except OSError as error:
        return error.strerror
    # Animated WebP is recognized here because TensorFlow 2.21 overruns its buffer when it decodes one.
    if content[:4] == b"RIFF" and content[8:16] == b"WEBPVP8X" and content[20:21] and content[20] & 2:
        return "Animated WebP; save one picture of it."
    if too_large(content):
        return too_large(content)
    if not decode:
        known = content.startswith(_FILE_STARTS) or (content[:4] == b"RIFF" and content[8:12] == b"WEBP")
        return None if known else "Unknown image file format."
    try:
        return tuple(tf.io.decode_image(content, expand_animations=False).shape)
    except tf.errors.OpError as error:
        # TensorFlow wraps its sentence: "{{function_node ...}} Unknown image file format. ... [Op:DecodeImage]".
        return error.message.split("}} ")[-1].split(" [Op:")[0]


def too_large(content):
    """What is wrong with a file whose header declares more pixels than are safe to decode, or None."""
    width, height = _declared_size(content)
    if width * height <= _MOST_PIXELS:
        return None
    return f"Declares {width} x {height} pixels, more than the {_MOST_PIXELS:,} that are safe to decode."


def _declared_size(content):
    """Width and height in the header of a file; `(0, 0)` where it says none, as the first bytes of a JPEG."""
    if content.startswith(b"\x89PNG"):
        return struct.unpack(">II", content[16:24].ljust(8, b"\0"))
    if content.startswith(b"GIF8"):
        return struct.unpack("<HH", content[6:10].ljust(4, b"\0"))
    if content.startswith(b"BM"):
        return tuple(abs(side) for side in struct.unpack("<ii", content[18:26].ljust(8, b"\0")))
    if content.startswith(b"\xff\xd8"):
        try:
            height, width, _ = tf.io.extract_jpeg_shape(content).numpy()
        except tf.errors.OpError:
            return 0, 0
        return int(width), int(height)
    return 0, 0  # a WebP has at most 16383 x 16383


def _common_size(path, sizes, examples):
    """The one size of `sizes`, a Counter of `(height, width)`; `examples` holds a file of each."""
    if len(sizes) == 1:
        return next(iter(sizes))
    most_common = [
        f"{height} x {width} ({count} images, such as {examples[height, width]})"
        for (height, width), count in sizes.most_common(5)
    ]
    raise ValueError(
        f"data.load expects images of one size when image_size is not given. Received {len(sizes)} sizes "
        f"(height x width) in {path!r}:\n  "
        + "\n  ".join(most_common)
        + "\nType for example image_size=224, or image_size=({}, {}) for the most common one.".format(
            *sizes.most_common(1)[0][0]
        )
    )
