"""TFRecord files of tf.train.Example: where each image lies in them, and its class."""

import glob
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from recipes.data import headers
from recipes.data.chosen_classes import choose_classes, in_words
from recipes.data.in_record import bytes_of_record, name_in_record
from recipes.data.listing import PARTS, Listing
from recipes.data.record_labels import numbered
from recipes.data.split_names import NAMES_OF_PARTS

_NAME = re.compile(r"\.(tfrecords?|tfrec|record)$|[-_]\d{5}-of-\d{5}(\.\w+)?$", re.IGNORECASE)
_NOT_READ = (".array_record", ".riegeli", ".gz", ".zlib", ".bz2")
_IMAGES = (
    "image/encoded image image_raw image_bytes img img_bytes encoded jpeg png photo picture data".split()
)
_LABELS = (
    "image/class/label label labels class class_id class_label target category category_id y image/class/text "
    "class/label class/text class_name text"
).split()
# Names of whole numbers of an image that are not its class.
_FACTS = re.compile(
    r"(^|[/_])(id|index|idx|key|height|width|depth|channels?|size|orientation|offset)$", re.IGNORECASE
)
_TEXT_OF = {"image/class/label": "image/class/text", "class/label": "class/text", "label": "label/text"}


@dataclass(frozen=True)
class _Features:
    """Names of the features of the image, the label and, where a number has one beside it, the name of the class."""

    image: str
    label: str
    text: str | None


def is_record_file(name: str) -> bool:
    """Whether a file has the name of a TFRecord file."""
    base = os.path.basename(name)
    ending = headers.ending(base)
    return bool(_NAME.search(base)) and ending not in headers.ENDINGS and ending not in _NOT_READ


def record_files(given: Any) -> tuple[str, list[str]] | None:
    """`(folder, names of TFRecord files below it)` that a path, a pattern or a list of paths stands for, or None.

    A folder stands for its TFRecord files at any depth, if there is no image in it.
    """
    if isinstance(given, (list, tuple)):
        paths = [
            os.path.expanduser(os.fspath(path)) for path in given if isinstance(path, (str, os.PathLike))
        ]
        if not paths or len(paths) < len(given) or not all(map(is_record_file, paths)):
            return None
    else:
        path = os.path.expanduser(os.fspath(given))
        if os.path.isdir(path):
            names = _in_folder(path)
            return (path, names) if names else None
        if headers.ending(path) in _NOT_READ:
            raise ValueError(
                f"data.load expects TFRecord files, not compressed. Received {path!r}. Write it again as TFRecord, or "
                "give recipes.train a data set of (image, label) that reads it."
            )
        paths = (
            [path]
            if os.path.isfile(path) and is_record_file(path)
            else sorted(glob.glob(path, recursive=True))
        )
        paths = [path for path in paths if is_record_file(path)]
        if not paths:
            return None
    folder = os.path.dirname(os.path.abspath(paths[0]))
    if len(paths) > 1:
        folder = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    return folder, sorted({os.path.relpath(path, folder) for path in paths})


def _in_folder(root):
    names = []
    for folder, inside, files in os.walk(root):
        inside[:] = sorted(name for name in inside if name[0] != ".")
        for name in sorted(files):
            if headers.ending(name) in headers.ENDINGS:
                return []
            if name[0] != "." and is_record_file(name):
                names.append(os.path.relpath(os.path.join(folder, name), root))
    return names


