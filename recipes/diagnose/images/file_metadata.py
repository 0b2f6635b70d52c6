"""Features of image files other than pixels (size, format, date and camera), as numbers for a linear classifier."""

import math
from collections.abc import Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
_TAKEN, _CHANGED, _MAKE, _SOFTWARE = 36867, 306, 271, 305  # EXIF tags
_NAMES = 8  # groups into which the names of cameras and programs are hashed


def metadata_features(files: Sequence[str]) -> NDArray[np.float32]:
    """Width, height, their ratio, format and color mode of each image file, and the date and camera from EXIF.

    Only headers are read. The size in bytes is left out, as it depends on what the image shows. A file that cannot be
    read gives a row of zeros, and so does a name that is no file, such as that of an image inside a TFRecord.

    Args:
        files: Paths of image files.

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
    """Number of the group of a name, -1 for no name; unlike `hash`, it is the same in every process."""
    return -1 if not name else sum(str(name).encode()) % _NAMES
