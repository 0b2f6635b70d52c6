"""Which images a folder holds, and their classes: by sub-folders, official parts, labels from elsewhere."""

import os
from typing import Any

import numpy as np

from recipes.data import headers
from recipes.data.chosen_classes import checked_names, choose_classes, in_words
from recipes.data.labels import LabelTable, read_labels
from recipes.data.listing import PARTS, Listing, folders_in, visible, walk
from recipes.data.segmentation_layout import as_segmentation, segmentation
from recipes.data.split_names import NAMES_OF_PARTS, is_unlabeled, part_of


def list_images(path: str, *, labels: Any = None, class_names: Any = None, skip: bool = False) -> Listing:
    """Find the images of a folder and their classes.

    Args:
        path: The folder.
        labels: None takes the names of the sub-folders; else as in `data.load`.
        class_names: Order and choice of the classes, or None.
        skip: Leave out what has no label or no file, instead of refusing it.

    Returns:
        A `Listing`.

    Raises:
        ValueError: when the layout is not one of those that `data.load` knows.
    """
    if labels is not None:
        return _with_labels(path, labels, class_names, skip)
    folders = folders_in(path)
    deepest, below = _deepest(path, folders)
    if deepest != path and (_as_parts(below)[0] or as_segmentation(deepest, below)):
        path, folders = deepest, below
    parts, others = _as_parts(folders)
    if parts and any(_inside(path, name, part)[1] for name, part in parts.items()):
        return _divided(path, parts, others, class_names)
    pair = as_segmentation(path, folders)
    if pair:
        return segmentation(path, {0: ("", pair)}, class_names)
    if parts:
        raise ValueError(
            f"data.load expects class folders inside {in_words(parts)}. Received images without classes in {path!r}. "
            f"Say where the classes are given, labels={_table_in(path)!r} or a function of the path, or put the images "
            "of each class into a sub-folder."
        )
    if class_names is None or not set(folders) & set(
        checked_names(class_names)
    ):  # else a part of the classes
        _check_classes(path, folders)
    files, numbers = _images_of_classes(path, folders, allow_empty=class_names is not None)
    beside = [
        name for name in visible(path) if headers.ending(name) in headers.ENDINGS and name not in folders
    ]
    notes = [f"{in_words(beside)} in {path!r} is left out: only images inside the folders of classes count."]
    return choose_classes(Listing(path, files, numbers, folders, notes=notes if beside else []), class_names)


def _check_classes(path, folders):
    if len(folders) >= 2:
        return
    if len(folders) == 1:
        inner, below = _deepest(path, folders)
        if len(below) >= 2 and not any(map(_is_held_out, os.path.relpath(inner, path).split(os.sep))):
            advice = f"If the classes are one level further down, load that level: data.load({inner!r})."
        else:
            advice = "Move the images of each class into a sub-folder of its own."
    else:
        advice = (
            "Move the images of each class into a sub-folder of its own, or say where the classes are given: "
            f"labels={_table_in(path)!r}, a function of the path, or a regular expression "
            "such as labels=r'(\\w+)_\\d+'."
        )
    raise ValueError(
        f"data.load expects a folder with one sub-folder of images per class, at least two. Received {path!r} "
        f"with {len(folders)} of them. {advice}"
    )


def _table_in(path):
    """The name of a table in a folder, or the usual name of one."""
    return next((name for name in visible(path) if headers.ending(name) in (".csv", ".tsv")), "labels.csv")


def _is_held_out(name):
    return part_of(name) not in (None, "train")


def _images_in(path):
    files = (os.path.join(path, name) for name in visible(path))
    return any(not os.path.isdir(file) and headers.is_image(file) for file in files)


def _deepest(path, folders):
    """`(folder, folders in it)` at the end of a chain of single folders: archives unpack into a folder in a folder."""
    while len(folders) == 1 and not _images_in(path):
        path = os.path.join(path, folders[0])
        folders = folders_in(path)
    return path, folders


