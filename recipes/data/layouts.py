"""Which images a folder holds, and of what class each is: sub-folders, official parts, labels from elsewhere."""

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recipes.data import headers
from recipes.data.chosen_classes import checked_names, choose_classes, in_words
from recipes.data.labels import LabelTable, read_labels
from recipes.data.split_names import NAMES_OF_PARTS

# What systems leave in a folder; hidden files are left out as well.
_LEFTOVERS = frozenset(("thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "lost+found"))
_IMAGE_FOLDERS = frozenset(("images", "image", "img", "imgs", "photos", "jpegimages"))
_MASK_FOLDERS = frozenset(
    ("masks", "mask", "labels", "annotations", "segmentations", "segmentation", "segmentationclass")
)
PARTS = ("train", "validation", "test")


@dataclass
class Listing:
    """The images of a folder.

    Attributes:
        root: Folder that `files` are seen from.
        files: Paths, an object array of bytes `(n,)`.
        labels: int64 `(n,)`, or float32 `(n, classes)` of 0 and 1 for classes that do not exclude one another.
        class_names: Of class 0, 1, ...
        parts: int8 `(n,)`, the number of each image's part in `PARTS`; None where the folder is not divided.
        masks: Paths of the segmentation masks `(n,)`, else None.
        notes: What the reader should know, a sentence each.
        skipped: What was left out because it has no file or no label, each with the reason.
    """

    root: str
    files: np.ndarray
    labels: np.ndarray
    class_names: list[str]
    parts: np.ndarray | None = None
    masks: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def chosen(self, rows: np.ndarray) -> "Listing":
        """The same of some rows."""
        pick = lambda array: None if array is None else array[rows]  # noqa: E731
        return Listing(
            self.root,
            self.files[rows],
            self.labels[rows],
            self.class_names,
            pick(self.parts),
            pick(self.masks),
            self.notes,
            self.skipped,
        )


def list_images(path: str, *, labels: Any = None, class_names: Any = None, skip: bool = False) -> Listing:
    """Find the images of a folder and their classes.

    Args:
        path: The folder.
        labels: None: the sub-folders say; else as in `data.load`.
        class_names: Order and choice of the classes, or None.
        skip: Leave out what has no label or no file, instead of refusing it.

    Returns:
        A `Listing`.

    Raises:
        ValueError: when the layout is none of those `data.load` knows.
    """
    if labels is not None:
        return _with_labels(path, labels, class_names, skip)
    entries = _visible(path)
    folders = [name for name in entries if os.path.isdir(os.path.join(path, name))]
    while len(folders) == 1 and not _images_in(path, entries):  # archives unpack into a folder in a folder
        inner = _visible(os.path.join(path, folders[0]))
        below = [name for name in inner if os.path.isdir(os.path.join(path, folders[0], name))]
        if not (_as_parts(below) or _as_segmentation(os.path.join(path, folders[0]), below)):
            break
        path, entries, folders = os.path.join(path, folders[0]), inner, below
    parts = _as_parts(folders)
    if parts and any(_folders(os.path.join(path, name)) for name in parts):
        return _divided(path, parts, class_names)
    pair = _as_segmentation(path, folders)
    if pair:
        return _segmentation(path, {0: ("", pair)}, class_names)
    if parts:
        raise ValueError(
            f"data.load expects class folders inside {in_words(parts)}. Received images without classes in {path!r}. "
            "Say where the classes stand, labels='labels.csv' or a function of the path, or put the images of each "
            "class into a sub-folder."
        )
    _check_classes(path, folders)
    files, numbers = _images_of_classes(path, folders, allow_empty=class_names is not None)
    return choose_classes(Listing(path, files, numbers, folders), class_names)


def _check_classes(path, folders):
    if len(folders) >= 2:
        return
    if len(folders) == 1:
        inner = os.path.join(path, folders[0])
        below = _folders(inner)
        if len(below) >= 2 and not _is_held_out(folders[0]):
            advice = f"If the classes are one level further down, load that level: data.load({inner!r})."
        else:
            advice = "Move the images of each class into a sub-folder of its own."
    else:
        advice = (
            "Move the images of each class into a sub-folder of its own, or say where the classes stand: "
            "labels='labels.csv', a function of the path, or a regular expression such as labels=r'(\\w+)_\\d+'."
        )
    raise ValueError(
        f"data.load expects a folder with one sub-folder of images per class, at least two. Received {path!r} "
        f"with {len(folders)} of them. {advice}"
    )


def _is_held_out(name):
    part = NAMES_OF_PARTS.get(name.lower())
    return part not in (None, "train")


def _visible(path):
    """Names in a folder that are no leftovers, sorted."""
    return sorted(
        entry.name
        for entry in os.scandir(path)
        if entry.name[0] != "." and entry.name.lower() not in _LEFTOVERS
    )


def _folders(path):
    return [name for name in _visible(path) if os.path.isdir(os.path.join(path, name))]


def _images_in(path, entries):
    return [name for name in entries if _is_file(path, name) and headers.is_image(os.path.join(path, name))]


def _is_file(path, name):
    return not os.path.isdir(os.path.join(path, name))


def _as_parts(folders):
    """`{folder: "train" | "validation" | "test"}` where a folder is divided in them and nothing else, else None."""
    found = {name: NAMES_OF_PARTS.get(name.lower()) for name in folders}
    known = [part for part in found.values() if part]
    if not known or len(known) < len(found) or len(set(known)) < len(known) or "train" not in known:
        return None
    return found


def walk(path: str) -> list[bytes]:
    """All images below a folder, at any depth, sorted; links are followed, but not in circles."""
    found = []

    def enter(folder, prefix):
        here = os.path.join(os.path.realpath(folder), "")
        for name in _visible(folder):
            full = os.path.join(folder, name)
            if os.path.isdir(full):
                # A link to a folder that holds it leads round in a circle, and into the other classes.
                if not (os.path.islink(full) and here.startswith(os.path.join(os.path.realpath(full), ""))):
                    enter(full, os.path.join(prefix, name))
            elif headers.is_image(full):
                # In a folder of 100,000 files each byte counts: no folders' names, and no objects but these.
                found.append(os.fsencode(os.path.join(prefix, name)))

    enter(path, "")
    return found


def _images_of_classes(path, folders, allow_empty=False):
    files, counts, empty = [], [], []
    for name in folders:
        inside = [os.fsencode(os.path.join(name, "")) + file for file in walk(os.path.join(path, name))]
        files += inside
        counts.append(len(inside))
        if not inside:
            empty.append(os.path.join(path, name))
    if empty and not allow_empty:
        raise ValueError(
            "data.load expects at least one image per class. Received empty folders:\n  "
            + "\n  ".join(empty[:20])
            + ("" if len(empty) <= 20 else f"\n  and {len(empty) - 20} more")
            + "\nFill them or delete them, or name the classes wanted: class_names=[...]."
        )
    return np.array(files, object), np.repeat(np.arange(len(counts), dtype=np.int64), counts)


def _divided(path, parts, class_names):
    """Folders train/, val/, test/: their classes are numbered together."""
    inside = {part: (folder, _folders(os.path.join(path, folder))) for folder, part in parts.items()}
    pairs = {
        PARTS.index(part): (folder, _as_segmentation(os.path.join(path, folder), folders))
        for part, (folder, folders) in inside.items()
    }
    if all(pair for _, pair in pairs.values()):
        return _segmentation(path, pairs, class_names)
    names = sorted({name for _, folders in inside.values() for name in folders})
    files, labels, numbers, notes, flat = [], [], [], [], []
    for part, (folder, folders) in inside.items():
        if not folders:
            flat.append(folder)
            continue
        found, local = _images_of_classes(os.path.join(path, folder), folders, allow_empty=True)
        global_number = np.array([names.index(name) for name in folders])
        labels.append(global_number[local])
        files += [os.fsencode(os.path.join(folder, "")) + file for file in found]
        numbers.append(np.full(len(found), PARTS.index(part), np.int8))
    if flat:
        notes.append(
            f"{in_words(flat)} in {path!r} has no class folders, so its images are left out: they have no labels."
        )
    listing = Listing(
        path,
        np.array(files, object),
        np.concatenate(labels),
        names,
        np.concatenate(numbers),
        notes=notes,
    )
    if len(names) < 2:
        _check_classes(os.path.join(path, inside["train"][0]), names)
    listing = choose_classes(listing, class_names)
    _note_missing(listing, {part: folder for folder, part in parts.items() if folder not in flat})
    return listing


def _note_missing(listing, folders):
    for part, folder in folders.items():
        rows = listing.parts == PARTS.index(part)
        there = np.bincount(listing.labels[rows], minlength=len(listing.class_names)) > 0
        missing = [name for name, found in zip(listing.class_names, there, strict=True) if not found]
        if part == "train" and not there.any():
            raise ValueError(
                f"data.load expects images in {os.path.join(listing.root, folder)!r}. Received none. "
                "Check that the folder was unpacked whole."
            )
        if missing:
            what = "so it is never learned" if part == "train" else "so nothing is known about it there"
            listing.notes.append(
                f"{in_words(missing)} ({len(missing)} of {len(there)} classes) has no image in {folder}/, {what}. "
                "All parts are numbered alike."
            )


# Labels that stand elsewhere.


def _with_labels(path, labels, class_names, skip):
    if path is None:
        table = read_labels(labels, None, [], skip)
        files = np.array(
            [os.fsencode(os.path.abspath(os.path.expanduser(name))) for name in table.names], object
        )
        missing = [name for name in table.names if not os.path.isfile(os.path.expanduser(name))]
        if missing:
            raise ValueError(
                f"data.load expects the paths of files in the data frame. Received {len(missing)} that are not there, "
                f"such as {missing[0]!r}. Say which folder they are seen from: data.load((dataframe, folder))."
            )
        return _from_table("", files, table, class_names)
    files = walk(path)
    if not files:
        raise ValueError(
            f"data.load expects images in {path!r}. Received none. Correct the path, as seen from {os.getcwd()}."
        )
    table = read_labels(labels, path, [os.fsdecode(file) for file in files], skip)
    return _from_table(path, np.array(files, object)[table.rows], table, class_names)


def _from_table(root, files, table: LabelTable, class_names):
    names = checked_names(class_names) if class_names is not None else None
    found = sorted({label for row in table.labels for label in row}, key=_number_order(table.labels))
    if len(found) < 2 and not (table.several and found):
        raise ValueError(
            f"data.load expects labels of at least two classes. Received {len(found)}: {in_words(found)}. "
            "Check which column, or which part of the name, says the class."
        )
    number = {name: place for place, name in enumerate(found)}
    if table.several:
        labels = np.zeros((len(files), len(found)), np.float32)
        for row, several in zip(labels, table.labels, strict=True):
            row[[number[label] for label in several]] = 1
    else:
        labels = np.array([number[row[0]] for row in table.labels], np.int64)
    parts = None
    if table.parts is not None:
        parts = np.array([PARTS.index(part) for part in table.parts], np.int8)
    listing = choose_classes(
        Listing(root, files, labels, found, parts, notes=table.notes, skipped=table.skipped), names
    )
    if parts is not None and not table.several:
        _note_missing(listing, {part: part for part in set(table.parts)})
    return listing


def _number_order(rows):
    whole = all(label.lstrip("-").isdigit() for row in rows for label in row)
    return (lambda label: (int(label), label)) if whole else (lambda label: label)


# Segmentation: images/ and masks/ of the same names.


def _as_segmentation(path, folders):
    """`(images, masks)`, the names of two folders that hold an image and its mask under one name, or None."""
    images = [name for name in folders if name.lower() in _IMAGE_FOLDERS]
    masks = [name for name in folders if name.lower() in _MASK_FOLDERS]
    if len(images) != 1 or len(masks) != 1 or len(folders) != 2:
        return None
    stems = [_stems(walk(os.path.join(path, name))) for name in (images[0], masks[0])]
    if not stems[0].keys() & stems[1].keys():
        if masks[0].lower() not in ("masks", "mask"):
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


def _segmentation(path, pairs, class_names):
    files, masks, parts, lonely = [], [], [], []
    for part, (folder, (images, answers)) in pairs.items():
        base = os.path.join(path, folder)
        of_images, of_masks = (_stems(walk(os.path.join(base, name))) for name in (images, answers))
        lonely += [os.path.join(base, images, stem) for stem in of_images.keys() - of_masks.keys()]
        lonely += [os.path.join(base, answers, stem) for stem in of_masks.keys() - of_images.keys()]
        for stem in sorted(of_images.keys() & of_masks.keys()):
            files.append(os.fsencode(os.path.join(folder, images, "")) + of_images[stem])
            masks.append(os.fsencode(os.path.join(folder, answers, "")) + of_masks[stem])
            parts.append(part)
    if lonely:
        raise ValueError(
            "data.load expects a mask of the same name for every image, and an image for every mask. Received without "
            "its partner:\n  "
            + "\n  ".join(sorted(lonely)[:20])
            + "\nAdd what is missing, or move these away."
        )
    names = checked_names(class_names) if class_names is not None else []
    return Listing(
        path,
        np.array(files, object),
        np.zeros(len(files), np.int64),
        names,
        np.array(parts, np.int8) if len(pairs) > 1 else None,
        np.array(masks, object),
    )