def list_records(folder: str, names: list[str], labels: Any, class_names: Any, skip: bool) -> Listing:
    """Find the images of TFRecord files and their classes, reading each record once.

    Args:
        folder: Folder that `names` are relative to.
        names: Names of the files.
        labels: None: features with common names, or the only ones that fit; else the name of the feature of the label,
            or `(image, label)`, the names of both.
        class_names: As in `data.load`; where the records have numbers, the names of classes 0, 1, ...
        skip: Leave out records without an image or a label.

    Raises:
        ValueError: for files that are not complete TFRecord files, and records that hold something else.
    """
    features, parts, notes = _told(labels), _parts_of(names), []
    files, found, of_part, skipped, unlabeled = [], [], [], [], []
    # Training records first: in those of a test the label may be missing.
    for name in sorted(names, key=lambda name: (bool(parts) and parts.get(name) != "train", name)):
        part = parts.get(name) if parts else None
        if parts and part is None:
            notes.append(
                f"{name!r} in {folder!r} is left out: its name says neither train, validation nor test."
            )
            continue
        for place, content in _records_of(os.path.join(folder, name)):
            where = f"the record at byte {place} of {os.path.join(folder, name)}"
            example = _example(content, where)
            if not isinstance(features, _Features):
                features = _find_features(example, features, where)
            image, label = _entries(example, features)
            if image is None or label is None:
                what = f"{where}: no {features.image if image is None else features.label!r} in it."
                (skipped if image is None else unlabeled).append((name, what))
                continue
            files.append(os.fsencode(name_in_record(name, place, content.index(image), len(image))))
            found.append(label)
            of_part.append(-1 if part is None else PARTS.index(part))
    notes += _without_labels(unlabeled, parts, skipped)
    if skipped and not skip:
        raise ValueError(
            f"data.load expects an image and a label in every record. Received {len(skipped)} without them, such as "
            f"{skipped[0][1]} Leave these out with on_error='skip'."
        )
    if not files:
        raise ValueError(
            f"data.load expects records with images in {folder!r}. Received none. Look at {names[0]!r}."
        )
    folders = list(dict.fromkeys(os.path.dirname(os.path.join(folder, name)) for name in names))
    numbers, classes, more = numbered(found, features.label, folders, class_names)
    if classes == list(class_names or ()):
        class_names = None
    listing = Listing(
        folder,
        np.array(files, object),
        numbers,
        classes,
        np.array(of_part, np.int8) if parts else None,
        notes=notes + more,
        skipped=[what for _, what in skipped],
    )
    return choose_classes(listing, class_names)


def _parts_of(names):
    """`{name: part}` where the names of files or their folders tell parts, else None."""
    parts = {}
    for name in names:
        words = [word for word in re.split(r"[^a-z]+", name.lower()) if word in NAMES_OF_PARTS]
        if words:
            parts[name] = NAMES_OF_PARTS[words[-1]]
    return parts if "train" in parts.values() and len(set(parts.values())) > 1 else None


def _records_of(path) -> Iterator[tuple[int, bytes]]:
    """`(byte where it begins, content)` of each record."""
    place = 0
    try:
        for content in tf.data.TFRecordDataset(path).as_numpy_iterator():
            yield place, content
            place += bytes_of_record(len(content))
    except tf.errors.OpError as error:
        with open(path, "rb") as file:
            packed = file.read(2) in (b"\x1f\x8b", b"\x78\x9c", b"\x78\x01")
        cure = "Decompress it first." if packed else "Copy or write it again."
        raise ValueError(
            f"data.load expects whole TFRecord files, not compressed. Received {path}, of which the record at byte "
            f"{place} cannot be read{', compressed' if packed else ''}. {cure}"
        ) from error


def _example(content, where):
    example = tf.train.Example()
    try:
        example.ParseFromString(content)
    except Exception as error:  # protobuf's own class of error is another in each of its implementations
        raise ValueError(
            f"data.load expects records of tf.train.Example. Received {where}, which is something else. Parse it "
            "yourself and give recipes.train a data set of (image, label)."
        ) from error
    return example.features.feature


