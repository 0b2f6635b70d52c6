"""The images of a folder, as every layout lists them, and the contents of a folder without system files."""

import os
from dataclasses import dataclass, field

import numpy as np

from recipes.data import headers

# What systems leave in a folder; hidden files are left out as well.
_LEFTOVERS = frozenset(("thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "lost+found"))
PARTS = ("train", "validation", "test")


@dataclass
class Listing:
    """The images of a folder.

    Attributes:
        root: Folder that the paths in `files` are relative to.
        files: Paths below `root`, an object array of bytes `(n,)`.
        labels: int64 `(n,)`, or float32 `(n, classes)` of 0 and 1 for classes that do not exclude one another.
        class_names: Names of class 0, 1, ...
        parts: int8 `(n,)`, the number of each image's part in `PARTS`; None where the folder is not divided.
        masks: Paths of the segmentation masks `(n,)`, else None.
        notes: What the user should know, in sentences.
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
        """The listing of some rows."""
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


def visible(path: str) -> list[str]:
    """Names in a folder, sorted, without hidden files and those that systems leave behind."""
    return sorted(
        entry.name
        for entry in os.scandir(path)
        if entry.name[0] != "." and entry.name.lower() not in _LEFTOVERS
    )


def folders_in(path: str) -> list[str]:
    """Names of the folders in a folder, sorted, without hidden ones and those that systems leave behind."""
    return [name for name in visible(path) if os.path.isdir(os.path.join(path, name))]


def walk(path: str) -> list[bytes]:
    """All images below a folder, at any depth, sorted; links are followed, but not in circles."""
    found = []

    def enter(folder, prefix):
        here = os.path.join(os.path.realpath(folder), "")
        for name in visible(folder):
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
