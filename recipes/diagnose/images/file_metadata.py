"""What is told of an image beside its pixels: size, format, date and camera, as numbers for a linear classifier."""

import math
from collections.abc import Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
_TAKEN, _CHANGED, _MAKE, _SOFTWARE = 36867, 306, 271, 305  # EXIF tags
_NAMES = 8  # groups that cameras and programs fall into


def metadata_features(files: Sequence[str]) -> NDArray[np.float32]:
    """Of each file: its sides, their ratio, format, mode, and what EXIF says of date and camera.

    Headers alone are read; how many bytes there are follows from what is shown, and is left out. A file that cannot
    be read, or is none, as an image inside a TFRecord, is a row of zeros.

    Args:
        files: Paths.

    Returns:
        float32 `(n, features)`.
    """
    return np.array([_of_file(file) for file in files], np.float32)


def _of_file(file):
    nothing = [0.0] * (9 + len(_FORMATS) + 2 * _NAMES)
    try:
        with Image.open(file) as image:
            width, height = image.size
            kind, mode, exif = image.format, image.mode, image.getexif()
            dates = [exif.get_ifd(34665).get(_TAKEN), exif.get(_CHANGED)]
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return nothing
    taken = next((when for when in map(_moment, dates) if when is not None), None)
    numbers = [1.0, math.log(width), math.log(height), math.log(width / height)]
    numbers += [float(mode == "L"), float(mode in ("RGBA", "P")), float(len(exif) > 0)]
    numbers += [0.0, 0.0] if taken is None else [taken.timestamp() / 3.15e7, taken.hour / 24]
    names = [_group(exif.get(tag)) for tag in (_MAKE, _SOFTWARE)]
    return (
        numbers
        + [float(kind == one) for one in _FORMATS]
        + [float(n == place) for n in names for place in range(_NAMES)]
    )


def _moment(text):
    try:
        return datetime.strptime(str(text).strip("\0 "), "%Y:%m:%d %H:%M:%S").astimezone()
    except ValueError:
        return None


def _group(name):
    """One of a few groups for a name, -1 without one: the same in every process."""
    return -1 if not name else sum(str(name).encode()) % _NAMES