def _as_parts(folders):
    """`({folder: "train" | "validation" | "test"}, folders beside them)` where a folder is divided, else `({}, [])`."""
    exact = {name: NAMES_OF_PARTS[name.lower()] for name in folders if name.lower() in NAMES_OF_PARTS}
    if len(exact) >= 2 and len(exact) == len(folders) and "train" not in exact.values():
        raise ValueError(
            f"data.load expects a folder of training images beside {in_words(folders)}. Received these alone. "
            "Check that the data set was unpacked whole, and the name of the folder of training images."
        )
    if _settles(exact) and (len(exact) >= 2 or len(exact) == len(folders)):
        return exact, [name for name in folders if name not in exact]
    found = {name: part_of(name) for name in folders}
    others = [name for name, part in found.items() if part is None]
    found = {name: part for name, part in found.items() if part}
    if len(found) >= 2 and _settles(found) and all(map(is_unlabeled, others)):
        return found, others
    return {}, []


def _settles(parts):
    return "train" in parts.values() and len(set(parts.values())) == len(parts)


def _inside(path, folder, part):
    """`(folder of a part, class folders in it)`; for `seg_train/seg_train/` the inner one."""
    below = folders_in(os.path.join(path, folder))
    while len(below) == 1 and part_of(below[0]) == part and not _images_in(os.path.join(path, folder)):
        folder = os.path.join(folder, below[0])
        below = folders_in(os.path.join(path, folder))
    return folder, below


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
            + ".\nFill them or delete them, or name the classes wanted: class_names=[...]."
        )
    return np.array(files, object), np.repeat(np.arange(len(counts), dtype=np.int64), counts)


def _divided(path, parts, others, class_names):
    """Folders train/, val/, test/: their classes are numbered together."""
    inside = {part: _inside(path, folder, part) for folder, part in parts.items()}
    pairs = {
        PARTS.index(part): (folder, as_segmentation(os.path.join(path, folder), folders))
        for part, (folder, folders) in inside.items()
    }
    if all(pair for _, pair in pairs.values()):
        return segmentation(path, pairs, class_names)
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
    if others:
        notes.append(
            f"{in_words(others)} in {path!r} is left out: it is beside {in_words(parts)}, and has no name of a part."
        )
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
    _note_missing(listing, {part: folder for part, (folder, _) in inside.items() if folder not in flat})
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
                "Classes have the same numbers in all parts."
            )


# Labels from elsewhere.


def _with_labels(path, labels, class_names, skip):
    if path is None:
        table = read_labels(labels, None, [], skip)
        files = np.array(
            [os.fsencode(os.path.abspath(os.path.expanduser(name))) for name in table.names], object
        )
        missing = [name for name in table.names if not os.path.isfile(os.path.expanduser(name))]
        if missing:
            raise ValueError(
                f"data.load expects the paths of files in the data frame. Received {len(missing)} that do not exist, "
                f"such as {missing[0]!r}. Give the folder they are relative to: data.load((dataframe, folder))."
            )
        return _from_table("", files, table, class_names)
    files = walk(path)
    if not files:
        raise ValueError(
            f"data.load expects images in {path!r}. Received none. Correct the path; relative paths begin at "
            f"{os.getcwd()}."
        )
    table = read_labels(labels, path, [os.fsdecode(file) for file in files], skip)
    return _from_table(path, np.array(files, object)[table.rows], table, class_names)


def _from_table(root, files, table: LabelTable, class_names):
    names = checked_names(class_names) if class_names is not None else None
    found = table.order or sorted(
        {label for row in table.labels for label in row}, key=_number_order(table.labels)
    )
    if len(found) < 2 and not (table.several and found):
        raise ValueError(
            f"data.load expects labels of at least two classes. Received {len(found)}: {in_words(found)}. "
            "Check which column, or which part of the name, gives the class."
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
