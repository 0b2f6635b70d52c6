"""Predicted masks as files: indexed PNGs, whose numbers are the classes and whose palette colors them."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from recipes.common.color import class_colors


def write_masks(masks: np.ndarray, files: Sequence[str], folder: "str | os.PathLike[str]") -> list[Path]:
    """Write one PNG per mask, named after its image.

    Args:
        masks: Class numbers `(n, height, width)`, below 256 as palettes have no more.
        files: Where each image came from, or its number.
        folder: Made when it does not exist.

    Returns:
        The paths written, in order: `photo.png` for `photos/photo.jpg`, `photo-2.png` for the second of that name.

    Raises:
        ValueError: for more than 256 classes.
        FileExistsError: when a file of one of these names is there; nothing is overwritten.
    """
    if masks.size and masks.max() > 255:
        raise ValueError(
            f"Predictions.to_png expects at most 256 classes, as PNG has no larger palettes. Received {masks.max()} "
            "as a class. Save the numbers: np.save('masks.npy', predictions.masks)."
        )
    folder, paths, taken = Path(folder), [], set()
    for file in files:
        stem, number = Path(file).stem or "image", 1
        while (name := f"{stem}.png" if number == 1 else f"{stem}-{number}.png").lower() in taken:
            number += 1
        taken.add(name.lower())
        paths.append(folder / name)
    there = [path for path in paths if os.path.lexists(path)]
    if there:
        raise FileExistsError(
            f"Predictions.to_png expects a folder without files of the same names. Received {folder}, which holds "
            f"{there[0].name}. Give another folder, or remove it."
        )
    folder.mkdir(parents=True, exist_ok=True)
    palette = class_colors(256).reshape(-1).tolist()
    for mask, path in zip(masks, paths, strict=True):
        picture = Image.fromarray(mask.astype(np.uint8))
        picture.putpalette(palette)
        picture.save(path)
    return paths