def _told(labels):
    """None, or `(image or None, label)`, the names of the features that the user gave."""
    if labels is None or isinstance(labels, str):
        return None if labels is None else (None, labels)
    if (
        isinstance(labels, (list, tuple))
        and len(labels) == 2
        and all(isinstance(name, str) for name in labels)
    ):
        return tuple(labels)
    raise ValueError(
        "data.load expects labels of TFRecord files to be the name of a feature, or (image feature, label feature). "
        f"Received {labels!r}. Leave it out where they have common names, such as image and label."
    )


def _find_features(example, told, where):
    image, label = told or (None, None)
    there = sorted(example)
    for name in (image, label):
        if name is not None and name not in example:
            raise ValueError(
                f"data.load expects labels to name features of the records. Received {name!r}, and {where} has "
                f"{', '.join(there)}. Correct the name."
            )
    image = image or _find_image(example, where)
    label = label or _find_label(example, image, where)
    text = _TEXT_OF.get(label, "")
    return _Features(image, label, text if text in example else None)


def _find_image(example, where):
    encoded = [
        name
        for name, feature in example.items()
        if len(feature.bytes_list.value) == 1
        and headers.kind_of(feature.bytes_list.value[0][:32]) is not None
    ]
    known = [name for name in _IMAGES if name in encoded]
    if known or len(encoded) == 1:
        return (known or encoded)[0]
    if encoded:
        raise ValueError(
            f"data.load expects one encoded image per record, or to be told which. Received "
            f"{in_words(sorted(encoded))} in {where}. Name it: labels=(image feature, label feature)."
        )
    raise ValueError(
        f"data.load expects records that hold an encoded image (JPEG, PNG ...). Received {where}, whose features "
        f"{', '.join(sorted(example))} hold none. Raw pixels are not read: decode them with tf.io.decode_raw and give "
        "recipes.train a data set of (image, label)."
    )


def _find_label(example, image, where):
    known = [name for name in _LABELS if name in example]
    if known:
        return known[0]
    free = [
        name
        for name, feature in example.items()
        if name != image and not _FACTS.search(name) and len(feature.int64_list.value) == 1
    ]
    if len(free) == 1:
        return free[0]
    boxes = any("bbox" in name or "object" in name for name in example)
    masks = any("mask" in name or "segment" in name for name in example)
    raise ValueError(
        f"data.load expects records with an image and a label. Received {where} with the features "
        f"{', '.join(sorted(example))}. "
        + (
            "Masks in records are not read: write images/ and masks/, or give recipes.train a data set of "
            "(image, mask)."
            if masks
            else "Detection is not covered."
            if boxes
            else "Say which it is: labels='species', or labels=(image feature, label feature)."
        )
    )


def _entries(example, features):
    """`(bytes of the image or None, label or None)`; a label is a tuple of numbers or texts, or `(number, text)`."""
    image = example[features.image].bytes_list.value if features.image in example else ()
    label = _values(example, features.label)
    if features.text is not None and len(label) == 1:
        text = _values(example, features.text)
        label = (label[0], text[0]) if len(text) == 1 and text[0] and not isinstance(label[0], str) else label
    if label and not isinstance(label[0], str) and len(label) == 1 and label[0] < 0:
        label = ()  # as TensorFlow Datasets mark the images of a test whose labels are secret
    return (image[0] if len(image) == 1 and image[0] else None), (label or None)


def _values(example, name):
    if name not in example:
        return ()
    feature = example[name]
    if feature.float_list.value:
        return tuple(float(value) for value in feature.float_list.value)
    texts = tuple(value.decode("utf-8", "surrogateescape") for value in feature.bytes_list.value if value)
    return texts or tuple(feature.int64_list.value)


def _without_labels(unlabeled, parts, skipped):
    """Notes on test files that have no labels at all; single records without one join the `skipped`."""
    notes = []
    for name in sorted({name for name, _ in unlabeled}):
        records = [entry for entry in unlabeled if entry[0] == name]
        if parts and parts[name] == "test":
            notes.append(f"{len(records)} images of {name!r} are left out: they have no label.")
        else:
            skipped += records
    return notes
