"""Segmentation masks: the class of each pixel."""

import os
from typing import Any

import numpy as np
from PIL import Image

from recipes.data import headers


def read_masks(
    listing: Any, size: tuple[int, int], fit: str, class_names: list[str]
) -> tuple[np.ndarray, list[str]]:
    """Read all masks of a listing, fitted like their images, without mixing neighboring classes.

    A mask has one channel, gray or with a palette, whose numbers are the classes. In masks of only 0 and 255, 255 means
    class 1.

    Args:
        listing: A `Listing` with masks.
        size: `(height, width)` of the images.
        fit: As in `data.read_image`; "pad" pads with class 0.
        class_names: Names of the classes; an empty list names them by their numbers.

    Returns:
        `(masks, class_names)`, uint8 `(n, height, width)`.

    Raises:
        ValueError: for masks of several channels, masks of another aspect ratio than their images, void pixels (255
            among other classes), and class numbers beyond the names.
    """
    masks = np.zeros((len(listing.masks), *size), np.uint8)
    for number, (file, image) in enumerate(zip(listing.masks, listing.files, strict=True)):
        path = os.path.join(listing.root, os.fsdecode(file))
        mask, of_image = _read(path), headers.look(os.path.join(listing.root, os.fsdecode(image)))
        if mask.size != (of_image.width, of_image.height):
            raise ValueError(
                f"data.load expects a mask to be as large as its image. Received {path} of {mask.height} x "
                f"{mask.width} pixels for an image of {of_image.height} x {of_image.width}. "
                "Resize it, with nearest neighbors."
            )
        masks[number] = _fitted(mask, size, fit)
    found = np.unique(masks)
    if set(found.tolist()) <= {0, 255}:
        masks //= 255
        found = np.unique(masks)
    elif found[-1] == 255:
        raise ValueError(
            "data.load expects masks whose numbers are classes, 0, 1, 2 ... Received 255 among them, which usually "
            "means void, or a mask that was saved as JPEG. Give void pixels a class of their own, as pixels without a "
            "class are not covered, and save masks as PNG."
        )
    names = class_names or [str(number) for number in range(max(2, int(found[-1]) + 1))]
    if found[-1] >= len(names):
        raise ValueError(
            f"data.load expects class numbers below {len(names)}, the number of class_names. Received {found[-1]} in "
            "the masks. Name that class too."
        )
    return masks, names


def _read(path):
    try:
        headers.look(path)
        with Image.open(path) as image:
            image.load()
            mask = image.convert("L") if image.mode == "1" else image
    except (headers.NotAnImageError, OSError) as error:
        raise ValueError(
            f"data.load expects masks that decode. Received {path}: {error} Repair or remove it."
        ) from error
    if mask.mode not in ("L", "P"):
        raise ValueError(
            f"data.load expects masks of one channel of 8 bits, whose numbers are the classes. Received {path} of mode "
            f"{mask.mode}. Save the class of each pixel as a gray PNG."
        )
    return mask


def _fitted(mask, size, fit):
    height, width = size
    box, inner = (0, 0, mask.width, mask.height), (width, height)
    if fit == "crop":
        tall = min(mask.height, max(1, _round(mask.width * height, width)))
        wide = min(mask.width, max(1, _round(mask.height * width, height)))
        left, top = (mask.width - wide) // 2, (mask.height - tall) // 2
        box = (left, top, left + wide, top + tall)
    elif fit == "pad":
        inner = (
            min(width, max(1, _round(mask.width * height, mask.height))),
            min(height, max(1, _round(mask.height * width, mask.width))),
        )
    resized = np.asarray(mask.resize(inner, Image.Resampling.NEAREST, box=box))
    out = np.zeros(size, np.uint8)
    top, left = (height - resized.shape[0]) // 2, (width - resized.shape[1]) // 2
    out[top : top + resized.shape[0], left : left + resized.shape[1]] = resized
    return out


def _round(numerator, denominator):
    return (2 * numerator + denominator) // (2 * denominator)
