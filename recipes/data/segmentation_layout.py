"""Segmentation: folders images/ and masks/ with the same file names."""

import os
import re
from typing import Any

import numpy as np

from recipes.data.chosen_classes import checked_names
from recipes.data.listing import PARTS, Listing, walk
from recipes.data.split_names import NAMES_OF_PARTS

_IMAGE_FOLDERS = frozenset(("images", "image", "img", "imgs", "photos", "jpegimages"))
_MASK_FOLDERS = frozenset(
    (
        "masks",
        "mask",
        "labels",
        "annotations",
        "annotation",
        "segmentations",
        "segmentation",
        "segmentationclass",
    )
)
# What follows the name of the folder of images in that of the folder of its masks.
_MASKS_OF = re.compile(r"[_-](masks?|annotations?|labels?)")


def as_segmentation(path: str, folders: list[str]) -> tuple[str, str] | None:
    """`(images, masks)`, the names of two folders that hold an image and its mask under one name, or None.

    Raises:
        ValueError: for folders with such names that hold no masks, or boxes.
    """
    images = [name for name in folders if name.lower() in _IMAGE_FOLDERS]
    masks = [name for name in folders if name.lower() in _MASK_FOLDERS]
    if len(folders) == 2 and _MASKS_OF.fullmatch(folders[1].lower().removeprefix(folders[0].lower())):
        images, masks = folders[:1], folders[1:]  # train, train_masks
    if len(images) != 1 or len(masks) != 1 or len(folders) != 2:
        return None
    stems = [_stems(walk(os.path.join(path, name))) for name in (images[0], masks[0])]
    if stems[0] and not stems[1] and any(files for *_, files in os.walk(os.path.join(path, masks[0]))):
        raise ValueError(
            f"data.load expects class folders, or masks of the same names, in {path!r}. Received {images[0]}/ beside "
            f"{masks[0]}/ without images, as data sets of boxes have; detection is not covered. If the folders in "
            f"{images[0]}/ are classes, load that; if the classes are given elsewhere, say so with labels=."
        )
    if not stems[0].keys() & stems[1].keys():
        if "mask" not in masks[0].lower():
            return None
        raise ValueError(
            f"data.load expects a mask of the same name for every image in {path!r}, which looks like segmentation. "
            f"Received no name that {images[0]}/ and {masks[0]}/ share. Rename them; if these are two classes, say so "
            f"with labels=lambda path: path.parent.name."
        )
    return images[0], masks[0]


def _stems(files):
    """`{name without ending, and without a word for mask: file}`."""
    found = {}
    for file in files:
        stem = os.path.splitext(os.fsdecode(file))[0]
        for word in ("_mask", "-mask", "_label", "_seg", "_segmentation", "_gt"):
            stem = stem.removesuffix(word)
        found[stem] = file
    return found


def segmentation(path: str, pairs: dict[int, tuple[str, tuple[str, str]]], class_names: Any) -> Listing:
    """List images with their masks.

    Args:
        path: The folder.
        pairs: dict from the number of a part to `(folder, (images, masks))`, where `images` and `masks` are folders in
            `folder`.
        class_names: As in `data.load`.

    Raises:
        ValueError: for images without a mask, and masks without an image.
    """
    files, masks, parts, lonely, stems = [], [], [], [], []
    for part, (folder, (images, answers)) in pairs.items():
        base = os.path.join(path, folder)
        of_images, of_masks = (_stems(walk(os.path.join(base, name))) for name in (images, answers))
        lonely += [os.path.join(base, images, stem) for stem in of_images.keys() - of_masks.keys()]
        lonely += [os.path.join(base, answers, stem) for stem in of_masks.keys() - of_images.keys()]
        for stem in sorted(of_images.keys() & of_masks.keys()):
            files.append(os.fsencode(os.path.join(folder, images, "")) + of_images[stem])
            masks.append(os.fsencode(os.path.join(folder, answers, "")) + of_masks[stem])
            parts.append(part)
            stems.append(stem)
    if lonely:
        raise ValueError(
            "data.load expects a mask of the same name for every image, and an image for every mask. Received files "
            "without their partner:\n  "
            + "\n  ".join(sorted(lonely)[:20])
            + "\nAdd what is missing, or move these away."
        )
    parts = parts if len(pairs) > 1 else _parts_inside(stems)
    names = checked_names(class_names) if class_names is not None else []
    return Listing(
        path,
        np.array(files, object),
        np.zeros(len(files), np.int64),
        names,
        None if parts is None else np.array(parts, np.int8),
        np.array(masks, object),
    )


def _parts_inside(stems):
    """Numbers of the parts where they are folders inside images/ and masks/, else None."""
    parts = [
        NAMES_OF_PARTS.get(stem.partition(os.sep)[0].lower()) if os.sep in stem else None for stem in stems
    ]
    if None in parts or "train" not in parts or len(set(parts)) < 2:
        return None
    return [PARTS.index(part) for part in parts]
